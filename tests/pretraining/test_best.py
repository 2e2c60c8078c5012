"""Which epoch is `checkpoint_best`: by k-NN where there are validation images, else by loss, never a collapsed one."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from sltdino.cli import app
from sltdino.core.run_files import load_checkpoint, read_artifacts, read_metrics
from sltdino.errors import MissingInputError, StoppedError
from sltdino.exporting.formats import export
from sltdino.pretraining import resume
from sltdino.report.summary import summarize
from sltdino.report.text import plots
from sltdino.report.text import run_page as page
from sltdino.training import health
from tools.compare_runs import first_difference

UNIFORM = {"teacher_temp": 10.0, "teacher_temp_start": 10.0}


def records(run: Path, context: str) -> list[dict[str, Any]]:
    return [record for record in read_metrics(run) if record["context"] == context]


def best_epoch(run: Path) -> int:
    return int(load_checkpoint(run, which="best").state["progress"]["epoch"])


@pytest.fixture
def val(draw: Any, tmp_path: Path) -> str:
    for label in ("a", "b"):
        draw(tmp_path / "val" / label, 4, seed=ord(label))
    return str(tmp_path / "val")


@pytest.fixture
def knn(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """k-NN accuracies that the probe will measure, the untrained network's first."""
    from sltdino.evaluation.knn_probe import KnnProbe

    accuracies: list[float] = []
    monkeypatch.setattr(KnnProbe, "accuracy", lambda *_: accuracies.pop(0))
    return accuracies


def test_without_validation_images_the_epoch_with_the_lowest_loss_is_best(train: Any) -> None:
    run = train(epochs=2).run_dir
    resume(run, flags={"epochs": 3, "koleo_weight": 50.0}, allow_change=["koleo_weight"])
    losses = [record["loss"] for record in records(run, "train_epoch")]
    assert losses[2] > 2 * losses[1]  # the last epoch is worse by far
    assert best_epoch(run) == losses.index(min(losses)) + 1
    assert records(run, "train_best")[-1]["epoch"] == best_epoch(run)


def test_with_validation_images_the_epoch_with_the_highest_accuracy_is_best(
    train: Any, val: str, knn: list[float]
) -> None:
    knn += [0.1, 0.2, 0.6, 0.5, 0.6]  # of equal ones the first stays
    summary = train(epochs=4, val_dir=val, eval_every=1)
    assert best_epoch(summary.run_dir) == 2
    assert summary.best == {"metric": "knn", "value": 0.6, "epoch": 2}
    assert [record["epoch"] for record in records(summary.run_dir, "train_best")] == [1, 2]


def test_an_epoch_whose_features_are_worth_less_than_those_it_started_with_is_not_best(
    train: Any, val: str, knn: list[float], recorder: Any, tmp_path: Path
) -> None:
    knn += [0.5, 0.4, 0.49]
    reporter = recorder()
    run = train(epochs=2, val_dir=val, eval_every=1, reporter=reporter).run_dir
    assert not (run / "checkpoint_best.pt").exists()
    why = "no epoch that did not look collapsed has reached the 50.0% k-NN of what it started with"
    assert summarize(run)["why_no_best"] == why
    assert f"none: {why}" in " ".join(page.render(summarize(run), plots.ASCII).split())
    assert reporter.said[-2].endswith(f"no best checkpoint: {why}")
    assert app.main(["inspect", str(run), "--html", str(tmp_path / "page.html")]) == 0
    assert f"none: {why}" in (tmp_path / "page.html").read_text()
    with pytest.raises(MissingInputError, match=f"because {re.escape(why)}; look at"):
        export(run, format="slt", out=tmp_path / "b.pt", which="best")
    knn += [0.5, 0.4]
    resume(run, flags={"epochs": 4})
    assert best_epoch(run) == 3  # as good as the start is good enough
    assert summarize(run)["why_no_best"] == ""


def test_an_epoch_is_compared_with_a_start_that_was_judged_alike(train: Any, val: str, knn: list[float]) -> None:
    knn += [0.9, 0.3]
    run = train(epochs=1, val_dir=val, eval_every=1).run_dir
    assert not (run / "checkpoint_best.pt").exists()
    knn += [0.2]
    assert resume(run, flags={"epochs": 2, "knn_k": 1}).best == {"metric": "knn", "value": 0.2, "epoch": 2}
    assert summarize(run)["knn"]["untrained"] is None


