"""What the charts of a run are drawn from: its curves, its evaluations, and what happened when."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from sltdino.report.curves import Curve, number
from sltdino.report.digest import CURVES, Digest
from sltdino.training.health import STARTING

_TIMES = {"step", "epoch"}


class Point(NamedTuple):
    """A value of one or more steps that follow each other."""

    step: float
    """The last of them."""
    value: float
    """Their mean."""
    low: float
    high: float


class Span(NamedTuple):
    """Steps with a finding."""

    name: str
    first: int
    last: int


class History(NamedTuple):
    """The numbers of a run over its steps."""

    steps: Mapping[str, Sequence[Point]]
    """By field of the `train_step` records; fields without a number are left out."""
    evaluations: Mapping[str, Sequence[Point]]
    """By field of the `eval` records."""
    epochs: Sequence[tuple[int, int]]
    """Epochs that ended and their last steps."""
    resumes: Sequence[int]
    """Steps at which the run went on after a stop."""
    interventions: Sequence[int]
    """Steps at which the run changed its settings against a collapse."""
    spans: Sequence[Span]
    """Where the watch found something, in order."""


def history_of(digest: Digest) -> History:
    """The history that a digest has read so far."""
    curves = {name: points_of(digest.curve(name)) for name in CURVES}
    last_step = number(digest.step.get("step")) or 0
    spans = [Span(past.name, past.since_step, past.until_step) for past in digest.past]
    spans += [
        Span(found.name, digest.since(found), int(last_step)) for found in digest.findings if found.name != STARTING
    ]
    return History(
        {name: points for name, points in curves.items() if points},
        _measured(digest.evaluations),
        digest.epoch_ends,
        [record["step"] for record in digest.resumes],
        sorted({record["step"] for record in digest.interventions}),
        sorted(spans, key=lambda span: span.first),
    )


def interventions_told(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each time that a run changed its settings: when, against what, and from what to what."""
    for step, rows in groupby(records, key=lambda record: record["step"]):
        changes = list(rows)
        told = ", ".join(f"{row.get('knob')} {_shown(row.get('old'))} -> {_shown(row.get('new'))}" for row in changes)
        yield f"at step {step:,} against {changes[0].get('finding')}: {told}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "?" if (known := number(value)) is None else f"{known:g}"


def points_of(curve: Curve) -> list[Point]:
    """The stretches of a curve that have a value."""
    known = curve.known()
    columns = (known.steps, known.mean, known.low, known.high)
    return [Point(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _measured(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    for record in records:
        for key, value in record.items():
            if key not in _TIMES and (measured := number(value)) is not None:
                found.setdefault(key, []).append(Point(record["step"], measured, measured, measured))
    return found
