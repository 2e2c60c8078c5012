"""What is said while a run goes on."""

import contextlib
import io
import os
import pty
import re
import sys
import time
from collections.abc import Callable
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


class Screen:
    """The other end of a terminal: what was written so far, however it was cut into pieces."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self.text = b""

    def wait_for(self, is_there: Callable[[bytes], bool]) -> bytes:
        deadline = time.monotonic() + 30
        while not is_there(self.text):
            assert time.monotonic() < deadline, self.text
            with contextlib.suppress(BlockingIOError):
                self.text += os.read(self._descriptor, 1 << 16)
            time.sleep(0.01)
        return self.text


def test_the_bar_keeps_the_step_on_a_narrow_terminal_and_never_hides_the_cursor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0), os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("COLUMNS", "40")
        monkeypatch.setenv("TERM", "xterm")
        screen = Screen(ours)
        bar = Bar()
        bar.step(2, 4, METRICS)
        # killed from here on, it is seen
        screen.wait_for(lambda text: -1 < text.rfind(b"\x1b[?25l") < text.rfind(b"\x1b[?25h"))
        bar.step(3, 4, METRICS)
        bar.close()
        terminal.flush()
        shown = screen.wait_for(lambda text: b"3/4" in text and b"\n" in text[text.rfind(b"3/4") :])
    lines = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode().split("\r")
    assert max(map(len, lines)) <= 41
    assert any(line.startswith("step 3/4") and line.endswith("…") for line in lines)


def test_what_fails_before_the_first_step_leaves_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0), os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        screen = Screen(ours)
        bar = Bar()
        bar.say("said")
        bar.close()
        print("end", file=terminal, flush=True)
        shown = screen.wait_for(lambda text: b"end" in text)
    assert shown.split() == [b"said", b"end"]
