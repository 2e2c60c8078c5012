"""Line charts as inline SVG: axes, a smoothed line over the logged one, marks in time, values on hover, no script."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from sltdino.report.history import Point, Span
from sltdino.report.web.html import NOTHING, Html, element
from sltdino.report.web.smoothing import smoothed, thinned
from sltdino.report.web.ticks import Axis, axis, label

WIDTH, HEIGHT = 400, 240
"""Of the drawing: its text is still readable on a phone, where it is as wide as the screen."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 388, 8, 206
_ZONES = 48
"""Places that show their values when pointed at."""
_SMOOTHED_FROM = 30  # points; below, the line is drawn as it is, with its points
_MOST_EPOCH_MARKS = 60
_COLOURS, _DASHES = 6, 5
_CHARACTER, _ROW = 6.3, 14  # the size of a letter in a tip: without script, a text cannot be measured


class Line(NamedTuple):
    """One line of a chart."""

    name: str
    points: Sequence[Point]
    short: str = ""
    """Written at its end; for charts of more lines than colours tell apart."""


class Rule(NamedTuple):
    """A value to compare the lines with."""

    value: float
    text: str


class Marks(NamedTuple):
    """What happened when, on the axis of steps."""

    epochs: Sequence[tuple[int, int]] = ()
    """Epoch and its last step."""
    resumes: Sequence[int] = ()
    interventions: Sequence[int] = ()
    spans: Sequence[Span] = ()

    def epoch_at(self, step: float) -> int | None:
        """The epoch that a step lies in; None where it is not known."""
        at = bisect_left(self.epochs, step, key=lambda epoch: epoch[1])
        return self.epochs[at][0] if at < len(self.epochs) else None


NO_MARKS = Marks()


class Frame(NamedTuple):
    """The two axes of a chart."""

    x: Axis
    y: Axis

    def at(self, step: float, value: float) -> tuple[float, float]:
        """The place of a point in the drawing."""
        return self.across(step), _BOTTOM - self.y.place(value) * (_BOTTOM - _TOP)

    def across(self, step: float) -> float:
        """The place of a step, left to right."""
        return _LEFT + self.x.place(step) * (_RIGHT - _LEFT)


def line_chart(
    lines: Sequence[Line],
    *,
    description: str,
    write: Callable[[float], str],
    unit: str = "",
    log: bool = False,
    smooth: bool = True,
    rules: Sequence[Rule] = (),
    marks: Marks = NO_MARKS,
) -> Html:
    """A chart of lines over steps.

    Args:
        description: what a reader who sees no picture is told.
        write: a value as text, with its unit.
        unit: written behind the numbers of the axis; short.
        log: a logarithmic axis; what is not positive is not shown.
        smooth: whether lines of many points waver, and get a smoothed one over them.
    """
    kept = [line._replace(points=[point for point in line.points if point.value > 0 or not log]) for line in lines]
    values = [value for line in kept for point in line.points for value in (point.low, point.high)]
    steps = [point.step for line in kept for point in line.points]
    frame = Frame(axis(steps, margin=0.01), axis([*values, *(rule.value for rule in rules)], log=log))
    return element(
        "svg",
        _marks(frame, marks),
        _grid(frame, unit),
        *(_line(frame, line, at, smooth=smooth) for at, line in enumerate(kept)),
        *(_rule(frame, rule, write) for rule in rules),
        _zones(frame, kept, write, marks),
        class_="chart",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=description,
    )


def key(at: int) -> Html:
    """A short piece of line number `at`, for a legend."""
    stroke = element("path", d="M1 7H27", class_=_style("line", at))
    return element("svg", stroke, viewBox="0 0 28 14", width=28, height=14, aria_hidden="true", class_="key")


def _grid(frame: Frame, unit: str) -> Html:
    parts: list[Html] = []
    rows, columns = frame.y.ticks(), frame.x.ticks()
    for value in rows:
        y = frame.at(0, value)[1]
        parts.append(element("path", d=f"M{_LEFT} {y:.1f}H{_RIGHT}", class_="grid"))
        parts.append(_text(label(value, rows) + unit, _LEFT - 5, y + 4, anchor="end"))
    for value in columns:
        x = frame.across(value)
        parts.append(element("path", d=f"M{x:.1f} {_BOTTOM}v4", class_="axis"))
        parts.append(_text(label(value, columns), x, _BOTTOM + 16, anchor="middle"))
    parts.append(element("path", d=f"M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}", class_="axis"))
    parts.append(_text("step", (_LEFT + _RIGHT) / 2, HEIGHT - 4, anchor="middle"))
    return element("g", *parts)


