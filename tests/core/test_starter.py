"""The starter weights of the package: what is said about them holds, and what does not fit them."""

import hashlib
import json
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from sltdino.core import starter
from sltdino.core.settings_files import LoadedSettings, load_settings
from sltdino.core.settings_text import settings_json, settings_toml
from sltdino.core.starter import read_starter, starter_file, why_at_random
from sltdino.errors import MissingInputError, SettingsError
from sltdino.models.loading import import_named
from sltdino.pretraining.initial import read_initial

ROOT = Path(__file__).parents[2]


def load(**flags: Any) -> LoadedSettings:
    return load_settings("hands", flags={"train_dir": "crops", **flags})


def test_the_file_is_small_and_the_json_beside_it_is_about_it() -> None:
    content, said = starter_file().read_bytes(), json.loads(starter_file().with_suffix(".json").read_text())
    assert len(content) == said["num_bytes"] < 8_000_000
    assert hashlib.sha256(content).hexdigest() == said["sha256"]
    assert {"command", "seed", "drawings", "steps", "loss", "sltdino", "git_revision", "made_with"} <= said.keys()


def test_the_weights_are_stored_in_float16_and_read_in_float32_as_the_json_says() -> None:
    stored = torch.load(starter_file(), weights_only=True)
    assert {value.dtype for value in stored["model"].values()} == {torch.float16}
    imported = import_named("starter")
    assert {value.dtype for value in imported.network.state_dict().values()} == {torch.float32}
    assert torch.equal(imported.network.norm.weight, stored["model"]["norm.weight"].float())
    initial = read_initial(load(init_from="starter").settings)
    assert initial is not None
    assert initial.network == read_starter().network


def test_the_wheel_and_the_sdist_hold_the_file() -> None:
    """Hatch takes every file of a package and of the sdist's folders, unless git ignores it."""
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert "sltdino" in targets["wheel"]["packages"]
    assert "sltdino" in targets["sdist"]["include"]
    assert not {"exclude", "only-include"} & (targets["wheel"].keys() | targets["sdist"].keys())
    for path in (starter_file(), starter_file().with_suffix(".json")):
        assert path.is_relative_to(ROOT / "sltdino")
        if (ROOT / ".git").exists():
            assert subprocess.run(["git", "-C", str(ROOT), "check-ignore", "-q", str(path)]).returncode == 1


@pytest.mark.parametrize("broken", ["neither", "no json", "other json"])
def test_an_installation_without_it_says_so(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "starter").mkdir()
    if broken != "neither":
        shutil.copy(starter_file(), tmp_path / "starter")
    if broken == "other json":
        (tmp_path / "starter/starter.json").write_text('{"backbone": {}}')
    monkeypatch.setattr(starter, "package_files", lambda _: tmp_path)
    with pytest.raises(MissingInputError, match="install sltdino again"):
        read_starter()
    with pytest.raises(MissingInputError, match="install sltdino again, or pass --init-from none to start at random"):
        load(preset="laptop")
    assert load(preset="laptop", init_from="none").settings.init_from is None


def test_a_preset_starts_from_it_unless_told_otherwise() -> None:
    loaded = load(preset="laptop")
    assert (loaded.settings.init_from, loaded.origins["init_from"]) == ("starter", "preset laptop")
    told = load(preset="laptop", init_from="none")
    assert (told.settings.init_from, told.origins["init_from"]) == (None, "--init-from")
    assert why_at_random(told.origins) == why_at_random(loaded.origins) == ""


@pytest.mark.parametrize(
    ("flags", "why"),
    [({"vit_depth": 9}, "--vit-depth: 9, and the weights in the starter have "),
     ({"vit_embed_dim": 96}, "--vit-embed-dim: 96, and the weights in the starter have "),
     ({"backbone": "vit-base", "vit_embed_dim": "auto", "vit_depth": "auto"}, "--backbone: vit-base has "),
     ({"vit_weight_init": "layout"}, "--vit-weight-init: layout would replace the weights in the starter"),
     ({"vit_weight_init": "xavier"}, "--vit-weight-init: xavier is another start"),
     ({"vit_positions": "random"}, "--vit-positions: random, and the starter has learned its own"),
     ({"image_size": 96}, "--image-size: 96, and the starter has seen 64 pixels")],
)  # fmt: skip
def test_a_presets_starter_gives_way_to_settings_that_do_not_fit_it(flags: dict[str, Any], why: str) -> None:
    loaded = load(preset="laptop", **flags)
    assert loaded.settings.init_from is None
    assert why_at_random(loaded.origins).startswith(why)


def test_a_starter_that_was_asked_for_does_not_give_way() -> None:
    loaded = load(preset="laptop", init_from="starter", vit_depth=9)
    assert (loaded.settings.init_from, loaded.origins["init_from"]) == ("starter", "--init-from")


def test_nor_does_one_that_a_file_asks_for_whatever_the_file_is_called(tmp_path: Path) -> None:
    file = tmp_path / "preset laptop"
    file.with_suffix(".toml").write_text(
        'train_dir = "a"\ninit_from = "starter"\npreset = "laptop"\n[vit]\ndepth = 9\n'
    )
    assert load_settings("hands", files=[file.with_suffix(".toml")]).settings.init_from == "starter"


def test_mistakes_are_said_before_a_start_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter, "package_files", lambda _: tmp_path)
    with pytest.raises(SettingsError, match="nonsense"):
        load_settings("hands", flags={"preset": "laptop"}, sets=["nonsense=3"])


@pytest.mark.parametrize("flags", [{}, {"init_from": "none"}, {"vit_depth": 9}])
def test_printed_settings_start_as_these_did(flags: dict[str, Any], tmp_path: Path) -> None:
    loaded = load(preset="laptop", **flags)
    for name, text in (("run.toml", settings_toml(loaded)), ("run.json", settings_json(loaded))):
        (tmp_path / name).write_text(text)
        assert load_settings("hands", files=[tmp_path / name]).settings.init_from == loaded.settings.init_from


def test_the_laptops_network_is_that_of_the_starter() -> None:
    from sltdino.core.auto_network import contradictions

    assert list(contradictions(load(preset="laptop").settings, read_starter().network)) == []


def test_a_file_called_starter_is_named_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "starter").write_bytes(b"no weights")
    assert import_named("starter").source == starter_file()
    with pytest.raises(Exception, match="no weights that can be read"):
        import_named("./starter")


def test_a_backbone_and_a_source_of_weights_can_be_called_starter(tmp_path: Path) -> None:
    from sltdino.exporting.backbone import load_trained_backbone
    from sltdino.models import load_backbone

    loaded = load_backbone("starter")
    stored = load_trained_backbone(Path("starter"))
    assert stored.metadata["checkpoint"] == "starter.pt"
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(images), stored.network(images))


def test_a_size_that_is_not_the_starters_is_an_error_that_names_it() -> None:
    from sltdino.core.auto import settle

    given = load(init_from="starter", vit_depth=9).settings
    with pytest.raises(SettingsError, match=r"--vit-depth: 9, and the weights in the starter have \d; leave it out"):
        settle(given, num_images=100, initial=read_starter().network)
