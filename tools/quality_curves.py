"""Learning curves of a study: k-NN against minutes of training, as one SVG picture."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
from quality_table import Record, Section

from sltdino.report.web.html import Html, element, join
from sltdino.report.web.ticks import Axis, axis, label

_COLOURS = ("#0b6bcb", "#d1490c", "#1a7f37", "#8250df", "#57606a", "#bf3989", "#9a6700", "#0a7a78")
_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 400, 30, 260
_STYLE = "text{font:12px sans-serif;fill:#222}path{fill:none;stroke-width:1}.mean{stroke-width:2.5}.run{opacity:.3}"

Curve = Sequence[tuple[float, float]]
"""Minutes, and k-NN in percent."""


def mean_curve(curves: Sequence[Curve], points: int = 25) -> Curve:
    """The mean over runs at moments that all of them reached; between its evaluations, a run is on a straight line."""
    moments = np.linspace(0, min(curve[-1][0] for curve in curves), points)
    values = [np.interp(moments, *np.transpose(curve)) for curve in curves]
    return list(zip(moments.tolist(), np.mean(values, axis=0).tolist(), strict=True))


def picture(sections: Sequence[Section]) -> str:
    """A panel for each section that has curves: thin lines are runs, thick ones their mean. Empty where none has."""
    panels = [(section, curves) for section in sections if (curves := _curves_of(section))]
    if not panels:
        return ""
    drawn = (
        element("g", _panel(section.title, curves), transform=f"translate(0 {at * _HEIGHT})")
        for at, (section, curves) in enumerate(panels)
    )
    size = {"width": _WIDTH, "height": _HEIGHT * len(panels), "viewBox": f"0 0 {_WIDTH} {_HEIGHT * len(panels)}"}
    ground = element("rect", width="100%", height="100%", fill="#fff")
    return element("svg", element("style", Html(_STYLE)), ground, *drawn, xmlns="http://www.w3.org/2000/svg", **size)


def _curves_of(section: Section) -> dict[str, list[Curve]]:
    found = {row.recipe: [curve for record in row.done if (curve := _curve(record))] for row in section.rows}
    return {recipe: curves for recipe, curves in found.items() if curves}


def _curve(record: Record) -> Curve:
    return [(point["minutes"], 100 * point["knn"]) for point in record["curve"] if point["knn"] is not None]


def _panel(title: str, curves: dict[str, list[Curve]]) -> Html:
    points = list(chain.from_iterable(chain.from_iterable(curves.values())))
    x, y = axis([minutes for minutes, _ in points], margin=0.01), axis([knn for _, knn in points])
    parts = [_text(title, _LEFT, 18), _text("minutes of training", (_LEFT + _RIGHT) / 2, _BOTTOM + 34, "middle")]
    for tick in x.ticks():
        at = _place(x, y, tick, y.low)[0]
        parts += [_path(f"M{at:.1f} {_BOTTOM}v4"), _text(label(tick, x.ticks()), at, _BOTTOM + 18, "middle")]
    for tick in y.ticks():
        at = _place(x, y, x.low, tick)[1]
        parts += [
            _path(f"M{_LEFT} {at:.1f}H{_RIGHT}", "#ddd"),
            _text(f"{label(tick, y.ticks())}%", _LEFT - 6, at + 4, "end"),
        ]
    for number, (recipe, of_recipe) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        parts += [_line(x, y, curve, colour, "run") for curve in of_recipe]
        parts.append(_line(x, y, mean_curve(of_recipe), colour, "mean"))
        row = _TOP + 14 + 18 * number
        parts.append(_path(f"M{_RIGHT + 12} {row - 4}h18", colour, "mean"))
        parts.append(_text(f"{recipe} ({len(of_recipe)})", _RIGHT + 36, row))
    return join([*parts, _path(f"M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}")])


def _place(x: Axis, y: Axis, minutes: float, knn: float) -> tuple[float, float]:
    return _LEFT + x.place(minutes) * (_RIGHT - _LEFT), _BOTTOM - y.place(knn) * (_BOTTOM - _TOP)


def _line(x: Axis, y: Axis, curve: Curve, colour: str, kind: str) -> Html:
    return _path("M" + "L".join("{:.1f} {:.1f}".format(*_place(x, y, *point)) for point in curve), colour, kind)


def _path(d: str, colour: str = "#222", kind: str | None = None) -> Html:
    return element("path", d=d, stroke=colour, class_=kind)


def _text(text: str, x: float, y: float, anchor: str = "start") -> Html:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)
