"""Axes of a chart: from values to places along it, and the round numbers that are written on it."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

_MOST_TICKS = 6
_STEPS = (1, 2, 5, 10)
_MARGIN = 0.04
"""Of the range, so that a line does not run along the frame."""


class Axis(NamedTuple):
    """A range of values on a length."""

    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """0 at `low`, 1 at `high`. On a logarithmic axis, what is not positive lies at its foot."""
        if self.log:
            value = math.log10(max(value, self.low))
            low, high = math.log10(self.low), math.log10(self.high)
        else:
            low, high = self.low, self.high
        return (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round numbers inside, at most 6 of them on a linear axis and 8 on a logarithmic one."""
        return _decades(self.low, self.high) if self.log else _even(self.low, self.high)


def axis(values: Iterable[float], *, log: bool = False, margin: float = _MARGIN) -> Axis:
    """The axis that holds all the values. Where they are one, or none, it has a width all the same."""
    shown = [value for value in values if value > 0 or not log]
    low, high = (min(shown), max(shown)) if shown else (1.0, 1.0)
    if log:
        spread = max((high / low) ** margin, 1.05)
        return Axis(low / spread, high * spread, True)
    spread = (high - low) * margin or abs(high) * 0.1 or 1.0
    return Axis(low - spread, high + spread)


def label(value: float, ticks: Sequence[float]) -> str:
    """A number beside a tick, with as many digits as tell it from the next one: `12k`, `0.250`, `1e-5`."""
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e4:
        gaps = [abs(after - before) for before, after in pairwise(ticks)] or [abs(value)]
        if max(gaps) > 1.5 * min(gaps):  # of a logarithmic axis
            return f"{value:.6g}"
        digits = max(0, -math.floor(math.log10(min(gaps)) + 1e-9))
        return f"{value:,.{digits}f}"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size <= abs(value) < 1000 * size:
            return f"{value / size:.10g}{unit}"
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def _even(low: float, high: float) -> list[float]:
    rough = (high - low) / _MOST_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in _STEPS if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first >= 2:
        stride = math.ceil((last - first + 1) / _MOST_TICKS)
        return [10.0**power for power in range(first, last + 1, stride)]
    for factors in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        between = [factor * 10.0**power for power in range(first - 1, last + 1) for factor in factors]
        inside = [float(f"{value:.12g}") for value in between if low <= value <= high]
        if len(inside) >= 3:
            return inside
    return _even(low, high)