def test_an_epoch_that_was_not_evaluated_is_never_best(train: Any, val: str, knn: list[float]) -> None:
    knn += [0.0, 0.2, 0.5]
    run = train(epochs=4, val_dir=val, eval_every=2).run_dir
    assert [record["epoch"] for record in records(run, "train_best")] == [2, 4]


def test_the_best_accuracy_is_remembered_over_a_resume(train: Any, val: str, knn: list[float]) -> None:
    knn += [0.0, 0.5, 0.6]
    run = train(epochs=2, val_dir=val, eval_every=1).run_dir
    knn += [0.4, 0.3]
    resume(run, flags={"epochs": 4})
    assert best_epoch(run) == 2


def test_an_evaluation_is_a_record_with_what_to_compare_it_with(train: Any, val: str) -> None:
    run = train(epochs=2, val_dir=val, eval_every=1).run_dir
    rows = records(run, "eval")
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert all(0 <= row["knn"] <= 1 and 0 <= row["knn_pixels"] <= 1 for row in rows)
    assert {row["protocol"] for row in rows} == {
        "weighted 20-NN, 8 validation images against the other validation images"
    }


def test_the_probe_changes_nothing_of_the_training(train: Any, val: str, finished_once: Path) -> None:
    import torch

    run = train(val_dir=val, eval_every=1).run_dir
    one, other = (load_checkpoint(path).state["student"] for path in (run, finished_once))
    assert all(torch.equal(one[key], other[key]) for key in other)


def test_a_collapsed_run_has_no_best_checkpoint_and_export_says_so(train: Any, recorder: Any, tmp_path: Path) -> None:
    reporter = recorder()
    summary = train(reporter=reporter, **UNIFORM)
    assert [record["health"] for record in records(summary.run_dir, "train_epoch")] == ["uniform collapse"] * 2
    assert any("uniform collapse: teacher entropy" in text and "--teacher-temp" in text for text in reporter.said)
    assert summary.best is None
    assert not (summary.run_dir / "checkpoint_best.pt").exists()
    assert [entry["name"] for entry in read_artifacts(summary.run_dir)] == ["checkpoint_last"]
    with pytest.raises(MissingInputError, match="because no epoch has finished without collapse;"):
        export(summary.run_dir, format="slt", out=tmp_path / "b.pt", which="best")
    assert not (tmp_path / "b.pt").exists()


