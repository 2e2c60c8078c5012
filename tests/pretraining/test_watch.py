"""The watch over real runs: trained with settings that cause what it is to find, and with some that do not."""

import json
import math
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sltdino.cli import app
from sltdino.core.run_files import load_checkpoint, read_metrics, read_params, read_status
from sltdino.data.synthetic import write_demo_crops
from sltdino.errors import CollapsedError, StoppedError
from sltdino.pretraining import resume
from sltdino.report.summary import summarize
from sltdino.training.health import COLLAPSES, watch_of
from tools.compare_runs import first_difference

CROPS = {"aug_rotation": 0.0, "aug_solarize_prob": "dino"}
"""What the settings below were found to go wrong with; from crops as few images have them some learn something."""
SMALL = {**CROPS, "epochs": 6, "pseudo_epochs": 5, "batch_size": 16, "log_interval": 2, "vit_depth": 1, "out_dim": 64,
         "head_hidden_dim": 64, "head_bottleneck_dim": 16, "num_local_crops": 0, "on_collapse": "ignore"}  # fmt: skip
"""20 steps an epoch on 64 images: 120 steps, of which the first 100 are not judged."""
CENTERED = {"use_sinkhorn": False, "standardize_teacher": False}
ONE_POINT = {**CENTERED, "teacher_temp": 0.01, "center_momentum": 0.9999, "learning_rate": 0.01, "koleo_weight": 0.0}
UNIFORM = {**CENTERED, "teacher_temp": 0.3, "teacher_temp_start": 0.3}

Train = Callable[..., Any]


@pytest.fixture(scope="session")
def hands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 drawn hands of 32 pixels."""
    drawn, small = tmp_path_factory.mktemp("drawn"), tmp_path_factory.mktemp("hands")
    write_demo_crops("hands", drawn, count=64, seed=0)
    for number, file in enumerate(sorted(drawn.rglob("*.jpg"))):
        Image.open(file).resize((32, 32)).save(small / f"{number}.png")
    return small


@pytest.fixture(scope="module")
def trained(
    train_in: Train, hands: Path, recorder: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Path, list[str]]]:
    """Train on the hands, once for the same flags; the run's folder, to read only, and what was said of its health."""
    known: dict[str, tuple[Path, list[str]]] = {}

    def trained(**flags: Any) -> tuple[Path, list[str]]:
        if (key := repr(sorted(flags.items()))) not in known:
            reporter, folder = recorder(), tmp_path_factory.mktemp("trained")
            run = train_in(folder / "run", images=hands, reporter=reporter, **{**SMALL, **flags}).run_dir
            known[key] = run, [text for text in reporter.said if "step " in text and "starved" not in text]
        return known[key]

    return trained


@pytest.fixture
def watched(trained: Any, tmp_path: Path) -> Callable[..., tuple[Path, list[str]]]:
    """As `trained`, with a copy of the folder, to change."""

    def watched(**flags: Any) -> tuple[Path, list[str]]:
        run, said = trained(**flags)
        return shutil.copytree(run, tmp_path / "run"), said

    return watched


def steps(run: Path) -> list[dict[str, Any]]:
    return [record for record in read_metrics(run) if record["context"] == "train_step"]


def verdicts(run: Path) -> set[str]:
    return {record["health"] for record in steps(run)}


def test_a_teacher_that_is_too_warm_ends_in_uniform_collapse(watched: Any) -> None:
    run, said = watched(**UNIFORM)
    assert steps(run)[-1]["target_entropy"] > 0.99 * math.log(64)
    assert verdicts(run) & COLLAPSES == {"uniform collapse"}
    warning, withdrawn = [text for text in said if text.startswith("warning")]
    assert warning.startswith("warning: step 102: uniform collapse: teacher entropy is 4.16 of ln 64 = 4.16 since step")
    assert "lower --teacher-temp from 0.3 to 0.07" in warning
    assert "is no longer the best" in withdrawn
    assert summarize(run)["health"]["verdict"] == "uniform collapse"


def test_sharp_targets_without_a_center_end_in_one_point_collapse(watched: Any) -> None:
    run, said = watched(**ONE_POINT)
    assert steps(run)[-1]["loss_cls"] < 0.01  # a loss that looks splendid
    assert verdicts(run) & COLLAPSES == {"one-point collapse"}
    [warning] = [text for text in said if text.startswith("warning")]
    assert "one-point collapse: all images share a prototype" in warning
    assert "lower --center-momentum from 0.9999 to 0.9" in warning


def test_a_student_that_does_not_move_is_found_although_its_standardized_targets_are_sharp(watched: Any) -> None:
    run, said = watched(learning_rate=1e-7)
    assert steps(run)[-1]["target_entropy"] < 0.7 * math.log(64)
    assert verdicts(run) & COLLAPSES == {"uniform collapse"}
    warning, withdrawn = [text for text in said if text.startswith("warning")]
    assert "raise --learning-rate from 1e-07 to 0.00035" in warning
    assert "is no longer the best" in withdrawn


def test_a_head_too_large_for_an_unbalanced_teacher_has_dead_prototypes(watched: Any) -> None:
    run, said = watched(**CENTERED, out_dim=1024, teacher_temp=0.04, koleo_weight=0.0, epochs=9)
    assert "dead prototypes" in verdicts(run)
    assert all(
        record["prototypes_used"] < 0.05 * 1024 for record in steps(run) if record["health"] == "dead prototypes"
    )
    assert any("or start anew with what few images need: --standardize-teacher --use-sinkhorn" in text for text in said)


