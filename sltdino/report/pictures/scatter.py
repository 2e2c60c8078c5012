"""Points in two dimensions as inline SVG, told apart by shape as well as by colour."""

import os
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sltdino.data.scanner import natural_key
from sltdino.report.text.page import short
from sltdino.report.web.html import Html, element

_SIDE, _MARGIN = 400, 14  # SVG units: about as many as a phone has pixels, so that names can be read there
_NAME_WIDTH = 22
_HIGH, _WIDE = 15, 10  # a letter at a mean
_COLOURS = 7
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
    """A class of the page's style."""
    shape: str
    """An SVG path about the origin."""


REST = Mark("rest", _SMALL_DISC)
"""Of every name that has no mark of its own."""


def marks_of(names: Sequence[str], *, most: int) -> dict[str, Mark]:
    """Marks for the `most` commonest names, in natural order: up to 42 are different pairs of colour and shape."""
    common = [name for name, _ in Counter(filter(None, names)).most_common(most)]
    return {
        name: Mark(f"k{number % _COLOURS}", _SHAPES[number % len(_SHAPES)])
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
    """A drawing of the points, one scale for both axes, and a list of what the marks mean, beside or below it.

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
            layers.append(element("g", *points, class_=mark.colour, fill_opacity="0.8"))
    means = _means(spots, names, marks) if written else []
    lowest = max((mean.y for mean in means), default=0.0)
    drawing = element(
        "svg",
        *layers,
        *(_name(mean, marks[mean.name]) for mean in means),
        viewBox=f"0 0 {_SIDE} {max(height, round(lowest) + _HIGH)}",
        role="img",
        aria_label=alt,
    )
    return element("div", drawing, _legend(marks, Counter(names)), class_="map")


class _Mean(NamedTuple):
    """Where a name is written."""

    x: float
    y: float
    name: str

    @property
    def width(self) -> float:
        return len(short(self.name, _NAME_WIDTH)) * _WIDE


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


def _means(spots: NDArray[np.floating], names: Sequence[str], marks: dict[str, Mark]) -> list[_Mean]:
    """Each name at the mean of its points, on the paper whole, and as little below as keeps it off the others."""
    centres = {name: spots[[given == name for given in names]].mean(axis=0) for name in marks}
    means = [_Mean(float(x), float(y), name) for name, (x, y) in centres.items()]
    written: list[_Mean] = []
    for mean in sorted(means, key=lambda mean: mean.y):
        x, y = min(max(mean.x, mean.width / 2), _SIDE - mean.width / 2), mean.y
        for above in written:  # from the top
            if abs(x - above.x) < (mean.width + above.width) / 2 and y < above.y + _HIGH:
                y = above.y + _HIGH
        written = sorted([*written, mean._replace(x=x, y=y)], key=lambda placed: (placed.y, placed.x))
    return written


def _name(mean: _Mean, mark: Mark) -> Html:
    return element(
        "text", short(mean.name, _NAME_WIDTH), x=f"{mean.x:.1f}", y=f"{mean.y:.1f}", text_anchor="middle",
        dominant_baseline="middle", class_=f"halo {mark.colour}",
    )  # fmt: skip


def _legend(marks: dict[str, Mark], counts: Counter[str]) -> Html:
    entries = [(f"{short(name, _NAME_WIDTH)} ({counts[name]:,})", mark) for name, mark in marks.items()]
    if rest := counts.total() - sum(counts[name] for name in marks):
        entries.append((f"{'others' if marks else 'images'} ({rest:,})", REST))
    return element("ul", *(element("li", _key(mark), " ", text) for text, mark in entries), class_="marks")


def _key(mark: Mark) -> Html:
    shape = element("path", d=mark.shape, class_=mark.colour)
    return element("svg", shape, viewBox="-6 -6 12 12", width=14, height=14, aria_hidden="true", class_="sign")
