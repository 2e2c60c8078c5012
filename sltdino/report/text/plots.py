"""Curves drawn with characters: Braille dots and blocks, or ASCII where a terminal or a file cannot show those."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from sltdino.report.curves import Curve, Floats

_RULE_EVERY = 3  # dots of a line across are so far apart, so that it is no curve


class Glyphs(NamedTuple):
    """The characters of one alphabet."""

    levels: str
    """From low to high."""
    full: str
    empty: str
    axis: str
    tick: str
    corner: str
    dots: str
    """A cell's dots are the bits of its place here."""
    columns: int
    rows: int
    """Dots of a cell."""


UNICODE = Glyphs("▁▂▃▄▅▆▇█", "█", "░", "│", "┤", "└", " " + "".join(map(chr, range(0x2801, 0x2900))), 2, 4)
ASCII = Glyphs("_.-=+*#@", "#", "-", "|", "+", "+", " '.:", 1, 2)
_BITS = {  # of a dot in its cell, by row and column; Braille numbers its dots so
    UNICODE: ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80)),
    ASCII: ((1,), (2,)),
}


def glyphs_for(encoding: str | None) -> Glyphs:
    """The characters that an encoding has; ASCII where there is none."""
    try:
        "".join(UNICODE[:7]).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


def sparkline(values: Sequence[float], width: int, glyphs: Glyphs) -> str:
    """Finite numbers as a line of characters of different heights, averaged down to `width`."""
    if not values:
        return ""
    size = max(1, math.ceil(len(values) / width))
    means = [sum(part) / len(part) for part in (values[i : i + size] for i in range(0, len(values), size))]
    low, span = min(means), (max(means) - min(means)) or 1.0
    return "".join(glyphs.levels[round((value - low) / span * (len(glyphs.levels) - 1))] for value in means)


def bar(share: float, width: int, glyphs: Glyphs) -> str:
    """How much of a whole is done."""
    done = round(min(1.0, max(0.0, share)) * width)
    return glyphs.full * done + glyphs.empty * (width - done)


def chart(
    curve: Curve,
    *,
    width: int,
    height: int,
    shown: Callable[[float], str],
    glyphs: Glyphs,
    rules: Sequence[float] = (),
) -> list[str]:
    """A curve over the steps with its axes' ends written: `height` lines and one for the steps, `width` wide.

    Where a column of dots stands for several steps it reaches from their lowest value to their highest. Nothing is
    drawn of a curve of fewer than two points.

    Args:
        shown: how a value is written.
        rules: values that are marked by a dotted line across.
    """
    curve = curve.known()
    if len(curve.steps) < 2:
        return []
    low = min(float(curve.low.min()), *rules) if rules else float(curve.low.min())
    high = max(float(curve.high.max()), *rules) if rules else float(curve.high.max())
    pad = 0.0 if high > low else max(abs(high) * 0.01, 1e-6)
    labels = shown(high), shown(low)
    label_width = max(map(len, labels))
    num_cells = width - label_width - 2
    dots = _dots(curve, (low - pad, high + pad), num_cells * glyphs.columns, height * glyphs.rows)
    for value in rules:
        row = _row_of(np.array([value]), (low - pad, high + pad), height * glyphs.rows)[0]
        dots[row, ::_RULE_EVERY] = True
    lines = []
    for number, cells in enumerate(_cells(dots, glyphs)):
        label = labels[0] if number == 0 else labels[1] if number == height - 1 else ""
        lines.append(f"{label:>{label_width}} {glyphs.tick if label else glyphs.axis}{cells}".rstrip())
    first, last = f"step {curve.steps[0]:,.0f}", f"{curve.steps[-1]:,.0f}"
    lines.append(f"{'':{label_width}} {glyphs.corner}{first}{last.rjust(num_cells - len(first))}")
    return lines


def _dots(curve: Curve, span: tuple[float, float], num_columns: int, num_rows: int) -> np.ndarray:
    """Which dots are set: the top row first."""
    first, last = curve.steps[0], curve.steps[-1]
    at = ((curve.steps - first) * ((num_columns - 1) / max(1.0, last - first))).round().astype(int)
    columns = np.arange(num_columns)
    lows, highs = np.full(num_columns, np.nan), np.full(num_columns, np.nan)
    np.fmin.at(lows, at, curve.low)
    np.fmax.at(highs, at, curve.high)
    middle = np.interp(columns, at, curve.mean)
    lows, highs = np.fmin(lows, middle), np.fmax(highs, middle)
    # a column reaches half way to its neighbours, so that the curve has no gaps
    between = (middle[1:] + middle[:-1]) / 2
    lows[1:], highs[1:] = np.fmin(lows[1:], between), np.fmax(highs[1:], between)
    lows[:-1], highs[:-1] = np.fmin(lows[:-1], between), np.fmax(highs[:-1], between)
    top, bottom = _row_of(highs, span, num_rows), _row_of(lows, span, num_rows)
    rows = np.arange(num_rows)[:, None]
    return (rows >= top) & (rows <= bottom)


def _row_of(values: Floats, span: tuple[float, float], num_rows: int) -> np.ndarray:
    low, high = span
    return ((high - values) / (high - low) * (num_rows - 1)).round().astype(int)


def _cells(dots: np.ndarray, glyphs: Glyphs) -> list[str]:
    bits = np.array(_BITS[glyphs])
    rows, columns = dots.shape[0] // glyphs.rows, dots.shape[1] // glyphs.columns
    cells = dots.reshape(rows, glyphs.rows, columns, glyphs.columns)
    codes = (cells * bits[:, None, :]).sum(axis=(1, 3))
    return ["".join(glyphs.dots[code] for code in row) for row in codes]
