"""Which charts a run's numbers make, and what each is to be compared with."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sltdino.report.history import History, Point
from sltdino.report.web.html import NOTHING, Html, details, element, subsection, table
from sltdino.report.web.svg import NO_MARKS, Line, Marks, Rule, key, line_chart, thinned

_ROWS = 20
"""Of the table that stands for a chart."""
Scale = Literal["linear", "log", "linear or log", "log or linear"]


class Chart(NamedTuple):
    """A chart of fields of the metrics that belong on one axis."""

    title: str
    fields: Mapping[str, str]
    """Field, and its name in the chart."""
    note: str
    scale: Scale = "linear"
    smooth: bool = True
    """Whether it wavers."""
    factor: float = 1.0
    unit: str = ""
    rules: Callable[[Mapping[str, Any]], Sequence[Rule]] = lambda params: ()
    """What its lines are compared with, from params.json."""


def _log_k(params: Mapping[str, Any]) -> Sequence[Rule]:
    prototypes = _setting(params, "head", "out_dim")
    return [Rule(math.log(prototypes), f"ln {prototypes:.0f} =")] if prototypes and prototypes >= 2 else []


def _log_k_of_all(params: Mapping[str, Any]) -> Sequence[Rule]:
    """Of the whole loss, where it has no term for patches, which would come on top."""
    return _log_k(params) if params.get("algorithm") == "dino" else []


def _clip(params: Mapping[str, Any]) -> Sequence[Rule]:
    limit = _setting(params, "optimizer", "clip_grad_norm")
    return [Rule(limit, "clipped at")] if limit else []


_LOSS = (
    Chart(
        "Loss", {"loss": "loss"}, "All terms, in nats. ln K is what a network says that knows nothing.", rules=_log_k
    ),
    Chart(
        "CLS and patch loss",
        {"loss_cls": "CLS", "loss_patch": "patches"},
        "The terms that compare student and teacher, in nats. ln K: a network that knows nothing.",
        rules=_log_k,
    ),
    Chart("KoLeo term", {"loss_koleo": "KoLeo"}, "Before its weight. Lower: the features lie further from each other."),
    Chart("Gradient norm", {"grad_norm": "norm"}, "Before clipping.", scale="log or linear", rules=_clip),
)
_HEALTH = (
    Chart(
        "Loss gap",
        {"loss_gap": "gap"},
        "ln K minus the CLS loss, in nats: at 0 or less the student knows no more than chance.",
        rules=lambda params: [Rule(0.0, "chance")],
    ),
    Chart(
        "Entropy of the targets",
        {"target_entropy": "of a target", "assignment_entropy": "of their mean"},
        "In nats. A target's near ln K: uniform collapse. Their mean's near 0: one-point collapse.",
        rules=_log_k,
    ),
    Chart(
        "Balance of the prototypes",
        {"assignment_kl": "imbalance"},
        "Divergence of the teacher's mean answer from uniform, in nats; ln K: one prototype for all images.",
    ),
    Chart(
        "Prototypes in use",
        {"prototypes_used": "prototypes"},
        "Over the last steps, how many were the likeliest of some target.",
    ),
    Chart(
        "Spread of the features",
        {"feature_spread": "spread", "cosine_to_mean": "cosine to the mean"},
        "Spread 1 fills the sphere; cosine 1 means that all features are one.",
    ),
)
_SCHEDULES = (
    Chart("Learning rate", {"learning_rate": "rate"}, "", scale="linear or log", smooth=False),
    Chart("Weight decay", {"weight_decay": "decay"}, "", smooth=False),
    Chart("Teacher temperature", {"teacher_temp": "temperature"}, "", smooth=False),
    Chart("Teacher momentum", {"teacher_momentum": "momentum"}, "", smooth=False),
)
_SPEED = (
    Chart("Throughput", {"images_per_second": "images/s"}, "Images per second.", unit=" images/s"),
    Chart("Waiting for data", {"data_wait": "waiting"}, "Share of the time without a batch.", factor=100, unit="%"),
)
TRAINING = {"Loss": _LOSS, "Health": _HEALTH, "Schedules": _SCHEDULES, "Speed": _SPEED}
"""Of `train_step` records, by heading."""

KNN = Chart("k-NN accuracy", {"knn": "k-NN"}, "On held-out labelled images.", factor=100, unit="%")
EVALUATION = (
    Chart(
        "RankMe", {"rankme": "RankMe"}, "How many directions the features use, by the entropy of their singular values."
    ),
    Chart("Standard deviation of the features", {"feature_std": "std"}, "0: collapse."),
    Chart(
        "Alignment and uniformity",
        {"alignment": "alignment", "uniformity": "uniformity"},
        "Wang and Isola, 2020; lower is better for both.",
    ),
    Chart(
        "Clip retrieval",
        {"clip_retrieval": "found"},
        "How often the nearest other frame is of the same clip.",
        factor=100,
        unit="%",
    ),
)
"""Of `eval` records; k-NN has a chart of its own."""


def training_charts(history: History, params: Mapping[str, Any]) -> list[Html]:
    """What was logged while training, under a heading for every kind."""
    marks = marks_of(history)
    return [
        subsection(heading, side_by_side(figures))
        for heading, charts in TRAINING.items()
        if (
            figures := [
                draw(chart, lines, anchor=f"{heading.lower()}-{at}", rules=chart.rules(params), marks=marks)
                for at, chart in enumerate(charts)
                if (lines := lines_of(chart, history.steps))
            ]
        )
    ]


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
    return Marks(history.epochs, history.resumes, history.spans)


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


def _setting(params: Mapping[str, Any], *keys: str) -> float | None:
    """A number among the settings of params.json; None where it has none, as in runs of the old scripts."""
    value: Any = params.get("settings")
    for name in keys:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, int | float) else None


def side_by_side(figures: Sequence[Html]) -> Html:
    """Figures in as many columns as there is room for."""
    return element("div", *figures, class_="plots") if figures else NOTHING
