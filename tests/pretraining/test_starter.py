"""Runs that start from the weights of the package, and those that do not because they cannot."""

from pathlib import Path
from typing import Any

import pytest
import torch

import sltdino
from sltdino import load_settings
from sltdino.core import files, json_files, starter
from sltdino.core.run_files import PARAMS, load_checkpoint, read_params
from sltdino.core.starter import starter_file
from sltdino.errors import SettingsError
from sltdino.evaluation.evaluate import EvaluateOptions
from sltdino.models.loading import import_named
from sltdino.pretraining import dry_run, pretrain, resume
from sltdino.pretraining.preview_text import render

AUTO = dict.fromkeys(
    ("image_size", "patch_size", "vit_embed_dim", "vit_depth", "vit_num_heads", "local_crop_size"), "auto"
)
FROM_STARTER = {**AUTO, "image_size": 32, "init_from": "starter", "num_local_crops": 0, "epochs": 1}
TEXT = "starts from the starter weights of sltdino "


def test_a_run_starts_from_it_says_so_and_records_its_digest(train: Any, recorder: Any) -> None:
    reporter = recorder()
    still = {"learning_rate": 1e-12, "min_learning_rate": 0.0, "weight_decay": 0.0, "weight_decay_final": 0.0}
    run = train(reporter=reporter, **FROM_STARTER, **still).run_dir
    record = read_params(run)["initial_weights"]
    assert (record["path"], record["sha256"]) == (str(starter_file()), files.sha256(starter_file()))
    [said] = [line for line in reporter.said if TEXT in line]
    assert said.startswith(TEXT)
    assert said.endswith("(drawn hands and faces):")
    found = load_checkpoint(run).state["teacher"]["backbone.blocks.0.mlp.fc1.weight"]
    start = import_named("starter").network.state_dict()["blocks.0.mlp.fc1.weight"]
    torch.testing.assert_close(found, start, rtol=0, atol=1e-6)


def test_a_wrong_size_beside_it_is_an_error_before_anything_is_written(train: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--vit-depth: 9, and the weights in the starter have"):
        train("run", **{**FROM_STARTER, "vit_depth": 9})
    assert not (tmp_path / "run").exists()


def test_a_preset_without_it_starts_at_random_and_says_why(train: Any, recorder: Any) -> None:
    reporter = recorder()
    run = train(preset="laptop", reporter=reporter, epochs=1).run_dir
    [said] = [line for line in reporter.said if line.startswith("starts at random")]
    assert said.startswith("starts at random, not from the starter weights of preset laptop: --vit-embed-dim: 16, and")
    assert "initial_weights" not in read_params(run)
    assert read_params(run)["settings"]["init_from"] is None


def test_a_resumed_run_keeps_what_it_has_and_says_nothing_of_a_start(train: Any, recorder: Any) -> None:
    run = train(**FROM_STARTER).run_dir
    reporter = recorder()
    resume(run, flags={"epochs": 2}, reporter=reporter)
    assert not any("starter" in line for line in reporter.said)
    assert read_params(run)["settings"]["init_from"] == "starter"
    assert read_params(run)["initial_weights"]["sha256"] == files.sha256(starter_file())


def test_a_run_of_the_preset_itself_is_resumed_as_any_other(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its settings were settled, so they hold more than anybody asked for; the starter may even be gone."""
    flags = {"train_dir": str(pictures), "output_dir": str(tmp_path / "run"), "preset": "laptop", "device": "cpu"}
    loaded = load_settings("hands", flags={**flags, "batch_size": 8, "num_workers": 0, "epochs": 1})
    run = pretrain(loaded.settings, origins=loaded.origins).run_dir
    assert read_params(run)["settings"]["init_from"] == "starter"
    monkeypatch.setattr(starter, "package_files", lambda _: tmp_path)
    assert resume(run, flags={"epochs": 2}).steps == 2 * 3
    assert read_params(run)["settings"]["init_from"] == "starter"


def test_evaluation_compares_with_it(train: Any, draw: Any, tmp_path: Path) -> None:
    for label in ("a", "b"):
        draw(tmp_path / "val" / label, 4, seed=2 * ord(label))
        draw(tmp_path / "train" / label, 8, seed=2 * ord(label) + 1)
    run = train(images=tmp_path / "train", **FROM_STARTER).run_dir
    recorded = json_files.read(run / PARAMS)
    recorded["initial_weights"]["path"] = "/elsewhere/sltdino/starter/starter.pt"  # where it was trained
    json_files.write(run / PARAMS, recorded)
    options = EvaluateOptions(num_workers=0, device="cpu")
    record = sltdino.evaluate(run, val_dirs=[tmp_path / "val"], options=options).record
    assert record["untrained"] == "the weights the run started from, starter.pt"


@pytest.mark.parametrize("flags", [{}, {"init_from": None, "preset": "laptop", "vit_embed_dim": 96}])
def test_a_dry_run_shows_what_it_starts_from(
    flags: dict[str, Any], pictures: Path, tmp_path: Path, tiny: dict[str, Any]
) -> None:
    values = {**tiny, **FROM_STARTER, **flags, "train_dir": str(pictures), "output_dir": str(tmp_path / "run")}
    values = {key: value for key, value in values.items() if value not in (None, "auto")}
    settings, origins = load_settings("hands", flags=values)
    page = " ".join(render(dry_run(settings, origins=origins, seconds=0.1)).split())
    wanted = (
        TEXT if not flags else "starts at random, not from the starter weights of preset laptop: --vit-embed-dim: 96"
    )
    assert wanted in page


def test_pretrain_in_python_takes_the_word_too(pictures: Path, tmp_path: Path, tiny: dict[str, Any]) -> None:
    values = {**tiny, **FROM_STARTER, "train_dir": str(pictures), "output_dir": str(tmp_path / "run")}
    assert pretrain(load_settings("hands", flags=values).settings).steps == 3