def test_steps_that_are_suddenly_huge_are_a_loss_spike(watched: Any, recorder: Any) -> None:
    run, _ = watched()
    reporter = recorder()
    flags = {"epochs": 7, "learning_rate": 5.0, "warmup_epochs": 0.0, "clip_grad_norm": 0.0, "min_learning_rate": 1.0}
    resume(run, flags=flags, allow_change=[*flags], reporter=reporter)
    assert verdicts(run) & {"loss spike"} == {"loss spike"}
    assert min(record["step"] for record in steps(run) if record["health"] == "loss spike") > 120
    assert any("loss spike: the loss is" in text and "lower --learning-rate from 5 " in text for text in reporter.said)


def test_what_begins_and_ends_is_said_once(watched: Any, recorder: Any) -> None:
    run, said = watched(learning_rate=1e-7)
    assert len([text for text in said if text.startswith("warning") and "uniform collapse:" in text]) == 1
    reporter = recorder()
    flags = {"epochs": 9, "learning_rate": 1e-3, "warmup_epochs": 0.0}
    resume(run, flags=flags, allow_change=[*flags], reporter=reporter)
    told = [text for text in reporter.said if "uniform collapse" in text]
    assert len(told) == 1
    assert "uniform collapse is over; it began at step" in told[0]


def test_inspect_finds_in_the_records_what_the_loop_found_while_training(watched: Any) -> None:
    run, _ = watched(**ONE_POINT)
    watch = watch_of(read_params(run))
    assert watch is not None
    for record in steps(run):
        findings = watch.feed(record["step"], record)
        assert record["health"] == (findings[0].name if findings else "healthy")


def test_a_resumed_run_judges_and_counts_as_the_uninterrupted_one(train: Train, recorder: Any) -> None:
    long = {"epochs": 10, "pseudo_epochs": 4, "log_interval": 4, "on_collapse": "ignore", **UNIFORM, **CROPS}
    whole = train("whole", **long).run_dir
    with pytest.raises(StoppedError):
        train("stopped", reporter=recorder(stop_at=56), **long)  # in an epoch, and in the grace
    resume(whole.parent / "stopped")
    assert "uniform collapse" in verdicts(whole)
    counted = [record["step"] for record in steps(whole) if "prototypes_used" in record]
    assert (counted[0], counted[-1]) == (16, 120)  # 16 steps are 8 targets for each of 32 prototypes
    assert first_difference(whole, whole.parent / "stopped") == ""


def test_a_collapse_that_lasts_ends_the_run_saved_with_code_3(
    train: Train, hands: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CollapsedError, match=r"^one-point collapse at step 20\d of 240: .* saved\. What may help") as e:
        train(images=hands, **{**SMALL, **ONE_POINT, "epochs": 12, "on_collapse": "stop"})
    run = Path(str(e.value).rpartition("sltdino resume ")[2].split(" --on-collapse")[0])
    status, step = read_status(run), load_checkpoint(run).state["steps_done"]
    assert (status["state"], status["exit_code"], status["message"]) == ("stopped", 3, str(e.value))
    assert step == steps(run)[-1]["step"] >= 200
    best = load_checkpoint(run, which="best").state["progress"]
    assert all(row["assignment_entropy"] > 0.2 for row in steps(run) if row["step"] == best["global_step"])
    records = (run / "metrics.jsonl").read_bytes()
    for _ in range(2):
        assert app.main(["resume", str(run)]) == 3
        error = capsys.readouterr().err
        assert "error [E-COLLAPSED] one-point collapse" in error
        assert "nothing that would help has changed, so no step was made" in error
    assert (load_checkpoint(run).state["steps_done"], (run / "metrics.jsonl").read_bytes()) == (step, records)
    [command] = re.findall(r"To go on with that: sltdino (resume .*) ; To go on as it is", " ".join(error.split()))
    changed = shutil.copytree(run, run.parent / "changed")
    assert app.main(shlex.split(command.replace(str(run), str(changed)))) == 0
    assert read_params(changed)["settings"]["loss"]["center_momentum"] == 0.9
    assert resume(run, flags={"on_collapse": "ignore"}).steps == 240


def test_a_run_whose_loss_alone_stays_up_has_half_its_steps_to_begin(train: Train, hands: Path) -> None:
    slow = {**SMALL, "learning_rate": 1e-7, "epochs": 12, "on_collapse": "stop"}
    with pytest.raises(CollapsedError, match=r"^uniform collapse at step 220 of 240: the loss stays at"):
        train(images=hands, **slow)


def test_what_the_loader_did_is_no_difference_between_two_runs(finished: Path, finished_once: Path) -> None:
    def called(health: str) -> str:
        rows = [row | ({"health": health} if "health" in row else {}) for row in read_metrics(finished_once)]
        (finished / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return first_difference(finished, other)

    other = shutil.copytree(finished, finished.parent / "other")
    called("healthy")
    shutil.copy(finished / "metrics.jsonl", other)
    assert called("starved loader") == ""
    assert "'uniform collapse' and 'healthy'" in called("uniform collapse")
