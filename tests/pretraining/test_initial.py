"""Runs that start from weights: what they begin with, what they record, and that resuming needs no file."""

import os
import pickle
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from sltdino import load_settings
from sltdino.core.changes import compare
from sltdino.core.run_files import load_checkpoint, read_params, read_status
from sltdino.core.settings_text import settings_toml
from sltdino.errors import ChangeRefusedError, CheckpointError, MissingInputError, SettingsError, StoppedError
from sltdino.models.import_weights import import_backbone
from sltdino.pretraining import resume
from sltdino.report.summary import summarize
from sltdino.report.text.plots import ASCII
from sltdino.report.text.run_page import render
from tools.compare_runs import first_difference

FOLLOW = dict.fromkeys(("patch_size", "vit_embed_dim", "vit_depth", "vit_num_heads"), "auto")
STILL = {"learning_rate": 1e-12, "min_learning_rate": 0.0, "weight_decay": 0.0, "weight_decay_final": 0.0}


@pytest.fixture
def weights(tmp_path: Path, finished_once: Path) -> Path:
    """A file of DINO's layout, with a network of its own size."""
    network = import_backbone(finished_once).network
    state = {key: value + 0.1 for key, value in network.state_dict().items() if key != "mask_token"}
    path = tmp_path / "dino_tiny.pth"
    torch.save({"teacher": {f"backbone.{key}": value for key, value in state.items()}, "epoch": 100}, path)
    (tmp_path / "config.json").write_text('{"num_attention_heads": 2}')
    return path


@pytest.fixture
def labelled(draw: Any, tmp_path: Path) -> str:
    for label in ("a", "b"):
        draw(tmp_path / "val" / label, 4, seed=ord(label))
    return str(tmp_path / "val")


