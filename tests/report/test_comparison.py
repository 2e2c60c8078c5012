"""What `sltdino inspect A B` finds."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sltdino import export
from sltdino.cli import app
from sltdino.errors import MissingInputError
from sltdino.report.comparison import compare, compare_weights, render


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_a_file_equals_its_copy_and_itself_in_another_layout(foreign: Any, tmp_path: Path) -> None:
    weights = foreign.weights("dino")
    one = save(tmp_path / "one.pth", weights)
    content = compare(one, save(tmp_path / "two.pth", {"teacher": {f"backbone.{k}": v for k, v in weights.items()}}))
    assert content["equal"] is True
    assert not any(content["weights"]["max_relative_difference"].values())
    assert "equal: the same weights, bit for bit" in render(content)


def test_a_difference_is_found_in_its_group_and_measured(foreign: Any, tmp_path: Path) -> None:
    weights = foreign.weights("dino")
    changed = {key: value.clone() for key, value in weights.items()}
    changed["blocks.1.mlp.fc1.weight"][3, 4] += 0.25
    content = compare(save(tmp_path / "a.pth", weights), save(tmp_path / "b.pth", changed))
    assert (content["equal"], content["same_backbone"]) == (False, False)
    groups = content["weights"]["max_relative_difference"]
    a, b = (side["blocks.1.mlp.fc1.weight"].numpy() for side in (weights, changed))
    assert groups.pop("blocks.1") == pytest.approx(0.25 / max(np.abs(a).max(), np.abs(b).max()), rel=1e-5)
    assert set(groups.values()) == {0.0}
    assert groups.keys() == {"cls_token", "pos_embed", "patch_embed", "blocks.0", "norm"}


def test_names_in_one_only_and_other_shapes_are_listed() -> None:
    a = {"norm.bias": torch.zeros(3), "cls_token": torch.ones(1), "head.x": torch.ones(1)}
    b = {"norm.bias": torch.zeros(4), "cls_token": torch.ones(1), "reg_token": torch.ones(1)}
    content = compare_weights(a, b)
    assert content == {
        "equal": False,
        "same_backbone": False,
        "max_relative_difference": {"cls_token": 0.0},
        "shapes": {"norm.bias": [[3], [4]]},
        "only_a": ["head.x"],
        "only_b": ["reg_token"],
    }
    assert compare_weights({}, {})["equal"] is False


def test_other_architectures_are_shown_with_both_values(foreign: Any, tmp_path: Path) -> None:
    a = save(tmp_path / "a.pth", foreign.weights("dino"))
    b = save(tmp_path / "b.pth", foreign.weights("dinov2", depth=3, registers=4))
    content = compare(a, b)
    assert content["network"]["depth"] == [2, 3]
    assert content["network"]["registers"] == [0, 4]
    assert content["network"]["layer_scale"] == [False, True]
    assert "embed_dim" not in content["network"]
    page = render(content)
    assert [line.split() for line in page.split("\n") if line.startswith("  depth")] == [["depth", "2", "3"]]


def test_the_same_weights_under_another_normalisation_are_not_equal(foreign: Any, tmp_path: Path) -> None:
    weights = foreign.weights("dino")
    a, b = save(tmp_path / "a.pth", weights), save(tmp_path / "b.pth", {**weights, **foreign.weights("timm")})
    content = compare(a, b)
    assert content["network"]["mean"] == [[0.485, 0.456, 0.406], [0.5, 0.5, 0.5]]
    assert content["weights"]["equal"] is True
    assert content["equal"] is False


def test_a_run_and_its_export_hold_the_same_backbone(finished: Path, tmp_path: Path) -> None:
    export(finished, format="slt", out=tmp_path / "slt.pt")
    content = compare(finished, tmp_path / "slt.pt")
    assert (content["equal"], content["same_backbone"]) == (False, True)
    assert all(key.startswith("head.") for key in content["weights"]["only_a"])
    assert "the same backbone, bit for bit" in render(content)


def test_two_runs_are_compared_by_settings_and_results(finished_once: Path, train: Any) -> None:
    other = train("other", epochs=1, vit_drop_path=0.0).run_dir
    content = compare(finished_once, other)
    assert content["settings"]["epochs"] == [2, 1]
    assert content["settings"]["vit.drop_path"] == [0.1, 0.0]
    assert "seed" not in content["settings"]
    assert content["results"]["step"] == [6, 3]
    assert content["results"]["state"] == ["done", "done"]
    assert 0 < content["weights"]["max_relative_difference"]["blocks.0"] < 2
    page = render(content)
    assert any(line.split() == ["epochs", "2", "1"] for line in page.split("\n"))


def test_a_copied_run_is_equal(finished: Path, finished_once: Path) -> None:
    content = compare(finished, finished_once)
    assert (content["equal"], content["settings"]) == (True, {})


def test_a_run_before_its_first_checkpoint_is_compared_by_its_settings(finished: Path, finished_once: Path) -> None:
    for path in finished.glob("*.pt"):
        path.unlink()
    content = compare(finished, finished_once)
    assert (content["equal"], content["settings"]) == (False, {})
    assert content["weights"]["max_relative_difference"] == {}


def test_a_page_has_80_columns_and_cannot_drive_a_terminal(foreign: Any, tmp_path: Path, capsys: Any) -> None:
    evil = "\x1b[2J" + "long " * 50
    weights = {"model": foreign.weights("slt"), "metadata": {evil: evil, "x": 1}}
    a = save(tmp_path / "a.pt", weights)
    b = save(tmp_path / "b.pt", {**weights, "metadata": {evil: "other", "x": 2}})
    assert app.main(["inspect", str(a), str(b)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert max(len(line) for line in out.split("\n")[2:]) <= 80  # the first two lines are the paths
    assert "\\x1b[2J" in out


def test_json_has_the_same_facts(finished_once: Path, tmp_path: Path, capsys: Any) -> None:
    shutil.copy(finished_once / "checkpoint_last.pt", tmp_path / "c.pt")
    assert app.main(["inspect", str(finished_once), str(tmp_path / "c.pt"), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content == json.loads(json.dumps(compare(finished_once, tmp_path / "c.pt")))
    assert content["equal"] is True


def test_what_is_not_there_is_named(finished_once: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="nowhere"):
        compare(finished_once, tmp_path / "nowhere")