def _marks(frame: Frame, marks: Marks) -> Html:
    """Behind the lines: epochs as short strokes at the top, resumes as dashed lines, interventions as dotted
    ones, unhealthy stretches shaded."""
    parts: list[Html] = []
    for span in marks.spans:
        left, right = frame.across(span.first), frame.across(span.last)
        text = element("title", f"{span.name}: steps {span.first:,} to {span.last:,}")
        parts.append(_box(left - 1, _TOP, right - left + 2, _BOTTOM - _TOP, text, class_="span"))
    stride = -(-len(marks.epochs) // _MOST_EPOCH_MARKS) or 1
    for _, step in marks.epochs[stride - 1 :: stride]:
        parts.append(element("path", d=f"M{frame.across(step):.1f} {_TOP}v4", class_="axis"))
    for step in marks.resumes:
        text = element("title", f"resumed at step {step:,}")
        parts.append(element("path", text, d=f"M{frame.across(step):.1f} {_TOP}V{_BOTTOM}", class_="resume"))
    for step in marks.interventions:
        text = element("title", f"adapted against a collapse at step {step:,}")
        parts.append(element("path", text, d=f"M{frame.across(step):.1f} {_TOP}V{_BOTTOM}", class_="adapted"))
    return element("g", *parts)


def _rule(frame: Frame, rule: Rule, write: Callable[[float], str]) -> Html:
    y = frame.at(0, rule.value)[1]
    below = y < _TOP + 16
    return element(
        "g",
        element("path", d=f"M{_LEFT} {y:.1f}H{_RIGHT}", class_="rule"),
        _text(f"{rule.text} {write(rule.value)}", _RIGHT - 2, y + (13 if below else -4), anchor="end", class_="halo"),
    )


def _line(frame: Frame, line: Line, at: int, *, smooth: bool) -> Html:
    points = line.points
    if not points:
        return NOTHING
    logged = [(point.step, point.value) for point in points]
    parts = []
    if len(points) < _SMOOTHED_FROM or not smooth:
        parts.append(element("path", d=_path(frame, logged), class_=_style("line", at)))
    if len(points) < _SMOOTHED_FROM:
        dots = (frame.at(*place) for place in logged)
        parts += [element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=2.5, class_=_style("dot", at)) for x, y in dots]
    elif smooth:
        if any(point.low < point.high for point in points):
            outline = [(p.step, p.high) for p in points] + [(p.step, p.low) for p in reversed(points)]
            parts.append(element("path", d=f"{_path(frame, outline)}Z", class_=_style("band", at)))
        parts.append(element("path", d=_path(frame, logged), class_=_style("raw", at)))
        parts.append(element("path", d=_path(frame, smoothed(points)), class_=_style("line", at)))
    if line.short:
        x, y = frame.at(points[-1].step, points[-1].value)
        parts.append(_text(line.short, x + 3, y + 4, class_="halo end"))
    return element("g", *parts)


def _zones(frame: Frame, lines: Sequence[Line], write: Callable[[float], str], marks: Marks) -> Html:
    """Strips that, pointed at or touched, show the values of the points that lie nearest."""
    longest = max((line.points for line in lines), key=len, default=[])
    centres = [point.step for point in thinned(longest, _ZONES)]
    edges = [(a + b) / 2 for a, b in pairwise(centres)]
    places = [_LEFT, *(frame.across(edge) for edge in edges), _RIGHT]
    zones = []
    for at, centre in enumerate(centres):
        width = places[at + 1] - places[at]
        strip = _box(places[at], _TOP, width, _BOTTOM - _TOP, class_="zone")
        zones.append(element("g", strip, _tip(frame, lines, centre, write, marks.epoch_at(centre)), class_="hit"))
    return element("g", *zones)


def _tip(frame: Frame, lines: Sequence[Line], step: float, write: Callable[[float], str], epoch: int | None) -> Html:
    nearest = [
        (at, line.short or line.name, min(line.points, key=lambda point: abs(point.step - step)))
        for at, line in enumerate(lines)
        if line.points
    ]
    first = nearest[0][2]
    time = f"step {first.step:,.0f}" if epoch is None else f"step {first.step:,.0f}, epoch {epoch}"
    texts = [time, *(f"{name} {write(point.value)}" for _, name, point in nearest)]
    width, height = max(map(len, texts)) * _CHARACTER + 12, len(texts) * _ROW + 8
    x = frame.across(step)
    left = min(x + 8, WIDTH - width) if x < (_LEFT + _RIGHT) / 2 else max(x - 8 - width, 0)
    dots = [
        element("circle", cx=f"{place[0]:.1f}", cy=f"{place[1]:.1f}", r=3.5, class_=_style("dot", at))
        for at, _, point in nearest
        if (place := frame.at(point.step, point.value))
    ]
    rows = [_text(text, left + 6, _TOP + 3 + _ROW * (row + 1)) for row, text in enumerate(texts)]
    cursor = element("path", d=f"M{x:.1f} {_TOP}V{_BOTTOM}", class_="axis")
    box = _box(left, _TOP + 2, width, height, rx=3, class_="box")
    return element("g", cursor, *dots, box, *rows, class_="tip")


def _path(frame: Frame, points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in (frame.at(*point) for point in points))


def _box(x: float, y: float, width: float, height: float, *content: Html, **attributes: object) -> Html:
    size = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{width:.1f}", "height": f"{height:.1f}"}
    return element("rect", *content, **size, **attributes)


def _text(text: str, x: float, y: float, *, anchor: str | None = None, class_: str | None = None) -> Html:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=class_)


def _style(kind: str, at: int) -> str:
    return f"{kind} c{at % _COLOURS} d{at % _DASHES}"