def teacher(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_checkpoint(run).state["teacher"]
    return state


def test_student_and_teacher_start_from_the_file_and_nothing_is_laid_over_it(train: Any, weights: Path) -> None:
    run = train(init_from=str(weights), epochs=1, **FOLLOW, **STILL).run_dir
    start = import_backbone(weights).network.state_dict()
    for role in ("student", "teacher"):
        found = load_checkpoint(run).state[role]
        for key in start.keys() - {"mask_token"}:
            torch.testing.assert_close(found[f"backbone.{key}"], start[key], rtol=0, atol=1e-6)
    assert read_params(run)["settings"]["vit"]["weight_init"] == "trunc_normal"


def test_what_was_adapted_is_said_and_recorded_in_both_files(train: Any, recorder: Any, weights: Path) -> None:
    reporter = recorder()
    run = train(init_from=str(weights), image_size=32, reporter=reporter, **FOLLOW).run_dir
    record = read_params(run)["initial_weights"]
    line = "positions: resampled bicubically from 2 × 2 to 4 × 4"
    assert (record["path"], record["layout"], len(record["sha256"])) == (str(weights), "dino", 64)
    assert line in record["adapted"]
    assert f"  {line}" in reporter.said
    assert any(line in notice["text"] and str(weights) in notice["text"] for notice in read_status(run)["notices"])


def test_a_run_from_weights_resumes_exactly_without_its_file(train: Any, recorder: Any, weights: Path) -> None:
    flags = {"init_from": str(weights), "freeze_backbone_epochs": 1.0, "layer_decay": 0.9, **FOLLOW}
    whole = train("whole", **flags).run_dir
    with pytest.raises(StoppedError):
        train("stopped", reporter=recorder(stop_at=2, by=signal.SIGTERM), **flags)
    run = whole.parent / "stopped"
    weights.unlink()
    resume(run)
    assert first_difference(whole, run) == ""
    assert read_params(run)["initial_weights"] == read_params(whole)["initial_weights"]


def test_the_same_command_line_goes_on_and_another_file_is_another_run(train: Any, weights: Path) -> None:
    train("run", init_from=str(weights), **FOLLOW)
    weights.unlink()
    assert train("run", init_from=str(weights), resume_from="auto", **FOLLOW).steps == 6
    with pytest.raises(ChangeRefusedError, match=r"init_from: the run has .*dino_tiny\.pth, asked for .*other\.pth"):
        train("run", init_from="other.pth", resume_from="auto", **FOLLOW)


def test_a_run_goes_on_from_the_heads_of_another_one(train: Any, finished: Path) -> None:
    run = train(init_from=str(finished), freeze_last_layer_epochs=100, **FOLLOW).run_dir
    assert "head: as in the file" in read_params(run)["initial_weights"]["adapted"]
    assert torch.equal(teacher(run)["head.prototypes.weight"], teacher(finished)["head.prototypes.weight"])


def test_k_nn_of_the_start_is_called_initial_weights_and_getting_worse_is_said(
    train: Any, recorder: Any, weights: Path, labelled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sltdino.evaluation.knn_probe import KnnProbe

    accuracies = [0.75, 0.8, 0.7]
    monkeypatch.setattr(KnnProbe, "accuracy", lambda *_: accuracies.pop(0))
    reporter = recorder()
    run = train(init_from=str(weights), val_dir=labelled, reporter=reporter, **FOLLOW).run_dir
    assert any(line.startswith("epoch 1: k-NN 80.0% (initial weights 75.0%") for line in reporter.said)
    assert "k-NN 70.0%, 80.0% at best, after epoch 1 (initial weights 75.0%" in reporter.said[-2]
    assert "worse than the initial weights: try a lower --learning-rate" in reporter.said[-2]
    page = render(summarize(run), ASCII)
    assert "k-NN 70.0% (initial weights 75.0%" in page
    assert "worse than it started" in page


def test_heads_that_start_at_random_beside_trained_weights_are_hinted_at(
    train: Any, recorder: Any, weights: Path
) -> None:
    hint = "hint: --freeze-backbone-epochs 1 lets the heads settle before the trained weights move"
    for name, epochs, expected in (("a", 0.0, 1), ("b", 1.0, 0)):
        reporter = recorder()
        train(name, init_from=str(weights), freeze_backbone_epochs=epochs, reporter=reporter, **FOLLOW)
        assert reporter.said.count(hint) == expected


class Payload:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def test_a_command_in_the_file_is_not_run_and_its_name_is_recorded(train: Any, weights: Path, tmp_path: Path) -> None:
    payload, marker = Payload(f"touch {tmp_path / 'fired'}"), tmp_path / "fired"
    pickle.loads(pickle.dumps(payload))
    assert marker.exists()  # where pickle reads it
    marker.unlink()
    torch.save({**torch.load(weights, weights_only=True), "args": payload}, weights)
    run = train(init_from=str(weights), **FOLLOW).run_dir
    assert not marker.exists()
    assert any("system" in line for line in read_params(run)["initial_weights"]["adapted"])


def test_a_missing_file_fails_before_anything_is_written(train: Any, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"nowhere\.pth"):
        train("run", init_from=str(tmp_path / "nowhere.pth"), **FOLLOW)
    assert not (tmp_path / "run").exists()


def test_a_patch_size_of_its_own_needs_to_be_asked_for(train: Any, weights: Path) -> None:
    flags = {**FOLLOW, "init_from": str(weights), "patch_size": 4}
    with pytest.raises(SettingsError, match=r"--patch-size: 4, and the weights in dino_tiny\.pth have 8.*resample"):
        train("run", **flags)
    run = train("run", init_resample_patch=True, **flags).run_dir
    assert teacher(run)["backbone.patch_embed.proj.weight"].shape[-1] == 4


@pytest.mark.parametrize("source", ["", "file::", "local::"])
def test_a_path_in_a_file_of_settings_is_relative_to_it_and_none_on_the_command_line_wins(
    tmp_path: Path, source: str
) -> None:
    (tmp_path / "run.toml").write_text(f'train_dir = "crops"\ninit_from = "{source}weights/dino.pth"\n')
    read = partial(load_settings, "hands", files=[tmp_path / "run.toml"])
    assert read().settings.init_from == f"{source}{tmp_path / 'weights' / 'dino.pth'}"
    assert read(flags={"init_from": "none"}).settings.init_from is None


@pytest.mark.parametrize("named", ["hf::lab/hands", "HF::lab/hands:b.pt:dinov2_vits14", "torchhub::a/b:c"])
def test_weights_that_lie_elsewhere_are_no_path(tmp_path: Path, named: str) -> None:
    (tmp_path / "run.toml").write_text(f'train_dir = "crops"\ninit_from = "{named}"\n')
    loaded = load_settings("hands", files=[tmp_path / "run.toml"])
    assert loaded.settings.init_from == named
    assert f'init_from = "{named}"' in settings_toml(loaded)


def test_the_same_weights_named_from_elsewhere_are_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one, other, third = (
        load_settings("hands", flags={"train_dir": ["crops"], "init_from": f"file::{name}"}).settings
        for name in ("dino.pth", tmp_path / "dino.pth", "other.pth")
    )
    assert compare(one, other) == []
    assert [change.key for change in compare(one, third)] == ["init_from"]


def test_a_file_and_the_architecture_it_must_have_can_be_named(train: Any, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a dinov2_vits14"):
        train("run", init_from=f"file::{weights}:dinov2_vits14", **FOLLOW)
    run = train("run", init_from=f"file::{weights}", **FOLLOW).run_dir
    assert read_params(run)["initial_weights"]["path"] == str(weights)


@pytest.mark.parametrize("named", ["torchhub::dinov2_vits14", "torchvision::vit_b_16", "zip::a.pth", "hf::"])
def test_what_names_no_file_of_weights_is_refused_before_anything_is_written(
    train: Any, tmp_path: Path, named: str
) -> None:
    with pytest.raises(SettingsError, match=named):
        train("run", init_from=named, **FOLLOW)
    assert not (tmp_path / "run").exists()


def test_a_random_start_is_recorded_as_no_weights(train: Any) -> None:
    assert "initial_weights" not in read_params(train(init_from="none").run_dir)


def test_a_file_whose_name_looks_like_a_source_is_named_with_a_dot_before_it(
    train: Any, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(weights, "mine::a.pth")
    for number, spelling in enumerate(("./mine::a.pth", "file::mine::a.pth", str(tmp_path / "mine::a.pth"))):
        run = train(f"run{number}", init_from=spelling, epochs=1, **FOLLOW).run_dir
        assert read_params(run)["initial_weights"]["path"] == str(tmp_path / "mine::a.pth")
    with pytest.raises(SettingsError, match=r"to load the file of that name, write file::mine::a\.pth"):
        train("other", init_from="mine::a.pth", epochs=1, **FOLLOW)


def test_a_file_of_settings_may_name_such_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('train_dir = "crops"\ninit_from = "./mine::a.pth"\n')
    assert load_settings("hands", files=[tmp_path / "run.toml"]).settings.init_from == str(tmp_path / "mine::a.pth")
