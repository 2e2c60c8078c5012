"""Real processes, killed and signalled inside an epoch, end like one that nobody touched. Minutes."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sltdino.core.run_files import load_checkpoint, read_metrics, read_status
from tools.compare_runs import first_difference

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STEPS_PER_EPOCH, EPOCHS = 10, 4
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, draw: Any) -> Path:
    folder: Path = draw(tmp_path_factory.mktemp("images"), 4 * STEPS_PER_EPOCH)
    return folder


def arguments(images: Path, run: Path, workers: int) -> list[str]:
    return [
        *("pretrain", "hands", "--train-dir", str(images), "--output-dir", str(run), "--epochs", str(EPOCHS)),
        *("--batch-size", "4", "--num-workers", str(workers), "--log-interval", "1", "--device", "cpu"),
        *("--image-size", "16", "--local-crop-size", "8", "--num-local-crops", "2", "--patch-size", "8"),
        *("--vit-embed-dim", "16", "--vit-depth", "2", "--vit-num-heads", "2", "--vit-drop-path", "0.1"),
        *("--out-dim", "32", "--head-hidden-dim", "32", "--save-every-minutes", "0.0001"),
    ]


@contextmanager
def started(argv: list[str]) -> Iterator["subprocess.Popen[str]"]:
    """`sltdino argv` as a process group of its own, gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sltdino", *argv],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)


def saved_inside_epoch(run: Path, epoch: int) -> bool:
    """Whether a checkpoint of a step in the middle of an epoch was published."""
    if not (run / "status.json").exists():
        return False
    step = read_status(run).get("global_step", 0)
    return bool(step // STEPS_PER_EPOCH == epoch - 1 and 3 <= step % STEPS_PER_EPOCH <= 6)


def resumed(run: Path, *argv: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sltdino", "resume", str(run), *argv], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    run = tmp_path_factory.mktemp("untouched") / "run"
    with started(arguments(images, run, workers=0)) as process:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    return run


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_killed_twice_inside_epochs_ends_like_one_that_was_not(
    workers: int, untouched: Path, images: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    argv = arguments(images, run, workers)
    for epoch in (2, 3):
        with started(argv) as process:
            until(lambda epoch=epoch: saved_inside_epoch(run, epoch) or process.poll() is not None)  # type: ignore[misc]
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait(60) == -signal.SIGKILL
        progress = load_checkpoint(run).state["progress"]
        assert (progress["epoch"], progress["step_in_epoch"] > 0) == (epoch - 1, True)
        assert read_status(run)["state"] == "running"  # nobody could write that it died
        argv = ["resume", str(run)]
    assert "going on at step" in resumed(run)
    assert first_difference(untouched, run) == ""
    assert sum(record["context"] == "resume" for record in read_metrics(run)) == 2


@pytest.mark.parametrize(("workers", "to_group"), [(0, False), (2, False), (2, True)])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_printed_command_goes_on(
    number: int, code: int, workers: int, to_group: bool, untouched: Path, images: Path, tmp_path: Path
) -> None:
    run = tmp_path / "my run"
    with started(arguments(images, run, workers)) as process:
        until(lambda: saved_inside_epoch(run, 2) or process.poll() is not None)
        (os.killpg if to_group else os.kill)(process.pid, number)
        _, said = process.communicate(timeout=60)
        assert process.returncode == code, said
        until(lambda: not group_lives(process.pid), seconds=20)  # no worker is left behind
    status = read_status(run)
    assert (status["state"], status["exit_code"]) == ("stopped", code)
    last_line = said.rstrip().splitlines()[-1]
    by = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    assert last_line.startswith(f"stopped [E-STOPPED] {by} at step ")
    command = shlex.split(last_line.partition("Continue with: ")[2])
    assert command == ["sltdino", "resume", str(run)]
    done = subprocess.run([sys.executable, "-m", *command], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert first_difference(untouched, run) == ""


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_second_signal_ends_it_at_once_and_the_last_checkpoint_stands(
    untouched: Path, images: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with started(arguments(images, run, workers=0)) as process:
        until(lambda: saved_inside_epoch(run, 2) or process.poll() is not None)
        while process.poll() is None:  # more often than it can save
            process.send_signal(signal.SIGTERM)
            time.sleep(0.001)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGTERM
    resumed(run)
    assert first_difference(untouched, run) == ""


def test_a_killed_run_of_which_nothing_was_saved_is_begun_again_by_resume_auto(
    untouched: Path, images: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    argv = [*arguments(images, run, workers=0)[:-1], "1000", "--resume", "auto"]
    with started(argv) as process:
        until(lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_bytes().count(b"\n") >= 2)
        process.kill()
        process.wait(60)
    assert not (run / "checkpoint_last.pt").exists()
    with started(argv) as process:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert first_difference(untouched, run) == ""


def test_a_run_in_use_is_refused_to_a_second_process(images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with started(arguments(images, run, workers=0)) as process:
        until(lambda: saved_inside_epoch(run, 2) or process.poll() is not None)
        os.kill(process.pid, signal.SIGSTOP)  # or it might finish in the meantime
        try:
            done = subprocess.run(
                [sys.executable, "-m", "sltdino", "resume", str(run)], env=ENVIRONMENT, capture_output=True, text=True
            )
        finally:
            os.kill(process.pid, signal.SIGCONT)
        assert (done.returncode, f"pid {process.pid}" in done.stderr) == (69, True)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert json.loads((run / "status.json").read_text())["state"] == "done"
