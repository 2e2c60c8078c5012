"""Curves of any length in constant memory: the lowest, mean and highest value of a few hundred stretches of steps."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

STRETCHES = 256
"""A curve of many points has between this and twice as many stretches."""

Floats = NDArray[np.float64]


class Curve(NamedTuple):
    """One value over the steps, a number of each for every stretch; where nothing was finite, all three are NaN."""

    steps: Floats
    """The last step of the stretch."""
    low: Floats
    mean: Floats
    high: Floats

    def as_json(self) -> dict[str, list[float | None]]:
        """The same for a program, with null for NaN."""
        return {
            name: [None if value != value else round(value, 6) for value in values.tolist()]
            for name, values in self._asdict().items()
        }

    def known(self) -> "Curve":
        """The stretches that have a value."""
        there = ~np.isnan(self.mean)
        return Curve(*(values[there] for values in self))


class Curves:
    """Several values that are measured together, added in the order of their steps."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._steps: Floats = np.empty(0)
        self._width = 1.0
        self._low, self._high, self._sum, self._count = (np.empty((0, len(self._names))) for _ in range(4))

    def add(self, steps: Sequence[int], rows: Sequence[Sequence[Any]]) -> None:
        """Add a row for each step, its values in the order of the names; what is no finite number is none."""
        if not steps:
            return
        values = _numbers(rows)
        finite = np.isfinite(values)
        values[~finite] = np.nan
        self._steps = np.concatenate((self._steps, np.asarray(steps, dtype=float)))
        self._low = np.concatenate((self._low, values))
        self._high = np.concatenate((self._high, values))
        self._sum = np.concatenate((self._sum, np.where(finite, values, 0.0)))
        self._count = np.concatenate((self._count, finite.astype(float)))
        if len(self._steps) > 2 * STRETCHES:
            self._merge()

    def of(self, name: str) -> Curve:
        """The curve of one of the names."""
        at = self._names.index(name)
        with np.errstate(invalid="ignore"):
            mean = self._sum[:, at] / self._count[:, at]
        return Curve(self._steps, self._low[:, at], mean, self._high[:, at])

    def _merge(self) -> None:
        """Put together what lies in one stretch. Stretches only ever double, so each is whole stretches of before."""
        while len(starts := self._starts()) > 2 * STRETCHES:
            if self._width > self._steps.max() - self._steps.min():  # a file that is not ours: its steps go up and down
                starts = np.arange(0, len(self._steps), -(-len(self._steps) // STRETCHES))
                break
            self._width *= 2
        self._steps = self._steps[np.append(starts[1:], len(self._steps)) - 1]
        self._low = np.fmin.reduceat(self._low, starts)
        self._high = np.fmax.reduceat(self._high, starts)
        self._sum, self._count = np.add.reduceat(self._sum, starts), np.add.reduceat(self._count, starts)

    def _starts(self) -> NDArray[np.intp]:
        stretches = (self._steps - 1) // self._width
        return np.flatnonzero(np.diff(stretches, prepend=stretches[0] - 1))


def _numbers(rows: Sequence[Sequence[Any]]) -> Floats:
    try:
        return np.array(rows, dtype=float)
    except (TypeError, ValueError, OverflowError):  # something else than a number, in a file that others changed
        return np.array([[number(value) for value in row] for row in rows], dtype=float)


def number(value: object) -> float | None:
    """The value where it is a finite number, else None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    return float(value) if is_number else None  # type: ignore[arg-type]
