"""Bars in a page: how values are spread."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sltdino.report.web.html import Html, element, figure, join

_WIDTH, _HEIGHT, _MARGIN, _BELOW = 400, 110, 6, 20  # its text is still readable as wide as a phone
_BINS = 40
_EXTREME = 0.5  # per cent of the values at either end that one bar takes together


def histogram(values: NDArray[Any], title: str, *, unit: str = "", marks: Mapping[str, float] | None = None) -> Html:
    """How many values lie where, in 40 bars between the 0.5th and the 99.5th percentile; what lies beyond is in the
    outermost bars.

    Args:
        marks: places to draw a line at, by what they mean; those outside are left out.
    """
    low, high = (float(value) for value in np.percentile(values, [_EXTREME, 100 - _EXTREME], method="nearest"))
    if low == high:
        return figure(Html(), f"{title}: {low:.4g} {unit} for {'all' if np.ptp(values) == 0 else 'nearly all'}")
    counts, _ = np.histogram(np.clip(values, low, high), bins=_BINS, range=(low, high))
    step, tallest = (_WIDTH - 2 * _MARGIN) / _BINS, int(counts.max())
    bars = [
        element(
            "rect", element("title", f"{low + at * (high - low) / _BINS:.4g} and more: {count:,}"),
            x=f"{_MARGIN + at * step:.1f}", y=f"{_HEIGHT * (1 - count / tallest):.1f}",
            width=f"{step - 1:.1f}", height=f"{_HEIGHT * count / tallest:.1f}", style="fill:var(--s0)",
        )
        for at, count in enumerate(counts.tolist())
    ]  # fmt: skip
    inside = {meaning: place for meaning, place in (marks or {}).items() if low <= place <= high}
    lines = [_line(_MARGIN + (place - low) / (high - low) * _BINS * step, meaning) for meaning, place in inside.items()]
    suffix = f" {unit}" if unit else ""
    ends = [
        _text(_MARGIN, f"{low:.4g}{suffix}", "start"),
        _text(_WIDTH - _MARGIN, f"{high:.4g}{suffix}", "end"),
    ]
    spread = f"median {np.median(values):.4g}{suffix}, {values.min():.4g} to {values.max():.4g}"
    chart = element(
        "svg", *bars, *lines, *ends, role="img", aria_label=f"{title}: {spread}",
        style="width:100%;max-width:34rem;height:auto",
        **{"viewBox": f"0 0 {_WIDTH} {_HEIGHT + _BELOW}"},
    )  # fmt: skip
    told = [spread, f"the tallest bar is {tallest:,}", *(f"line: {meaning}" for meaning in inside)]
    return figure(chart, join([element("strong", f"{title}: "), "; ".join(told)]))


def _line(x: float, meaning: str) -> Html:
    return element(
        "line", element("title", meaning), x1=f"{x:.1f}", x2=f"{x:.1f}", y1=0, y2=_HEIGHT,
        style="stroke:var(--bad);stroke-width:2;stroke-dasharray:4 3",
    )  # fmt: skip


def _text(x: float, text: str, anchor: str) -> Html:
    return element(
        "text", text, x=x, y=_HEIGHT + _BELOW - 5, text_anchor=anchor, style="fill:var(--quiet);font-size:12px"
    )