def test_a_run_stopped_in_its_first_epoch_has_no_best_checkpoint_and_is_not_called_collapsed(
    train: Any, recorder: Any, tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        train(reporter=recorder(stop_at=2))
    with pytest.raises(MissingInputError, match="because no epoch has finished; look at"):
        export(tmp_path / "run", format="slt", out=tmp_path / "b.pt", which="best")


@pytest.mark.parametrize("on_collapse", ["adapt", "stop", "ignore"])
def test_a_collapsed_epoch_is_not_best_by_accuracy_either(
    train: Any, val: str, knn: list[float], on_collapse: str
) -> None:
    knn += [0.0, 0.9, 0.9]
    summary = train(val_dir=val, eval_every=1, on_collapse=on_collapse, **UNIFORM)
    assert summary.best is None
    assert not (summary.run_dir / "checkpoint_best.pt").exists()


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("eval_every", [1, 1 / 3])
def test_what_looks_collapsed_in_the_first_steps_is_not_best_although_it_is_not_judged_yet(
    train: Any, val: str, knn: list[float], labelled: bool, eval_every: float
) -> None:
    knn += [0.9] * 9
    flags = {**UNIFORM, "use_sinkhorn": False, "standardize_teacher": False, "eval_every": eval_every}
    summary = train(epochs=2, on_collapse="ignore", **flags, **({"val_dir": val} if labelled else {}))
    rows = records(summary.run_dir, "train_step")
    assert {row["health"] for row in rows} == {"starting"}
    assert all(row["target_entropy"] > 0.99 * math.log(32) for row in rows)
    assert (summary.best, records(summary.run_dir, "train_best")) == (None, [])
    assert not (summary.run_dir / "checkpoint_best.pt").exists()
    why = summarize(summary.run_dir)["why_no_best"]
    assert why.startswith(
        "no epoch that did not look collapsed" if labelled else "no epoch was judged that did not look"
    )


PINNED = {"learning_rate": 1e-7, "min_learning_rate": 0.0, "koleo_weight": 0.0, "epochs": 6}
"""The loss stays at ln K under sharp targets, which no step shows by itself."""


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that judges from the third epoch on."""
    monkeypatch.setattr(health, "_LEAST_GRACE", 6)


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("on_collapse", ["adapt", "ignore"])
@pytest.mark.parametrize("labelled", [False, True])
def test_an_epoch_that_turns_out_to_lie_in_a_collapse_is_no_longer_best(
    train: Any, recorder: Any, val: str, knn: list[float], labelled: bool, on_collapse: str
) -> None:
    knn += [0.5] * 7  # no better than the start
    reporter, flags = recorder(), {"val_dir": val, "eval_every": 1} if labelled else {}
    summary = train(reporter=reporter, on_collapse=on_collapse, **PINNED, **flags)
    run = summary.run_dir
    bests, [gone] = records(run, "train_best"), records(run, "best_withdrawn")
    assert bests[0]["epoch"] == 1
    assert (gone["finding"], gone["epoch"]) == ("uniform collapse", bests[-1]["epoch"])
    assert gone["since_step"] <= 3
    assert summary.best is None
    assert not (run / "checkpoint_best.pt").exists()
    assert [entry["name"] for entry in read_artifacts(run)] == ["checkpoint_last"]
    assert any(f"epoch {gone['epoch']} is no longer the best" in text for text in reporter.said)
    text = page.render(summarize(run), plots.ASCII)
    assert f"none: epoch {gone['epoch']} was, and lies in the uniform collapse since step {gone['since_step']}" in text


@pytest.mark.usefixtures("short_grace")
def test_an_accuracy_above_the_start_outweighs_the_date_of_a_collapse(train: Any, val: str, knn: list[float]) -> None:
    knn += [0.5, 0.4, 0.6, *[0.4] * 4]
    summary = train(val_dir=val, eval_every=1, on_collapse="ignore", **PINNED)
    assert "uniform collapse" in {row["health"] for row in records(summary.run_dir, "train_step")}
    assert summary.best == {"metric": "knn", "value": 0.6, "epoch": 2}
    assert best_epoch(summary.run_dir) == 2


@pytest.mark.usefixtures("short_grace")
def test_a_run_stopped_around_the_withdrawal_ends_like_one_that_never_stopped(train: Any, recorder: Any) -> None:
    whole = train("whole", on_collapse="ignore", **PINNED).run_dir
    [gone] = records(whole, "best_withdrawn")
    stopped = whole.parent / "stopped"
    with pytest.raises(StoppedError):
        train("stopped", reporter=recorder(stop_at=gone["step"] - 1), on_collapse="ignore", **PINNED)
    assert (stopped / "checkpoint_best.pt").exists()
    stale = (stopped / "checkpoint_best.pt").read_bytes()
    with pytest.raises(StoppedError):
        resume(stopped, reporter=recorder(stop_at=gone["step"]))
    assert not (stopped / "checkpoint_best.pt").exists()
    (stopped / "checkpoint_best.pt").write_bytes(stale)  # as if it had ended before the file was removed
    resume(stopped)
    assert not (stopped / "checkpoint_best.pt").exists()
    assert first_difference(whole, stopped) == ""


def test_an_epoch_after_the_collapse_is_best_again(train: Any) -> None:
    run = train(epochs=1, **UNIFORM).run_dir
    allowed = ["teacher_temp", "teacher_temp_start", "teacher_temp_warmup_epochs"]
    flags = {"teacher_temp": 0.04, "teacher_temp_start": 0.04, "epochs": 2}
    summary = resume(run, flags=flags, allow_change=allowed)
    assert summary.best is not None
    assert summary.best["epoch"] == best_epoch(run) == 2
