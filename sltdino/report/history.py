"""The numbers that a run logged, read once in constant memory: means of as many steps as a chart has room for."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sltdino.core.run_files import read_metrics, read_names

ROOM = 400
"""Points of a line at most. A chart is that many pixels wide, or less."""
_MOST_FIELDS = 100
_LARGEST = 1e300
_TIMES = {"step", "epoch", "epoch_step", "eta_seconds"}


class Point(NamedTuple):
    """What was logged in one or more steps that follow each other."""

    step: float
    """The mean step."""
    value: float
    """The mean value."""
    low: float
    high: float
    records: int
    """How many it stands for."""


class Span(NamedTuple):
    """Steps with one verdict other than healthy."""

    name: str
    first: int
    last: int


class Resume(NamedTuple):
    """Where a run went on after a stop."""

    step: int
    checkpoint: str


class Series:
    """A line that grows at its end and never has more than `ROOM` points: full, it halves its resolution."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._per_point = 1
        self._open: Point | None = None

    def add(self, step: float, value: float) -> None:
        """Take in one record."""
        self._open = _merged(self._open, Point(step, value, value, value, 1))
        if self._open.records < self._per_point:
            return
        self.points.append(self._open)
        self._open = None
        if len(self.points) == ROOM:
            self._per_point *= 2
            pairs = zip(self.points[::2], self.points[1::2], strict=True)
            self.points = [_merged(one, other) for one, other in pairs]

    def all(self) -> list[Point]:
        """The points, with what has not filled one yet."""
        return [*self.points, self._open] if self._open else self.points


class History(NamedTuple):
    """What the charts of a run are drawn from."""

    steps: dict[str, list[Point]]
    """By field of the `train_step` records."""
    evaluations: dict[str, list[Point]]
    """By field of the `eval` records."""
    epochs: list[tuple[int, int]]
    """Epochs that ended and their last steps, thinned out where there are many."""
    resumes: list[Resume]
    spans: list[Span]
    """Where the run was not healthy."""
    last_step: int


def read_history(run: Path) -> History:
    """Everything that a run logged, without its lock: the run may be going on.

    Raises:
        RunFolderError: params.json is damaged. StorageError: the records cannot be read.
    """
    steps: dict[str, Series] = {}
    evaluations: dict[str, Series] = {}
    epochs: list[tuple[int, int]] = []
    resumes: list[Resume] = []
    spans: list[Span] = []
    last_step = 0
    for record in read_metrics(run, read_names(run).history_file):
        step = number(record.get("step"))
        if step is None:
            continue
        last_step = int(step)
        match record.get("context"):
            case "train_step":
                _add_all(steps, step, record)
                _extend(spans, last_step, record.get("health"))
            case "eval":
                _add_all(evaluations, step, record)
            case "train_epoch" if (epoch := number(record.get("epoch"))) is not None:
                epochs.append((int(epoch), last_step))
                epochs = epochs[1::2] if len(epochs) > 2 * ROOM else epochs
            case "resume":
                resumes.append(Resume(last_step, str(record.get("checkpoint", ""))))
    lines, measured = ({key: series.all() for key, series in kind.items()} for kind in (steps, evaluations))
    return History(lines, measured, epochs, resumes, [span for span in spans if span.name], last_step)


def number(value: object) -> float | None:
    """A finite number as such; None for anything else that may stand in a record."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -_LARGEST < value < _LARGEST and not math.isnan(value) else None


def _add_all(lines: dict[str, Series], step: float, record: Mapping[str, Any]) -> None:
    for key, value in record.items():
        found = number(value) if key not in _TIMES else None
        if found is not None and (key in lines or len(lines) < _MOST_FIELDS):
            lines.setdefault(key, Series()).add(step, found)


def _extend(spans: list[Span], step: int, health: object) -> None:
    """Go on with the last span, or begin one; a healthy stretch is a span without a name."""
    name = health if isinstance(health, str) and health != "healthy" else ""
    if spans and spans[-1].name == name:
        spans[-1] = spans[-1]._replace(last=step)
    else:
        spans.append(Span(name, step, step))


def _merged(one: Point | None, other: Point) -> Point:
    if one is None:
        return other
    records = one.records + other.records
    shares = one.records / records, other.records / records
    return Point(
        one.step * shares[0] + other.step * shares[1],
        one.value * shares[0] + other.value * shares[1],
        min(one.low, other.low),
        max(one.high, other.high),
        records,
    )
