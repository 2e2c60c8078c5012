"""Runs that are given minutes: how many steps become of them, and that timing these changes nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from sltdino import load_settings
from sltdino.core.auto import Plan, plan, settle
from sltdino.core.run_files import load_checkpoint, read_metrics, read_params, stored_settings
from sltdino.core.settings_text import settings_toml
from sltdino.errors import ChangeRefusedError, SettingsError
from sltdino.pretraining import dry_run, length, planned_settings, pretrain, resume
from sltdino.pretraining.estimates import num_evaluations
from sltdino.pretraining.length import Costs, length_within
from tools.compare_runs import first_difference

STEPS = Plan(images_per_step=32, steps_per_epoch=40, total_steps=40)


def asked(**flags: Any) -> Any:
    return load_settings("hands", flags={"train_dir": "crops", **flags}).settings


def seconds(steps: int, evaluations: int, saves: int, costs: Costs) -> float:
    return steps * costs.step + evaluations * costs.evaluation + saves * costs.save


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`timed(7)` lets the next run that is given minutes time its steps for real, and then find room for seven."""

    def timed(steps: int) -> None:
        real = length.length_within

        def so_many(asked: Any, plan: Plan, costs: Costs, *, spent: float) -> Any:
            found = real(asked, plan, costs._replace(step=1e-3, evaluation=1e-3, save=1e-3), spent=0.0)
            return found._replace(epochs=steps / plan.steps_per_epoch, eval_every=None)

        monkeypatch.setattr(length, "length_within", so_many)
        monkeypatch.setattr(length, "timing_seconds", lambda _: 0.05)

    return timed


