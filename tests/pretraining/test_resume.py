"""`resume` goes on exactly where a run stopped, and refuses to make another run of it."""

import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from sltdino.core.run_files import load_checkpoint, read_artifacts, read_metrics, read_params, read_status
from sltdino.errors import (
    ChangeRefusedError,
    CheckpointError,
    DataError,
    MissingInputError,
    RunFolderError,
    SettingsError,
    StoppedError,
)
from sltdino.pretraining import resume
from tools.compare_runs import first_difference

CENTERED = {"use_sinkhorn": False}  # so that the centers, which are state, take part


def stopped(
    train: Any, recorder: Any, name: str = "stopped", *, at: int = 2, by: int = signal.SIGTERM, **flags: Any
) -> Path:
    """The folder of a run that was stopped by a signal after `at` steps."""
    with pytest.raises(StoppedError) as caught:
        train(name, reporter=recorder(stop_at=at, by=by), **flags)
    state = read_status(Path(shlex.split(str(caught.value))[-1]))
    assert (state["state"], state["global_step"]) == ("stopped", at)
    return Path(shlex.split(str(caught.value))[-1])


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("algorithm", "flags"), [("dino", CENTERED), ("ibot", CENTERED), ("dinov2", {"use_sinkhorn": True})]
)
def test_a_run_stopped_inside_an_epoch_ends_like_one_that_never_stopped(
    train: Any, recorder: Any, algorithm: str, flags: dict[str, Any], workers: int
) -> None:
    whole = train("whole", algorithm=algorithm, **flags).run_dir
    run = stopped(train, recorder, at=2, algorithm=algorithm, num_workers=workers, **flags)
    assert resume(run).steps == 6
    assert first_difference(whole, run) == ""


def test_a_run_may_be_stopped_at_every_step(train: Any, recorder: Any, finished_once: Path) -> None:
    run = stopped(train, recorder, at=1)
    for step in (2, 3, 4, 5):
        with pytest.raises(StoppedError, match=f"SIGTERM at step {step} of 6"):
            resume(run, reporter=recorder(stop_at=step))
    resume(run)
    assert first_difference(finished_once, run) == ""


