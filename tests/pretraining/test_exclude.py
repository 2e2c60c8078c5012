"""`--exclude`: what a run leaves out, what it records, and what a resumed run may change."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sltdino import load_settings, resume
from sltdino.core.files import sha256
from sltdino.core.run_files import load_checkpoint, read_params, read_settings, stored_settings
from sltdino.errors import ChangeRefusedError, DataError
from sltdino.pretraining import dry_run
from sltdino.pretraining.evaluator import Evaluator
from sltdino.pretraining.starting_network import starting_network
from sltdino.report.pictures.crops import crops
from sltdino.report.run_images import run_images


@pytest.fixture
def listed(tmp_path: Path, pictures: Path) -> Path:
    path = tmp_path / "lists" / "exclude.txt"
    path.parent.mkdir()
    path.write_text(f"# folder: {pictures}\n3.png\tblack\n5.png\tblack\ngone.png\tblack\n")
    return path


def test_a_run_leaves_the_images_out_and_records_which_list_said_so(
    train: Callable[..., Any], recorder: Any, listed: Path
) -> None:
    reporter = recorder()
    run = train("run", exclude=str(listed), reporter=reporter).run_dir
    params = json.loads((run / "params.json").read_text())
    assert params["images"]["count"] == 22
    assert params["images"]["excluded"] == {"list": str(listed), "sha256": sha256(listed), "count": 2, "unmatched": 1}
    assert params["dataset"]["exclude"] == str(listed)
    assert any(said.startswith("left out: 2 images") and "'gone.png'" in said for said in reporter.said)


def test_a_resumed_run_takes_the_same_list_from_another_place(
    train: Callable[..., Any], listed: Path, tmp_path: Path
) -> None:
    run = train("run", exclude=str(listed)).run_dir
    moved = shutil.move(listed, tmp_path / "moved.txt")
    summary = resume(run, flags={"exclude": str(moved), "epochs": 3})
    assert summary.epochs == 3


def test_a_resumed_run_refuses_a_list_of_other_images(train: Callable[..., Any], listed: Path) -> None:
    run = train("run", exclude=str(listed)).run_dir
    with listed.open("a") as file:
        file.write("7.png\n")
    with pytest.raises(ChangeRefusedError, match=r"22 images, .* 21 images"):
        resume(run, flags={"epochs": 3})
    assert resume(run, flags={"epochs": 3}, allow_change=["train_dir"]).epochs == 3


def test_a_file_says_where_the_list_is_from_its_own_folder(tmp_path: Path, listed: Path) -> None:
    config = listed.parent / "hands.toml"
    for text in ('train_dir = "x"\nexclude = "exclude.txt"\n', 'train_dir = "x"\n[dataset]\nexclude = "exclude.txt"\n'):
        config.write_text(text)
        assert load_settings("hands", files=[config]).settings.dataset.exclude == listed


def test_a_dry_run_says_what_is_left_out_and_refuses_a_list_for_other_folders(
    tiny: dict[str, Any], pictures: Path, listed: Path, tmp_path: Path
) -> None:
    flags = {**tiny, "train_dir": str(pictures), "output_dir": str(tmp_path / "run"), "exclude": str(listed)}
    result = dry_run(load_settings("hands", flags=flags).settings, seconds=0.1)
    assert result.images is not None
    assert result.images.number == 22
    assert result.images.left_out.startswith("left out: 2 images")
    listed.write_text("nobody.png\n")
    result = dry_run(load_settings("hands", flags=flags).settings, seconds=0.1)
    assert [type(error) for error in result.errors] == [DataError]


def test_the_network_to_compare_with_has_the_very_weights_that_the_first_step_saw(
    train: Callable[..., Any], listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    real = Evaluator.start

    def spied(self: Evaluator) -> None:
        model = self.trainer.model
        seen.extend(copy.deepcopy(network.backbone.state_dict()) for network in (model.teacher, model.student))
        real(self)

    monkeypatch.setattr(Evaluator, "start", spied)
    run = train("run", exclude=str(listed), epochs=1, vit_drop_path=0.9)  # which no forward pass may show before a step
    checkpoint = load_checkpoint(run.run_dir)
    fingerprint = checkpoint.state["images"]["fingerprint"]
    start = starting_network(stored_settings(checkpoint), fingerprint=fingerprint, initial_weights=None)
    assert start.text == "the network the run started from (seed 42, calibrated on its images)"
    state = start.network.state_dict()
    assert len(seen) == 2
    for weights in seen:
        assert weights.keys() == state.keys()
        assert [key for key, value in state.items() if not torch.equal(value, weights[key])] == []


def test_the_report_draws_the_crops_of_the_images_that_are_left(train: Callable[..., Any], listed: Path) -> None:
    run = train("run", exclude=str(listed), epochs=1).run_dir
    section = "".join(crops(run, read_settings(run).settings, run_images(run, read_params(run))))
    assert "hold other images than when the run began" not in section
