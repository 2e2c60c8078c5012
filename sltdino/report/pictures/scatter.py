"""Points in two dimensions as inline SVG, told apart by shape as well as by colour."""

import os
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sltdino.data.scanner import natural_key
from sltdino.report.pictures.colours import CATEGORIES
from sltdino.report.text.page import short
from sltdino.report.web.html import Html, element, join

_REST = "#98a1a9"
_SIDE, _MARGIN, _LEGEND, _LINE = 560, 20, 190, 21  # SVG units
_NAME_WIDTH = 22
_HIGH, _WIDE = 16, 11  # a letter at a mean
_SHAPES = (  # about the origin, of about equal area
    "M-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0-7.2 0z",  # disc
    "M-3.2-3.2h6.4v6.4h-6.4z",  # square
    "M0-4.4L4.2 3H-4.2z",  # triangle
    "M0-4.7L4.7 0L0 4.7L-4.7 0z",  # diamond
    "M-1.4-4.2h2.8v2.8h2.8v2.8h-2.8v2.8h-2.8v-2.8h-2.8v-2.8h2.8z",  # plus
    "M0 4.4L4.2-3H-4.2z",  # triangle, point down
)
_SMALL_DISC = "M-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0z"


class Mark(NamedTuple):
    """How the points of one name look."""

    colour: str
    shape: str
    """An SVG path about the origin."""


REST = Mark(_REST, _SMALL_DISC)
"""Of every name that has no mark of its own."""


def marks_of(names: Sequence[str], *, most: int) -> dict[str, Mark]:
    """Marks for the `most` commonest names, in natural order: up to 42 are different pairs of colour and shape."""
    common = [name for name, _ in Counter(filter(None, names)).most_common(most)]
    return {
        name: Mark(CATEGORIES[number % len(CATEGORIES)], _SHAPES[number % len(_SHAPES)])
        for number, name in enumerate(sorted(common, key=lambda name: natural_key(os.fsencode(name))))
    }


def scatter(
    places_M2: NDArray[np.floating],
    names: Sequence[str],
    *,
    marks: dict[str, Mark],
    titles: Sequence[str],
    alt: str,
    written: bool,
) -> Html:
    """A drawing of the points, one scale for both axes, with a legend of the marks.

    Args:
        names: of each point; those without a mark are small grey dots, drawn beneath.
        titles: what each point says under the mouse.
        written: put each name with a mark at the mean of its points.
    """
    spots, height = _on_paper(places_M2)
    layers = []
    for name in [None, *marks]:
        mark = REST if name is None else marks[name]
        rows = [row for row, given in enumerate(names) if (given not in marks if name is None else given == name)]
        points = [_point(spots[row], mark, titles[row]) for row in rows]
        if points:
            layers.append(element("g", *points, fill=mark.colour, fill_opacity="0.8"))
    means = _at_means(spots, names, marks) if written else []
    return element(
        "svg",
        element("rect", width="100%", height="100%", fill="#ffffff"),
        *layers,
        *means,
        _legend(marks, Counter(names)),
        viewBox=f"0 0 {_SIDE + _LEGEND} {max(height, _LINE * (len(marks) + 2))}",
        role="img",
        aria_label=alt,
        font_family="system-ui, sans-serif",
        font_size=13,
    )


def _on_paper(places_M2: NDArray[np.floating]) -> tuple[NDArray[np.floating], int]:
    """The points in SVG units, and the height of the paper that they need."""
    low, high = places_M2.min(axis=0), places_M2.max(axis=0)
    scale = (_SIDE - 2 * _MARGIN) / max(float((high - low).max()), 1e-12)
    height = round(float((high - low)[1]) * scale) + 2 * _MARGIN
    spots: NDArray[np.floating] = (places_M2 - (low + high) / 2) * scale + np.array((_SIDE, height)) / 2
    return spots, height


def _point(spot_2: NDArray[np.floating], mark: Mark, title: str) -> Html:
    where = f"translate({spot_2[0]:.1f} {spot_2[1]:.1f})"
    return element("path", element("title", title), d=mark.shape, transform=where)


def _at_means(spots: NDArray[np.floating], names: Sequence[str], marks: dict[str, Mark]) -> list[Html]:
    """Each name at the mean of its points, or as little below as keeps it off the others."""
    means = {name: spots[[given == name for given in names]].mean(axis=0).tolist() for name in marks}
    written: list[tuple[float, float, str]] = []
    for name, (x, y) in sorted(means.items(), key=lambda item: item[1][1]):
        for above_y, above_x, above in written:  # from the top
            letters = len(short(name, _NAME_WIDTH)) + len(short(above, _NAME_WIDTH))
            if abs(x - above_x) < _WIDE * letters / 2 and y < above_y + _HIGH:
                y = above_y + _HIGH
        written = sorted([*written, (y, x, name)])
    return [_text(name, x, y, colour=marks[name].colour) for y, x, name in written]


def _text(name: str, x: float, y: float, *, colour: str) -> Html:
    return element(
        "text", short(name, _NAME_WIDTH), x=f"{x:.1f}", y=f"{y:.1f}", fill=colour, font_size=_HIGH, font_weight=700,
        text_anchor="middle", dominant_baseline="middle", stroke="#ffffff", stroke_width=4, paint_order="stroke",
    )  # fmt: skip


def _legend(marks: dict[str, Mark], counts: Counter[str]) -> Html:
    entries = [(f"{short(name, _NAME_WIDTH)} ({counts[name]})", mark) for name, mark in marks.items()]
    if rest := counts.total() - sum(counts[name] for name in marks):
        entries.append((f"{'others' if marks else 'images'} ({rest})", REST))
    lines = []
    for number, (text, mark) in enumerate(entries):
        y = _LINE * (number + 1)
        sign = element("path", d=mark.shape, transform=f"translate({_SIDE + 12} {y})", fill=mark.colour)
        lines.append(join([sign, element("text", text, x=_SIDE + 24, y=y + 4.5, fill="#1b1f24")]))
    return join(lines)
