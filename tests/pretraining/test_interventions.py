"""What a run changes by itself against a collapse: where `stop` would end it or before, exactly again when resumed."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sltdino.core.run_files import load_checkpoint, read_metrics, read_status
from sltdino.errors import CollapsedError, StoppedError
from sltdino.pretraining import resume, watch
from sltdino.pretraining.interventions import MOST, adapted, without
from sltdino.report.summary import summarize
from sltdino.training import health
from tools.compare_runs import first_difference

WARM = {"use_sinkhorn": False, "standardize_teacher": False, "teacher_temp": 10.0, "teacher_temp_start": 10.0}
"""Targets that are uniform from the first step on."""
STANDARDIZED = {"loss.standardize_teacher": True, "loss.teacher_temp": 0.33, "loss.teacher_temp_start": 0.33}
LONG = {"epochs": 4, **WARM}
"""12 steps."""

Train = Callable[..., Any]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that judges from the second step on, and a collapse that needs to last for four steps."""
    monkeypatch.setattr(health, "_LEAST_GRACE", 1)
    monkeypatch.setattr(watch, "_LEAST_PATIENCE", 4)


def rows(run: Path, context: str) -> list[dict[str, Any]]:
    return [record for record in read_metrics(run) if record["context"] == context]


def made(run: Path) -> dict[str, float]:
    return {row["knob"]: row["new"] for row in rows(run, "intervention")}


@pytest.mark.usefixtures("hasty")
def test_an_intervention_is_a_record_a_warning_and_part_of_the_checkpoint(train: Train, recorder: Any) -> None:
    reporter = recorder()
    run = train(reporter=reporter, **LONG).run_dir
    assert made(run) == STANDARDIZED
    first = rows(run, "intervention")[0]
    assert {key: first[key] for key in ("finding", "knob", "old", "new", "number")} == {
        "finding": "uniform collapse", "knob": "loss.standardize_teacher", "old": False, "new": True, "number": 1,
    }  # fmt: skip
    [said] = [text for text in reporter.said if "(intervention" in text]
    assert said.startswith(
        f"warning: step {first['step']}: against uniform collapse: --standardize-teacher from off to"
    )
    assert "--teacher-temp from 10 to 0.33" in said
    kept = load_checkpoint(run).state["progress"]["interventions"]
    assert [(row["step"], row["knob"], row["new"]) for row in kept] == [
        (first["step"], knob, new) for knob, new in STANDARDIZED.items()
    ]
    assert load_checkpoint(run).state["settings"]["loss"]["teacher_temp"] == 10  # what the run was started with


@pytest.mark.usefixtures("hasty")
def test_the_steps_after_an_intervention_have_the_new_values(train: Train) -> None:
    run = train(**LONG).run_dir
    step = rows(run, "intervention")[0]["step"]
    for row in rows(run, "train_step"):
        assert row["teacher_temp"] == (10 if row["step"] <= step else 0.33)
        assert (row["target_entropy"] > 0.99 * math.log(32)) == (row["step"] <= step)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_stopped_before_at_and_after_an_intervention_ends_like_one_that_never_stopped(
    train: Train, recorder: Any, workers: int
) -> None:
    whole = train("whole", **LONG).run_dir
    step = rows(whole, "intervention")[0]["step"]
    assert 2 < step < 9
    with pytest.raises(StoppedError):
        train("stopped", reporter=recorder(stop_at=step - 2), num_workers=workers, **LONG)
    for at in (step, step + 1, 9):
        with pytest.raises(StoppedError):
            resume(whole.parent / "stopped", reporter=recorder(stop_at=at))
    resume(whole.parent / "stopped")
    assert first_difference(whole, whole.parent / "stopped") == ""


@pytest.mark.usefixtures("hasty")
def test_a_run_killed_between_an_intervention_and_the_next_checkpoint_intervenes_again(
    train: Train, recorder: Any
) -> None:
    class KilledError(Exception):
        pass

    class Killer(recorder):  # type: ignore[misc]
        def step(self, step: int, total_steps: int, metrics: Any) -> None:
            if step == self.stop_at:
                raise KilledError

    one_epoch = {**WARM, "epochs": 1, "pseudo_epochs": 4}
    whole = train("whole", **one_epoch).run_dir
    killed, step = whole.parent / "killed", rows(whole, "intervention")[0]["step"]
    with pytest.raises(StoppedError):
        train("killed", reporter=recorder(stop_at=step - 1), **one_epoch)
    with pytest.raises(KilledError):
        resume(killed, reporter=Killer(stop_at=step + 1))
    assert rows(killed, "intervention")
    assert load_checkpoint(killed).state["progress"]["interventions"] == []
    resume(killed)
    assert first_difference(whole, killed) == ""