@pytest.mark.parametrize("minutes", [1, 10, 60])
def test_steps_evaluations_and_checkpoints_fill_the_minutes(minutes: float) -> None:
    costs = Costs(step=0.5, evaluation=6.0, save=0.2)
    found = length_within(asked(train_minutes=minutes), STEPS, costs, spent=5.0)
    steps = round(found.epochs * 40)
    assert found.eval_every is not None
    evaluations = 1 + -(-steps // STEPS.evaluation_steps(found.eval_every))
    epochs = -(-steps // 40)
    assert 0.9 * 60 * minutes < 5 + seconds(steps, evaluations, epochs, costs) <= 60 * minutes
    assert evaluations * costs.evaluation <= 0.1 * 60 * minutes + 2 * costs.evaluation
    assert found.source == f"{minutes} minute{'s' if minutes > 1 else ''} at 2 steps/s measured on this machine"


def test_given_evaluations_are_kept_and_their_time_is_counted() -> None:
    costs = Costs(step=0.5, evaluation=6.0, save=0.0)
    found = length_within(asked(train_minutes=10, eval_every=1), STEPS, costs, spent=0.0)
    steps = round(found.epochs * 40)
    assert found.eval_every is None
    assert 570 < seconds(steps, 1 + -(-steps // 40), 0, costs) <= 600


def test_less_than_an_epoch_is_a_run_too() -> None:
    large = Plan(images_per_step=32, steps_per_epoch=62_500, total_steps=62_500)
    found = length_within(asked(train_minutes=60), large, Costs(step=1.0, evaluation=20.0, save=1.0), spent=15.0)
    assert 0.04 < found.epochs < 0.0575
    settled = settle(asked(train_minutes=60), num_images=2_000_000, length=found).settings
    steps = plan(settled, num_images=2_000_000)
    assert steps.total_steps == round(found.epochs * 62_500)
    assert num_evaluations(settled, steps) == 11
    assert settled.optimizer.warmup_epochs == pytest.approx(0.1 * found.epochs, rel=1e-3)


def test_minutes_that_are_over_before_the_first_step_are_refused_with_what_takes_them() -> None:
    with pytest.raises(SettingsError, match=r"no step fits into 0\.1 minutes: to get ready takes 5 s, .* 12 s, and"):
        length_within(asked(train_minutes=0.1), STEPS, Costs(step=0.5, evaluation=6.0, save=0.0), spent=5.0)


def test_the_steps_and_where_they_are_from_are_recorded(train: Any, timed: Any, recorder: Any) -> None:
    timed(7)
    reporter = recorder()
    run = train(epochs="auto", train_minutes=1, reporter=reporter).run_dir
    params, state = read_params(run), load_checkpoint(run).state
    assert (params["total_steps"], params["epochs"], state["steps_done"]) == (7, 7 / 3, 7)
    assert params["settings"]["train_minutes"] == 1
    assert params["origins"]["epochs"] == state["origins"]["epochs"]
    assert params["origins"]["epochs"].startswith("auto: 1 minute at ")
    assert any(text.endswith("on this machine: 7 steps") for text in reporter.said)


def test_a_run_that_is_given_minutes_is_the_run_of_so_many_epochs(train: Any, timed: Any) -> None:
    timed(7)
    run = train("minutes", epochs="auto", train_minutes=1, vit_weight_init="layout").run_dir
    other = train("epochs", epochs=read_params(run)["epochs"], vit_weight_init="layout").run_dir
    assert first_difference(run, other) == ""
    assert load_checkpoint(other).state["steps_done"] == 7


def test_a_resumed_run_keeps_its_steps_and_times_nothing(
    train: Any, timed: Any, recorder: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pictures: Path, tiny: Any
) -> None:
    timed(7)
    whole = train("whole", epochs="auto", train_minutes=1).run_dir
    with pytest.raises(Exception, match="SIGTERM at step 4 of 7"):
        train("stopped", epochs="auto", train_minutes=1, reporter=recorder(stop_at=4))
    monkeypatch.setattr(length, "measure_speed", None)
    stopped = tmp_path / "stopped"
    flags = {**tiny, "train_dir": str(pictures), "output_dir": str(stopped), "resume_from": "auto"}
    same = load_settings("hands", flags={**flags, "epochs": "auto", "train_minutes": 1})
    assert pretrain(same.settings, origins=same.origins).steps == 7  # the same command again
    assert first_difference(whole, stopped) == ""
    with pytest.raises(ChangeRefusedError, match=r"minutes become steps when a run starts: .* --epochs N"):
        resume(stopped, flags={"train_minutes": 2})
    assert resume(stopped, flags={"epochs": 3}).steps == 9


def test_the_loss_of_an_epoch_that_goes_on_after_a_resume_is_that_of_all_its_steps(train: Any) -> None:
    run = train(epochs=7 / 3).run_dir
    resume(run, flags={"epochs": 3})
    rows = list(read_metrics(run))
    losses = [row["loss"] for row in rows if row["context"] == "train_step"]
    epochs = [(row["epoch"], row["loss"]) for row in rows if row["context"] == "train_epoch"]
    assert [number for number, _ in epochs] == [1, 2, 3, 3]
    assert epochs[2][1] == pytest.approx(losses[6])
    assert epochs[3][1] == pytest.approx(sum(losses[6:]) / 3)


def test_evaluations_amid_an_epoch_can_be_best_by_accuracy_only(train: Any, draw: Any, tmp_path: Path) -> None:
    for label in ("a", "b"):
        draw(tmp_path / "val" / label, 4, seed=ord(label))
    with_labels = train("labels", epochs=2, eval_every=1 / 3, val_dir=str(tmp_path / "val")).run_dir
    without = train("none", epochs=2, eval_every=1 / 3).run_dir

    def epochs(run: Path, context: str) -> list[float]:
        return [record["epoch"] for record in read_metrics(run) if record["context"] == context]

    assert epochs(with_labels, "eval") == [0, 0.3333, 0.6667, 1, 1.333, 1.667, 2]
    assert epochs(with_labels, "train_best")[0] == 0.3333
    assert epochs(without, "eval") == epochs(with_labels, "eval")
    assert set(epochs(without, "train_best")) <= {1, 2}


def test_a_dry_run_says_how_many_steps_the_minutes_allow(tmp_path: Path, pictures: Path, tiny: Any) -> None:
    from sltdino.pretraining.preview_text import render

    flags = {**tiny, "train_dir": str(pictures), "output_dir": str(tmp_path / "run"), "epochs": "auto"}
    settings, origins = load_settings("hands", flags={**flags, "train_minutes": 1})
    result = dry_run(settings, origins=origins, seconds=0.1)
    assert result.errors == ()
    assert result.forecast is not None
    assert result.forecast.training_seconds is not None
    assert result.forecast.evaluation_seconds is not None
    whole = result.forecast.training_seconds + result.forecast.evaluation_seconds
    assert 20 < whole < 60  # of steps this small, much of the minute is checkpoints
    text = " ".join(render(result).split())
    assert f"{result.forecast.plan.total_steps:,} steps, by 1 minute at" in text
    assert not (tmp_path / "run").exists()


def test_printed_settings_of_a_run_with_minutes_load_back(
    train: Any, timed: Any, tmp_path: Path, pictures: Path, tiny: Any
) -> None:
    timed(7)
    flags = {**tiny, "train_dir": str(pictures), "output_dir": str(tmp_path / "run"), "epochs": "auto"}
    settings, origins = load_settings("hands", flags={**flags, "train_minutes": 1})
    file = tmp_path / "settings.toml"
    file.write_text(settings_toml(planned_settings(settings, origins=origins)))
    again = load_settings("hands", files=[file]).settings
    assert (again.train_minutes, again.epochs, again.optimizer.warmup_epochs) == (1, "auto", "auto")
    run = train(epochs="auto", train_minutes=1).run_dir
    on = settings.model_copy(update={"resume_from": "must"})
    file.write_text(settings_toml(planned_settings(on, origins=origins)))
    again = load_settings("hands", files=[file]).settings
    assert (again.train_minutes, again.epochs) == (None, stored_settings(load_checkpoint(run)).epochs)


def test_the_summary_and_the_exported_metadata_have_the_part_of_an_epoch(train: Any) -> None:
    from sltdino.report.summary import summarize

    run = train(epochs=7 / 3).run_dir
    facts = json.loads(json.dumps(summarize(run)))
    assert facts["progress"]["epochs"] == 7 / 3
    assert (facts["progress"]["step"], facts["progress"]["images_seen"]) == (7, 56)
