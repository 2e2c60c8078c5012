"""What a person sees while a run goes on: a Rich bar on a terminal, one plain line every few seconds elsewhere."""

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol, TextIO

from sltdino.core.settings_schema import printable
from sltdino.core.terminal import takes_a_bar
from sltdino.report.text.page import duration

PLAIN_LINE_SECONDS = 10.0


class Reporter(Protocol):
    """Told what happens; decides what to show."""

    def say(self, text: str) -> None:
        """One line worth reading."""

    def warn(self, text: str) -> None:
        """A line that should not be missed, shown as `warning: text`."""

    def detail(self, text: str) -> None:
        """A line for those who asked for everything."""

    def step(self, step: int, total_steps: int, metrics: Mapping[str, Any]) -> None:
        """A logged step."""

    def close(self) -> None:
        """Nothing comes after."""


class Silent:
    """Shows nothing: how the library reports unless asked otherwise."""

    def say(self, text: str) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        """Nothing; the run folder's notices have it."""

    def detail(self, text: str) -> None:
        """Nothing."""

    def step(self, step: int, total_steps: int, metrics: Mapping[str, Any]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class PlainLines:
    """Lines for logs and pipes, at most one progress line in `PLAIN_LINE_SECONDS`.

    A reader that has gone, or a log on a full disk, ends the lines and not the run, whose metrics are in its folder.

    Args:
        stream: None, as Python has it for a closed standard error, takes nothing.
        quiet: warnings only.
        verbose: details and every logged step too.
    """

    def __init__(self, stream: TextIO | None, *, quiet: bool = False, verbose: bool = False) -> None:
        self._stream, self._quiet, self._verbose = stream, quiet, verbose
        self._shown_at = float("-inf")

    def say(self, text: str) -> None:
        """Print the line, unless quiet."""
        if not self._quiet:
            self._print(text)

    def warn(self, text: str) -> None:
        """Print the line."""
        self._print(f"warning: {text}")

    def detail(self, text: str) -> None:
        """Print the line when verbose."""
        if self._verbose:
            self._print(text)

    def step(self, step: int, total_steps: int, metrics: Mapping[str, Any]) -> None:
        """Print a progress line when it is time, and for the last step."""
        now = time.monotonic()
        if self._verbose or now - self._shown_at >= PLAIN_LINE_SECONDS or step == total_steps:
            self._shown_at = now
            self.say(f"step {step}/{total_steps}  {describe(metrics)}")

    def close(self) -> None:
        """Nothing is held."""

    def _print(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            print(printable(text), file=self._stream, flush=True)
        except OSError:
            self._stream = None


class Bar:
    """A Rich progress bar on a terminal. The cursor stays visible, so that even a killed run leaves it so."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.table import Column

        console = Console(stderr=True, highlight=False, markup=False)
        rest = Column(
            ratio=1, no_wrap=True, overflow="ellipsis"
        )  # so that a narrow terminal cuts this and not the step
        self._progress = Progress(
            TextColumn("step"), MofNCompleteColumn(), BarColumn(bar_width=max(4, min(20, console.width // 8))),
            TextColumn("{task.description}", table_column=rest), console=console, expand=True,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=None)
        self._is_started = False

    def say(self, text: str) -> None:
        """Print the line above the bar."""
        with suppress(OSError):  # the terminal has gone; SIGHUP says so to the run
            self._progress.console.print(printable(text), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print the line above the bar."""
        self.say(f"warning: {text}")

    def detail(self, text: str) -> None:
        """Nothing."""

    def step(self, step: int, total_steps: int, metrics: Mapping[str, Any]) -> None:
        """Move the bar; the first step shows it, so that what fails before leaves none."""
        with suppress(OSError):
            if not self._is_started:
                self._is_started = True
                self._progress.start()
                self._progress.console.show_cursor(True)
            self._progress.update(self._task, completed=step, total=total_steps, description=describe(metrics))

    def close(self) -> None:
        """Leave the last state of the bar on the screen."""
        with suppress(OSError):
            if self._is_started:
                self._progress.stop()


def reporter_for_terminal(*, quiet: bool = False, verbose: bool = False) -> Reporter:
    """A bar where standard error is a terminal that may be painted on, else plain lines; lines too when verbose."""
    if not quiet and not verbose and takes_a_bar(sys.stderr, os.environ):
        return Bar()
    return PlainLines(sys.stderr, quiet=quiet, verbose=verbose)


def describe(metrics: Mapping[str, Any]) -> str:
    """A logged step in a line: how far, how fast, how well."""
    parts = [
        f"epoch {metrics['epoch']}",
        f"loss {metrics['loss']:.3f}",
        f"cls {metrics['loss_cls']:.2f} of {metrics['loss_cls'] + metrics['loss_gap']:.2f}",
        f"{metrics['images_per_second']:.0f} images/s",
        f"{duration(metrics['eta_seconds'])} left",
    ]
    if metrics["data_wait"] > 0.2:
        parts.append(f"waiting for data {metrics['data_wait']:.0%}")
    if metrics["health"] != "healthy":
        parts.append(metrics["health"])
    return "  ".join(parts)
