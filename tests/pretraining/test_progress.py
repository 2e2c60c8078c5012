"""What is said while a run goes on."""

import io
import os
import pty
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from sltdino.pretraining.progress import Bar, PlainLines

METRICS = {"epoch": 1, "loss": 1.0, "loss_cls": 1.0, "loss_gap": 1.0, "images_per_second": 10.0, "eta_seconds": 5.0,
           "data_wait": 0.0, "health": "healthy"}  # fmt: skip


def talk(reporter: PlainLines) -> None:
    reporter.say("said")
    reporter.warn("odd")
    reporter.detail("fine print")
    for step in (1, 2, 3):
        reporter.step(step, 4, METRICS)


@pytest.mark.parametrize(
    ("options", "starts"),
    [
        ({}, ["said", "warning: odd", "step 1/4"]),
        ({"quiet": True}, ["warning: odd"]),
        ({"verbose": True}, ["said", "warning: odd", "fine print", "step 1/4", "step 2/4", "step 3/4"]),
    ],
)
def test_quiet_leaves_warnings_and_verbose_leaves_nothing_out(options: dict[str, bool], starts: list[str]) -> None:
    stream = io.StringIO()
    talk(PlainLines(stream, **options))
    assert [line.partition("  ")[0] for line in stream.getvalue().splitlines()] == starts


def test_a_run_does_not_end_because_the_reader_of_its_log_has(train: Any) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as log:
        assert train(reporter=PlainLines(log)).steps == 6
        with pytest.raises(BrokenPipeError):  # so it was broken indeed
            print("x", file=log)
        os.dup2(os.open(os.devnull, os.O_WRONLY), log.fileno())


def test_settled_values_are_told_with_what_they_follow_from(train: Any) -> None:
    stream = io.StringIO()
    train(reporter=PlainLines(stream, verbose=True))
    assert "loss.use_sinkhorn = True (auto: 24 images)" in stream.getvalue().splitlines()


def test_only_the_first_bad_images_are_warnings(train: Any, own_pictures: Path) -> None:
    for number in range(7):
        (own_pictures / f"{number}.png").write_bytes(b"")
    shown: dict[bool, list[str]] = {}
    for verbose in (False, True):
        stream = io.StringIO()
        train(
            f"run{verbose}", images=own_pictures, dataset_max_bad_fraction=0.5,
            reporter=PlainLines(stream, verbose=verbose),
        )  # fmt: skip
        shown[verbose] = [line for line in stream.getvalue().splitlines() if "skipped" in line]
    assert len(shown[False]) == 5
    assert shown[False][4].endswith("; further ones are listed in bad_images.jsonl")
    assert len(shown[True]) == 7


def test_the_bar_keeps_the_step_on_a_narrow_terminal_and_never_hides_the_cursor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen, os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("COLUMNS", "40")
        monkeypatch.setenv("TERM", "xterm")
        bar = Bar()
        started = screen.read(1 << 16)
        assert started.rfind(b"\x1b[?25l") < started.rfind(b"\x1b[?25h")  # killed from here on, it is seen
        bar.step(3, 4, METRICS)
        bar.close()
        terminal.flush()
        lines = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", screen.read(1 << 16)).decode().split("\r")
    assert max(map(len, lines)) <= 41
    assert any(line.startswith("step 3/4") and line.endswith("…") for line in lines)