def test_a_layout_start_is_fitted_to_the_images_once_and_not_at_every_resume(
    train: Any, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr("sltdino.pretraining.session.calibrate", lambda network, images: seen.append(len(images)))
    run = stopped(train, recorder, weight_init="layout")
    assert seen == [24]
    assert resume(run).steps == 6
    assert seen == [24]


def test_pseudo_epochs_and_accumulation_resume_exactly(train: Any, recorder: Any) -> None:
    flags = {"pseudo_epochs": 2, "accumulate_steps": 2, "batch_size": 5, "epochs": 1}
    whole = train("whole", **flags).run_dir
    run = stopped(train, recorder, at=2, **flags)
    assert resume(run).steps == 4
    assert first_difference(whole, run) == ""


def test_another_seed_is_found_by_the_comparison(train: Any, finished_once: Path) -> None:
    assert first_difference(finished_once, train(seed=43).run_dir).startswith("checkpoint.student.")


def test_a_changed_metric_is_named_by_the_comparison(finished: Path, finished_once: Path) -> None:
    metrics = finished / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"epoch_step": 2', '"epoch_step": 9', 1))
    assert first_difference(finished_once, finished) == "metrics record 3.epoch_step: 2 and 9"


@pytest.mark.parametrize(("by", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_a_signal_saves_and_says_how_to_go_on(train: Any, recorder: Any, tmp_path: Path, by: int, code: int) -> None:
    with pytest.raises(StoppedError, match=f"{signal.Signals(by).name} at step 2 of 6") as caught:
        train("my run", reporter=recorder(stop_at=2, by=by))
    assert caught.value.exit_code == code
    assert str(caught.value).endswith(f"sltdino resume '{tmp_path / 'my run'}'")
    assert load_checkpoint(tmp_path / "my run").state["progress"]["step_in_epoch"] == 2
    status = read_status(tmp_path / "my run")
    assert (status["state"], status["exit_code"]) == ("stopped", code)


def test_a_signal_at_the_last_step_is_too_late_to_stop_anything(train: Any, recorder: Any) -> None:
    assert train(reporter=recorder(stop_at=6)).steps == 6


def test_resuming_a_finished_run_writes_nothing(finished: Path, recorder: Any) -> None:
    before, reporter = content(finished), recorder()
    assert resume(finished, reporter=reporter).steps == 6
    assert content(finished) == before
    longer = f"to train longer: sltdino resume {finished} --epochs N"
    assert f"finished already, 6 of 6 steps; {longer}" in reporter.said[-1]


def test_a_run_that_died_after_its_last_step_is_finished_by_resume(finished: Path) -> None:
    (finished / "status.json").write_text('{"state": "running", "exit_code": null}')
    assert resume(finished).steps == 6
    assert read_status(finished)["state"] == "done"


def test_epochs_may_be_raised(finished: Path) -> None:
    summary = resume(finished, flags={"epochs": 3})
    assert (summary.steps, summary.epochs) == (9, 3)
    epochs = [record["epoch"] for record in read_metrics(finished) if record["context"] == "train_epoch"]
    assert epochs == [1, 2, 3]


def test_fewer_epochs_than_were_trained_are_refused(finished: Path) -> None:
    with pytest.raises(SettingsError, match="--epochs: 1 are 3 steps, and the run has done 6"):
        resume(finished, flags={"epochs": 1})


def test_what_makes_it_that_run_or_its_course_may_not_change_and_all_is_listed(finished: Path) -> None:
    before = content(finished)
    flags = {"seed": 7, "algorithm": "ibot", "learning_rate": 0.5, "num_workers": 1}
    with pytest.raises(ChangeRefusedError) as caught:
        resume(finished, flags=flags)
    assert [line.partition(":")[0] for line in str(caught.value).split("\n")] == [
        "algorithm", "seed", "optimizer.learning_rate",
    ]  # fmt: skip
    assert content(finished) == before


def test_a_change_of_what_the_loss_remembers_is_refused_before_anything_is_written(train: Any) -> None:
    run = train(algorithm="ibot", use_sinkhorn=False, patch_loss_weight=0.0).run_dir
    before = content(run)
    for flags, said in (({"use_sinkhorn": True}, "use_sinkhorn: the run has false, asked for true; this is what makes"),
                        ({"patch_loss_weight": 1.0}, "patch_loss_weight: changed from or to 0")):  # fmt: skip
        with pytest.raises(ChangeRefusedError, match=said):
            resume(run, flags={"epochs": 3, **flags}, allow_change=[*flags])
    assert content(run) == before


def test_an_accepted_change_is_recorded(finished: Path) -> None:
    resume(finished, flags={"epochs": 3, "weight_decay": 0.5}, allow_change=["weight_decay"])
    [record] = [record for record in read_metrics(finished) if record["context"] == "resume"]
    assert (record["optimizer.weight_decay"], record["epochs"]) == ("0.04 -> 0.5", "2 -> 3")
    assert read_params(finished)["optimizer"]["weight_decay"] == 0.5


def test_what_is_free_may_change(finished: Path) -> None:
    resume(finished, flags={"epochs": 3, "log_interval": 3, "experiment.notes": "longer"})
    steps = [record["step"] for record in read_metrics(finished) if record["context"] == "train_step"]
    assert steps == [1, 2, 3, 4, 5, 6, 9]


def test_params_keep_where_the_run_came_from(train: Any, recorder: Any, tmp_path: Path) -> None:
    run = stopped(train, recorder)
    before = read_params(run)
    resume(run)
    after = read_params(run)
    assert after.pop("resume") == str(run / "checkpoint_last.pt")
    assert after == before


def test_new_images_are_refused_unless_accepted(train: Any, recorder: Any, own_pictures: Path) -> None:
    run = stopped(train, recorder, images=own_pictures)
    shutil.copy(own_pictures / "0.png", own_pictures / "more.png")
    with pytest.raises(ChangeRefusedError, match=r"train_dir: the run has 24 images.* asked for 25 images"):
        resume(run)
    assert resume(run, allow_change=["train_dir"]).steps == 6
    [record] = [record for record in read_metrics(run) if record["context"] == "resume"]
    assert "25 images" in record["train_dir"]


def test_resume_needs_a_run(tmp_path: Path, own_pictures: Path) -> None:
    with pytest.raises(MissingInputError):
        resume(tmp_path / "nothing")
    with pytest.raises(MissingInputError):
        resume(own_pictures)


def test_resume_of_what_stopped_before_its_first_checkpoint_says_so_and_how_to_begin_again(
    train: Any, own_pictures: Path, tmp_path: Path
) -> None:
    (own_pictures / "3.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"those found so far are listed in .*bad_images\.jsonl"):
        train(images=own_pictures, log_interval=3)
    with pytest.raises(
        MissingInputError, match=r"stopped before its first checkpoint; run its .* again, with --overwrite"
    ):
        resume(tmp_path / "run")
    (own_pictures / "3.png").unlink()
    assert train(images=own_pictures, batch_size=4).steps == 10
    assert (tmp_path / "run" / "bad_images.jsonl").read_text() == ""
    assert any("begun again" in notice["text"] for notice in read_status(tmp_path / "run")["notices"])


def test_a_checkpoint_with_invalid_settings_is_named(finished: Path) -> None:
    path = finished / "checkpoint_last.pt"
    state = torch.load(path, weights_only=True)
    state["settings"]["vit"]["embed_dim"] = "wide"
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"checkpoint_last\.pt: holds no valid settings"):
        resume(finished)


# A damaged last checkpoint


def damaged(run: Path) -> Path:
    path = run / "checkpoint_last.pt"
    path.write_bytes(path.read_bytes()[:-100])
    return run


def test_a_damaged_last_checkpoint_is_only_passed_over_when_asked_for(train: Any, recorder: Any) -> None:
    whole = train("whole").run_dir
    run = damaged(stopped(train, recorder, at=5))
    with pytest.raises(CheckpointError, match=r"checkpoint_prev.pt is at step 3: sltdino resume .* --fallback"):
        resume(run)
    reporter = recorder()
    resume(run, fallback=True, reporter=reporter)
    assert "warning: checkpoint_last.pt was passed over; going on from checkpoint_prev.pt" in reporter.said
    assert any("went on from checkpoint_prev.pt" in notice["text"] for notice in read_status(run)["notices"])
    assert first_difference(whole, run) == ""


@pytest.mark.parametrize(("asked", "goes_on"), [("auto", True), ("must", False)])
def test_only_auto_falls_back_by_itself(train: Any, recorder: Any, asked: str, goes_on: bool) -> None:
    damaged(stopped(train, recorder, at=5))
    if goes_on:
        assert train("stopped", resume=asked).steps == 6
    else:
        with pytest.raises(CheckpointError, match="--fallback"):
            train("stopped", resume=asked)


# pretrain --resume


def test_resume_auto_starts_a_run_and_goes_on_with_it(train: Any, recorder: Any, finished_once: Path) -> None:
    run = stopped(train, recorder, resume="auto")
    assert train("stopped", resume="auto").steps == 6
    assert first_difference(finished_once, run) == ""


def test_resume_auto_begins_again_what_was_killed_before_its_first_checkpoint(train: Any, finished_once: Path) -> None:
    run = train(resume="auto").run_dir
    for path in run.glob("*.pt"):
        path.unlink()
    with pytest.raises(RunFolderError, match="holds a run already"):
        train()
    assert train(resume="auto").steps == 6
    assert first_difference(finished_once, run) == ""


def test_resume_must_needs_a_checkpoint(train: Any, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no checkpoint there"):
        train(resume="must")
    assert not (tmp_path / "run").exists()


def test_resume_path_goes_on_in_its_own_folder_only(train: Any, recorder: Any, finished_once: Path) -> None:
    run = stopped(train, recorder)
    with pytest.raises(RunFolderError, match="goes on in its own folder"):
        train("elsewhere", resume=str(run))
    assert train("stopped", resume=str(run / "checkpoint_last.pt")).steps == 6
    assert first_difference(finished_once, run) == ""


def test_pretrain_with_resume_refuses_changes_too(train: Any, recorder: Any) -> None:
    stopped(train, recorder)
    with pytest.raises(ChangeRefusedError, match=r"to go on with that: sltdino resume \S+stopped --epochs 5$"):
        train("stopped", resume="auto", epochs=5)


def test_resuming_from_the_best_checkpoint_repeats_what_came_after_it(train: Any, finished: Path) -> None:
    shutil.copy(finished / "checkpoint_prev.pt", finished / "epoch1.pt")
    before = [record["loss"] for record in read_metrics(finished) if record["context"] == "train_step"]
    assert resume(finished / "epoch1.pt").steps == 6
    after = [record["loss"] for record in read_metrics(finished) if record["context"] == "train_step"]
    assert after == before
    [record] = [record for record in read_metrics(finished) if record["context"] == "resume"]
    assert record["records_cut"] == 6


@pytest.mark.parametrize("key", ["origins", "images", "progress", "steps_done", "student", "optimizer"])
def test_a_checkpoint_without_what_a_run_needs_is_named(finished: Path, key: str) -> None:
    path = finished / "checkpoint_last.pt"
    state = torch.load(path, weights_only=True)
    del state[key]
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=f"checkpoint_last.pt: has no '{key}'"):
        resume(finished)


# A validation folder that comes later


def test_a_validation_folder_may_come_with_a_resume(train: Any, recorder: Any, draw: Any, tmp_path: Path) -> None:
    run = stopped(train, recorder, at=4)
    for label in ("a", "b"):
        draw(tmp_path / "val" / label, 3, seed=ord(label))
    summary = resume(run, flags={"val_dir": str(tmp_path / "val")})
    assert summary.best is not None
    assert (summary.best["metric"], summary.knn_untrained) == ("knn", None)
    assert summary.knn_pixels is not None


def test_a_run_of_relative_folders_goes_on_from_another_current_folder(
    train_in: Any, own_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own_pictures.parent)
    train_in(Path("run"), images=Path(own_pictures.name), export_backbone="backbone.pt")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = own_pictures.parent / "run"
    resume(run, flags={"epochs": 3})
    params = read_params(run)
    assert (params["train_dirs"], params["output_dir"]) == ([str(own_pictures)], str(run))
    assert [Path(entry["path"]).parent for entry in read_artifacts(run)] == [run, run, own_pictures.parent]


@pytest.mark.parametrize(
    ("part", "value"), [("progress", None), ("progress", {"global_step": "3"}), ("teacher", []), ("steps_done", None)]
)
def test_a_checkpoint_without_a_part_is_bad_data_and_its_run_stands(finished: Path, part: str, value: Any) -> None:
    path = finished / "checkpoint_last.pt"
    torch.save(torch.load(path, weights_only=True) | {part: value}, path)
    before = {file.name: file.read_bytes() for file in finished.iterdir() if file.is_file()}
    with pytest.raises(CheckpointError, match=f"has no {part}") as caught:
        resume(finished)
    assert caught.value.exit_code == 65
    assert {file.name: file.read_bytes() for file in finished.iterdir() if file.is_file()} == before
