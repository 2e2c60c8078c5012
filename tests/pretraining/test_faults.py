"""Bad input, and numbers that run away: how a run ends, and what it leaves."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sltdino.core.run_files import load_checkpoint, read_status
from sltdino.errors import DataError, DivergedError, ResourceError, RunFolderError, SettingsError, StorageError
from sltdino.pretraining import resume


def bad_images(run: Path) -> list[str]:
    return [Path(json.loads(line)["path"]).name for line in (run / "bad_images.jsonl").read_text().splitlines()]


# Images


def test_bad_images_within_the_budget_are_skipped_recorded_and_said(
    train: Any, own_pictures: Path, recorder: Any
) -> None:
    for name in ("3.png", "7.png"):
        (own_pictures / name).write_bytes(b"not an image")
    reporter = recorder()
    summary = train(images=own_pictures, dataset_max_bad_fraction=0.1, reporter=reporter)
    assert summary.steps == 6
    assert sorted(bad_images(summary.run_dir)) == ["3.png", "7.png"]
    assert read_status(summary.run_dir)["bad_images"] == 2
    assert sum(text.startswith("warning: skipped ") for text in reporter.said) == 2


def test_more_bad_images_than_the_budget_end_the_run_with_the_first_paths(
    train: Any, own_pictures: Path, tmp_path: Path
) -> None:
    for number in range(10):
        (own_pictures / f"{number}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"\d+ of 24 images cannot be read.* --dataset-max-bad-fraction 0.26") as caught:
        train(images=own_pictures, dataset_max_bad_fraction=0.26)
    named = re.findall(r"/(\d+\.png)'", str(caught.value))
    assert named == bad_images(tmp_path / "run")[:5]
    assert len(named) == 5
    status = read_status(tmp_path / "run")
    assert (status["state"], status["exit_code"]) == ("failed", 65)
    assert status["bad_images"] > 6


def test_bad_images_are_not_counted_again_after_a_resume(train: Any, own_pictures: Path) -> None:
    (own_pictures / "3.png").write_bytes(b"")
    run = train(images=own_pictures, dataset_max_bad_fraction=0.05).run_dir
    assert resume(run, flags={"epochs": 4}).steps == 12
    assert bad_images(run) == ["3.png"]


def test_an_image_that_vanishes_counts_as_bad(train: Any, own_pictures: Path, recorder: Any) -> None:
    class Vanishing(recorder):  # type: ignore[misc]
        def step(self, step: int, total_steps: int, metrics: Any) -> None:
            if step == 1:
                (own_pictures / "3.png").unlink()

    run = train(images=own_pictures, dataset_max_bad_fraction=0.1, reporter=Vanishing(), epochs=4).run_dir
    assert bad_images(run) == ["3.png"]


def test_fewer_images_than_a_batch_are_refused_with_the_largest_legal_batch(
    train: Any, draw: Any, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"5 images are fewer than the 8 of one step: use --batch-size 5 or less"):
        train(images=draw(tmp_path / "few", 5))
    assert not (tmp_path / "run").exists()


def test_a_run_folder_inside_the_training_folder_is_refused(train_in: Any, own_pictures: Path) -> None:
    with pytest.raises(SettingsError, match=r"--output-dir: .* lies inside the training folder"):
        train_in(own_pictures / "run", images=own_pictures)
    assert not (own_pictures / "run").exists()


@pytest.mark.parametrize("link", [False, True])
def test_a_validation_image_that_is_also_a_training_image_is_refused(
    link: bool, train: Any, own_pictures: Path, draw: Any, tmp_path: Path
) -> None:
    for label in ("a", "b"):
        draw(own_pictures / label, 2, seed=ord(label))
    val = own_pictures
    if link:
        val = tmp_path / "linked"
        val.symlink_to(own_pictures)
    with pytest.raises(
        SettingsError, match=r"--val-dir: 28 of 28 validation images are training images too: .*/0\.png; "
    ):
        train(images=own_pictures, val_dir=str(val))


def test_unreadable_validation_images_do_not_use_up_the_training_budget(
    train: Any, own_pictures: Path, draw: Any, tmp_path: Path
) -> None:
    for label in ("a", "b"):
        draw(tmp_path / "val" / label, 4, seed=ord(label))
        (tmp_path / "val" / label / "0.png").write_bytes(b"")
    (own_pictures / "3.png").write_bytes(b"")
    summary = train(images=own_pictures, val_dir=str(tmp_path / "val"), dataset_max_bad_fraction=0.05)
    assert summary.steps == 6
    records = [json.loads(line) for line in (summary.run_dir / "bad_images.jsonl").read_text().splitlines()]
    assert sorted(record["use"] for record in records) == ["training", "validation", "validation"]


def test_what_a_scan_passed_over_is_said_without_terminal_escapes(train: Any, own_pictures: Path, capsys: Any) -> None:
    from sltdino.pretraining.progress import reporter_for_terminal

    (own_pictures / "clip.webp").write_bytes(b"")
    (own_pictures / ".evil\x1b[31m.png").write_bytes(b"")
    train(images=own_pictures, epochs=1, reporter=reporter_for_terminal())
    said = capsys.readouterr().err
    assert "not read: 1 webp" in said
    assert r"evil\x1b[31m" in said
    assert "\x1b[31m" not in said


# Numbers


def finite(run: Path) -> bool:
    tensors = load_checkpoint(run).state["student"].values()
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def test_a_loss_that_runs_away_is_a_3_and_the_checkpoint_before_it_stands(finished: Path) -> None:
    before = (finished / "checkpoint_last.pt").read_bytes()
    with pytest.raises(DivergedError, match="lower --learning-rate"):
        resume(finished, flags={"epochs": 9, "learning_rate": 1e30}, allow_change=["learning_rate"])
    status = read_status(finished)
    assert (status["state"], status["exit_code"]) == ("failed", 3)
    assert (finished / "checkpoint_last.pt").read_bytes() == before
    assert finite(finished)


def test_weights_that_are_not_finite_are_never_saved(
    train: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from sltdino.training.trainer import Trainer

    real = Trainer.step

    def poisoned(self: Trainer, batches: Any) -> Any:
        result = real(self, batches)
        if self.steps_done == 6:
            next(self.model.student.parameters()).data.flatten()[0] = float("nan")
        return result

    monkeypatch.setattr(Trainer, "step", poisoned)
    with pytest.raises(DivergedError, match="is not finite, so nothing was saved"):
        train()
    assert load_checkpoint(tmp_path / "run").state["progress"]["global_step"] == 3
    assert finite(tmp_path / "run")
    assert read_status(tmp_path / "run")["exit_code"] == 3


def test_a_full_disk_is_what_the_user_hears_of_even_when_the_status_cannot_be_written(
    train: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sltdino.core.run_dir import RunDir

    def full(self: RunDir, *args: Any, **kwargs: Any) -> None:
        raise StorageError("status.json: the disk is full")

    def diverge(self: RunDir, *args: Any, **kwargs: Any) -> None:
        monkeypatch.setattr(RunDir, "write_status", full)
        raise DivergedError("diverged")

    monkeypatch.setattr(RunDir, "publish_checkpoint", diverge)
    with pytest.raises(DivergedError) as caught:
        train()
    assert caught.value.__notes__ == ["status.json does not say so: status.json: the disk is full"]


def test_our_own_mistake_is_a_1_in_the_status(train: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from sltdino.pretraining import watch

    monkeypatch.setattr(watch, "observe", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train()
    status = read_status(tmp_path / "run")
    assert (status["state"], status["exit_code"]) == ("failed", 1)
    assert status["message"].startswith("ZeroDivisionError")


def test_a_network_that_no_memory_holds_is_a_71(train: Any) -> None:
    with pytest.raises(ResourceError, match="smaller network") as caught:
        train(vit_embed_dim=1 << 19)
    assert caught.value.exit_code == 71


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce fail] can't allocate memory: you tried 9 GB")])
def test_running_out_of_memory_is_a_71(
    error: Exception, train: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from sltdino.training.trainer import Trainer

    def fail(self: Trainer, batches: Any) -> Any:
        raise error

    monkeypatch.setattr(Trainer, "step", fail)
    with pytest.raises(ResourceError, match="smaller --batch-size"):
        train()
    assert read_status(tmp_path / "run")["exit_code"] == 71


def test_a_run_that_failed_before_its_first_record_does_not_stand_in_the_way(
    train: Any, own_pictures: Path, tmp_path: Path
) -> None:
    from sltdino.training.trainer import Trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", lambda *_: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(ResourceError):
            train(images=own_pictures)
    assert train(images=own_pictures, epochs=1).steps == 3
    with pytest.raises(RunFolderError):
        train(images=own_pictures, epochs=1)
    shutil.rmtree(tmp_path / "run")