@pytest.mark.usefixtures("hasty")
def test_what_stop_ends_adapt_changes_at_the_same_step_and_ignore_leaves_alone(train: Train) -> None:
    with pytest.raises(CollapsedError):
        train("stop", on_collapse="stop", **LONG)
    runs = {kind: train(kind, on_collapse=kind, **LONG).run_dir for kind in ("adapt", "ignore")}
    stopped_at = load_checkpoint(runs["adapt"].parent / "stop").state["steps_done"]
    assert rows(runs["adapt"], "intervention")[0]["step"] == stopped_at
    assert rows(runs["ignore"], "intervention") == []


def test_a_long_run_is_not_left_collapsed_for_its_twentieth(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, steps in (
        (health, "_LEAST_GRACE", 1),
        (watch, "_LEAST_PATIENCE", 2),
        (watch, "_MOST_PATIENCE", 3),
    ):
        monkeypatch.setattr(module, name, steps)
    monkeypatch.setattr(watch, "_PATIENCE_SHARE", 1.0)
    assert rows(train(**{**LONG, "epochs": 20}).run_dir, "intervention")[0]["step"] < 12  # of 60


@pytest.mark.usefixtures("hasty")
def test_a_loss_that_only_stays_up_is_adapted_to_early_and_ends_a_run_late(train: Train) -> None:
    slow = {"learning_rate": 1e-9, "min_learning_rate": 0.0, "epochs": 20}
    with pytest.raises(CollapsedError, match=r"at step (3[1-9]|4\d) of 60: the loss stays at"):  # half of it, and grace
        train("stop", on_collapse="stop", **slow)
    run = train("adapt", **slow).run_dir
    first, *later = rows(run, "intervention")
    assert (first["finding"], first["knob"], first["old"]) == ("uniform collapse", "optimizer.learning_rate", 1e-9)
    assert first["new"] > 1e-5
    assert first["step"] < 20
    assert all(row["step"] > 30 for row in later)


@pytest.mark.usefixtures("hasty")
def test_no_setting_gets_a_value_again_that_did_not_help(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(watch, "_LATE_PATIENCE_SHARE", 0.1)
    monkeypatch.setattr(health, "_PINNED_SHARE", 1e9)  # whatever the student knows, it guesses
    with pytest.raises(CollapsedError):
        train(epochs=30, koleo_weight=0.0)
    made = [(row["knob"], row["old"], row["new"]) for row in rows(tmp_path / "run", "intervention")]
    assert made
    assert len({(knob, value) for knob, old, new in made for value in (old, new)}) == len(made) + 1


def test_a_run_that_is_healthy_is_the_same_under_all_three(train: Train, finished_once: Path) -> None:
    for kind in ("adapt", "stop", "ignore"):
        assert first_difference(finished_once, train(kind, on_collapse=kind).run_dir) == ""


@pytest.mark.usefixtures("hasty")
def test_a_run_that_interventions_do_not_help_ends_after_the_last_of_them(train: Train, recorder: Any) -> None:
    reporter = recorder()
    stuck = {**WARM, "learning_rate": 1e-12, "min_learning_rate": 0.0, "koleo_weight": 0.0, "epochs": 30}
    with pytest.raises(CollapsedError, match=rf"of 90, after {MOST} interventions of its own: .* What may help") as e:
        train(reporter=reporter, **stuck)
    run = Path(str(e.value).rpartition("sltdino resume ")[2].split(" --on-collapse")[0])
    steps = sorted({row["step"] for row in rows(run, "intervention")})
    assert len(steps) == MOST
    assert all(later - earlier >= 2 * 4 for earlier, later in pairwise(steps))  # 5 % of 90 steps
    assert read_status(run)["exit_code"] == 3
    with pytest.raises(CollapsedError, match="no step was made"):
        resume(run)
    assert resume(run, flags={"on_collapse": "ignore"}).steps == 90


@pytest.mark.usefixtures("hasty")
def test_a_run_stopped_between_a_record_and_the_next_intervention_makes_the_same_ones(
    train: Train, recorder: Any, tmp_path: Path
) -> None:
    stuck = {**WARM, "learning_rate": 1e-12, "min_learning_rate": 0.0, "koleo_weight": 0.0, "epochs": 30}
    with pytest.raises(CollapsedError):
        train("whole", log_interval=5, **stuck)
    whole = tmp_path / "whole"
    steps = sorted({row["step"] for row in rows(whole, "intervention")})
    assert len(steps) == MOST
    second, third = (max(row["step"] for row in rows(whole, "train_step") if row["step"] < step) for step in steps[1:])
    assert third < steps[2] - 1
    with pytest.raises(StoppedError):
        train("stopped", reporter=recorder(stop_at=second), log_interval=5, **stuck)
    with pytest.raises(StoppedError):
        resume(whole.parent / "stopped", reporter=recorder(stop_at=third))
    with pytest.raises(CollapsedError):
        resume(whole.parent / "stopped")
    assert first_difference(whole, whole.parent / "stopped") == ""


@pytest.mark.usefixtures("hasty")
def test_between_two_interventions_and_before_the_end_a_step_is_judged_anew(train: Train, tmp_path: Path) -> None:
    stuck = {**WARM, "learning_rate": 1e-12, "min_learning_rate": 0.0, "koleo_weight": 0.0}
    with pytest.raises(CollapsedError):
        train(epochs=1, pseudo_epochs=60, log_interval=20, **stuck)  # twice the patience is 18 steps
    run = tmp_path / "run"
    recorded = [row["step"] for row in rows(run, "train_step")]
    done = [*sorted({row["step"] for row in rows(run, "intervention")}), load_checkpoint(run).state["steps_done"]]
    assert len(done) > 2
    assert all(any(earlier < step <= later for step in recorded) for earlier, later in pairwise(done))


@pytest.mark.usefixtures("hasty")
def test_a_setting_that_is_given_takes_the_place_of_the_adapted_one(train: Train) -> None:
    run = train(**LONG).run_dir
    resume(run, flags={"teacher_temp": 0.5, "epochs": 5}, allow_change=["teacher_temp"])
    assert [row["teacher_temp"] for row in rows(run, "train_step")][-1] == 0.5
    kept = load_checkpoint(run).state["progress"]["interventions"]
    assert [row["knob"] for row in kept] == ["loss.standardize_teacher", "loss.teacher_temp_start"]


@pytest.mark.usefixtures("hasty")
def test_a_run_that_was_stopped_may_go_on_to_adapt(train: Train, tmp_path: Path) -> None:
    with pytest.raises(CollapsedError):
        train(on_collapse="stop", **LONG)
    assert resume(tmp_path / "run", flags={"on_collapse": "adapt"}).steps == 12
    assert made(tmp_path / "run") == STANDARDIZED


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("finding", ["one-point collapse", "uniform collapse"])
def test_koleo_that_was_left_out_comes_in(train: Train, monkeypatch: pytest.MonkeyPatch, finding: str) -> None:
    if finding == "one-point collapse":
        monkeypatch.setattr(health, "_SAME_FEATURE_COSINE", 0.0)  # every run looks so
    temps = WARM if finding == "uniform collapse" else {"use_sinkhorn": False, "standardize_teacher": False}
    run = train(koleo_weight=0.0, epochs=4, **temps).run_dir
    assert made(run)["loss.koleo_weight"] == 0.1
    assert {row["finding"] for row in rows(run, "intervention")} == {finding}
    step = rows(run, "intervention")[0]["step"]
    assert {"loss_koleo" in row for row in rows(run, "train_step") if row["step"] > step} == {True}
    assert {"loss_koleo" in row for row in rows(run, "train_step") if row["step"] <= step} == {False}


@pytest.mark.usefixtures("hasty")
def test_the_best_by_loss_after_an_intervention_is_no_epoch_before_it(train: Train) -> None:
    run = train(**{**LONG, "epochs": 8}).run_dir
    step = max(row["step"] for row in rows(run, "intervention"))
    last = rows(run, "train_best")[-1]
    assert last["step"] > step
    assert load_checkpoint(run, which="best").state["progress"]["global_step"] == last["step"]


@pytest.mark.usefixtures("hasty")
def test_inspect_and_the_page_tell_of_interventions(train: Train, tmp_path: Path, capsys: Any) -> None:
    from sltdino.cli import app

    run, page = train(**LONG).run_dir, tmp_path / "page.html"
    step = rows(run, "intervention")[0]["step"]
    facts = summarize(run)
    assert [row["knob"] for row in facts["interventions"]] == list(STANDARDIZED)
    assert app.main(["inspect", str(run), "--html", str(page)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"adapted at step {step} against uniform collapse: loss.standardize_teacher off -> on," in said
    text = page.read_text()
    assert f"Adapted: at step {step} against uniform collapse" in text
    assert f"<title>adapted against a collapse at step {step}</title>" in text


def test_later_interventions_count_and_given_settings_remove_theirs() -> None:
    from sltdino import load_settings

    settings = load_settings("hands", flags={"train_dir": ".", "koleo_weight": 0.0, "teacher_temp": 1.0}).settings
    changes = [
        {"step": 1, "knob": "loss.koleo_weight", "new": 0.1},
        {"step": 2, "knob": "loss.koleo_weight", "new": 0.2},
        {"step": 2, "knob": "loss.teacher_temp", "new": 0.5},
    ]
    after = adapted(settings, changes).loss
    assert (after.koleo_weight, after.teacher_temp) == (0.2, 0.5)
    assert without(changes, ["loss.koleo_weight"]) == changes[2:]
    assert adapted(settings, []) is settings
