"""What a person sees while a run goes on: a Rich bar on a terminal, one plain line every few seconds elsewhere."""

import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from sltdino.core.settings_schema import printable

PLAIN_LINE_SECONDS = 10.0


class Reporter(Protocol):
    """Told what happens; decides what to show."""

    def say(self, text: str) -> None:
        """One line worth reading."""

    def step(self, step: int, total_steps: int, metrics: Mapping[str, Any]) -> None:
        """A logged step."""

    def close(self) -> None:
        """Nothing comes after."""


class Silent:
    """Shows nothing: how the library reports unless asked otherwise."""

    def say(self, text: str) -> None:
        """Nothing."""

    def step(self, step: int, total_steps: int, metrics: Mapping[str, Any]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class PlainLines:
    """Lines for logs and pipes, at most one progress line in `PLAIN_LINE_SECONDS`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown_at = float("-inf")

    def say(self, text: str) -> None:
        """Print the line."""
        print(printable(text), file=self._stream, flush=True)

    def step(self, step: int, total_steps: int, metrics: Mapping[str, Any]) -> None:
        """Print a progress line when it is time, and for the last step."""
        now = time.monotonic()
        if now - self._shown_at >= PLAIN_LINE_SECONDS or step == total_steps:
            self._shown_at = now
            self.say(f"step {step}/{total_steps}  {describe(metrics)}")

    def close(self) -> None:
        """Nothing is held."""


class Bar:
    """A Rich progress bar on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn("step"), MofNCompleteColumn(), BarColumn(bar_width=20), TextColumn("{task.description}"),
            console=Console(stderr=True, highlight=False, markup=False),
        )  # fmt: skip
        self._task = self._progress.add_task("", total=None)
        self._progress.start()

    def say(self, text: str) -> None:
        """Print the line above the bar."""
        self._progress.console.print(printable(text), soft_wrap=True)

    def step(self, step: int, total_steps: int, metrics: Mapping[str, Any]) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=step, total=total_steps, description=describe(metrics))

    def close(self) -> None:
        """Leave the last state of the bar on the screen."""
        self._progress.stop()


def reporter_for_terminal(*, quiet: bool = False) -> Reporter:
    """A bar where standard error is a terminal that can move its cursor, else plain lines."""
    from rich.console import Console

    if quiet:
        return Silent()
    console = Console(stderr=True)
    return Bar() if console.is_terminal and not console.is_dumb_terminal else PlainLines(sys.stderr)


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


def duration(seconds: float) -> str:
    """`42 s`, `3:05 min` or `1:02:03 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d} h"
