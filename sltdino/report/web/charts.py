"""The charts of a run's numbers: under which headings, with legend, scales and a table of their values."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sltdino.report.history import History, Point
from sltdino.report.web.chart_kinds import EVALUATION, FOLDED, KNN, TRAINING, Chart
from sltdino.report.web.html import NOTHING, Html, details, element, subsection, table
from sltdino.report.web.smoothing import thinned
from sltdino.report.web.svg import NO_MARKS, Line, Marks, Rule, key, line_chart

_ROWS = 20
"""Of the table that stands for a chart."""


def training_charts(history: History, params: Mapping[str, Any]) -> list[Html]:
    """What was logged while training, under a heading for every kind."""
    marks = marks_of(history)
    parts = []
    for heading, charts in TRAINING.items():
        figures = [
            draw(chart, lines, anchor=f"{heading.lower()}-{at}", rules=chart.rules(params), marks=marks)
            for at, chart in enumerate(charts)
            if not chart.only_compared and (lines := lines_of(chart, history.steps))
        ]
        if figures and heading in FOLDED:
            parts.append(details(heading, side_by_side(figures), printed=True))
        elif figures:
            parts.append(subsection(heading, side_by_side(figures)))
    return parts


def evaluation_charts(history: History) -> list[Html]:
    """Figures of what was measured between epochs: accuracy by k-NN first, then what needs no labels."""
    marks = marks_of(history)
    figures = []
    if points := history.evaluations.get("knn"):
        pixels = history.evaluations.get("knn_pixels", [])
        rules = [Rule(100 * points[0].value, "at the start")] if points[0].step == 0 and len(points) > 1 else []
        rules += [Rule(100 * pixels[0].value, "raw pixels")] if pixels else []
        figures.append(draw(KNN, lines_of(KNN, history.evaluations), anchor="knn", rules=rules, marks=marks))
    return figures + [
        draw(chart, lines, anchor=f"measure-{at}", marks=marks)
        for at, chart in enumerate(EVALUATION)
        if (lines := lines_of(chart, history.evaluations))
    ]


def marks_of(history: History) -> Marks:
    """What happened when, for the axis of steps."""
    return Marks(history.epochs, history.resumes, history.interventions, history.spans)


def draw(
    chart: Chart, lines: Sequence[Line], *, anchor: str, rules: Sequence[Rule] = (), marks: Marks = NO_MARKS
) -> Html:
    """The figure of a chart: legend, drawing in one or two scales, and its numbers as a table to open."""

    def write(value: float) -> str:
        return f"{value:.4g}{chart.unit}"

    def drawing(scale: str) -> Html:
        text = f"{chart.title}, {scale} scale. " + " ".join(_told(line, write) for line in lines)
        shown = [rule for rule in rules if rule.value > 0 or scale == "linear"]
        return line_chart(
            lines,
            description=text,
            write=write,
            unit=chart.unit if chart.unit == "%" else "",
            log=scale == "log",
            smooth=chart.smooth,
            rules=shown,
            marks=marks,
        )

    if len(lines) == 1 < len(chart.fields):  # no legend says which it is
        chart = chart._replace(title=f"{chart.title}: {lines[0].name}")
    scales = chart.scale.split(" or ")
    drawings = drawing(scales[0]) if len(scales) == 1 else _switch(scales, drawing, anchor=anchor, title=chart.title)
    caption = element("figcaption", element("strong", chart.title), chart.note and f" {chart.note}")
    numbers = details("Numbers", _numbers(chart.title, lines, chart.unit))
    return element("figure", caption, _legend(lines), drawings, numbers, class_="plot", id=anchor)


def _switch(scales: Sequence[str], drawing: Callable[[str], Html], *, anchor: str, title: str) -> Html:
    """Two drawings, one of which shows: what radio buttons and the style do without script."""
    parts: list[Html] = []
    for at, scale in enumerate(scales):
        name = f"{anchor}-{scale}"
        button = element("input", type="radio", name=f"{anchor}-scale", id=name, checked=at == 0, class_=f"pick-{at}")
        parts += [button, element("label", scale, for_=name)]
    shown = (element("div", drawing(scale), class_=f"shown-{at}") for at, scale in enumerate(scales))
    return element("div", *parts, *shown, class_="switch", role="radiogroup", aria_label=f"Scale of: {title}")


def _legend(lines: Sequence[Line]) -> Html:
    if len(lines) == 1 and not lines[0].short:
        return NOTHING
    names = (f"{line.short}  {line.name}" if line.short else line.name for line in lines)
    return element("ul", *(element("li", key(at), " ", name) for at, name in enumerate(names)), class_="legend")


def _numbers(title: str, lines: Sequence[Line], unit: str) -> Html:
    """The lines at a few steps, for those who cannot see them or want to copy them."""
    longest = max((line.points for line in lines), key=len)
    header = ["step", *(f"{line.short or line.name}{unit and f' ({unit.strip()})'}" for line in lines)]
    rows = [[f"{point.step:,.0f}", *(_near(line.points, point) for line in lines)] for point in thinned(longest, _ROWS)]
    return table(header, rows, caption=f"{title}: {len(rows)} of {len(longest)} points")


def _near(points: Sequence[Point], wanted: Point) -> float | None:
    nearest = min(points, key=lambda point: abs(point.step - wanted.step), default=None)
    return None if nearest is None else nearest.value


def _told(line: Line, write: Callable[[float], str]) -> str:
    if not line.points:
        return ""
    first, last = line.points[0], line.points[-1]
    low, high = min(point.low for point in line.points), max(point.high for point in line.points)
    return (
        f"{line.name}: {write(first.value)} at step {first.step:,.0f}, {write(last.value)} at step {last.step:,.0f}, "
        f"between {write(low)} and {write(high)}."
    )


def lines_of(chart: Chart, series: Mapping[str, Sequence[Point]]) -> list[Line]:
    """The lines of a chart, as far as their fields were logged."""
    return [
        Line(name, scaled(series[field], chart.factor)) for field, name in chart.fields.items() if series.get(field)
    ]


def scaled(points: Sequence[Point], factor: float) -> Sequence[Point]:
    """The points with their values times `factor`."""
    if factor == 1:
        return points
    return [
        point._replace(value=point.value * factor, low=point.low * factor, high=point.high * factor) for point in points
    ]


def side_by_side(figures: Sequence[Html]) -> Html:
    """Figures in as many columns as there is room for."""
    return element("div", *figures, class_="plots") if figures else NOTHING
