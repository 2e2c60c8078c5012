"""Line charts: where things lie, and what they say."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from sltdino.report.history import Point, Span
from sltdino.report.web.smoothing import smoothed, thinned
from sltdino.report.web.svg import HEIGHT, WIDTH, Line, Marks, Rule, line_chart


def points(values: list[float], first: int = 0) -> list[Point]:
    return [Point(10.0 * (first + at), value, value, value) for at, value in enumerate(values)]


def drawn(*lines: Line, **options: object) -> ET.Element:
    options = {"description": "d", "write": lambda value: f"{value:g}", **options}
    return ET.fromstring(line_chart(lines, **options))  # type: ignore[arg-type]


def of_class(chart: ET.Element, kind: str) -> list[ET.Element]:
    return [part for part in chart.iter() if kind in part.get("class", "").split()]


def places(path: ET.Element) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path.get("d", ""))]


def test_higher_values_lie_higher_and_later_steps_further_right() -> None:
    [line] = of_class(drawn(Line("loss", points([1.0, 3.0, 2.0]))), "line")
    (x0, y0), (x1, y1), (x2, y2) = places(line)
    assert x0 < x1 < x2
    assert y1 < y2 < y0
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y2 == pytest.approx(y2 - y1, abs=0.2)


def test_everything_lies_in_the_drawing() -> None:
    rng = np.random.default_rng(0)
    chart = drawn(Line("a", points(rng.normal(size=300).tolist())), rules=[Rule(9.0, "far")])
    for kind in ("line", "raw", "rule"):
        for path in of_class(chart, kind):
            assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places(path))
    for box in of_class(chart, "box"):
        assert float(box.get("x", "")) >= 0
        assert float(box.get("x", "")) + float(box.get("width", "")) <= WIDTH


def test_names_from_outside_are_text() -> None:
    hostile = "</title><script>x</script>\"'&"
    chart = drawn(
        Line(hostile, points([1.0, 2.0]), short=hostile),
        description=hostile,
        rules=[Rule(1.0, hostile)],
        marks=Marks(spans=[Span(hostile, 0, 10)]),
    )
    assert not [part for part in chart.iter() if part.tag == "script"]
    assert chart.get("aria-label") == hostile
    assert any(part.text == f"{hostile}: steps 0 to 10" for part in chart.iter("title"))


def test_a_logarithmic_chart_leaves_out_what_is_not_positive() -> None:
    [line] = of_class(drawn(Line("norm", points([1.0, 0.0, 100.0])), log=True), "line")
    assert len(places(line)) == 2


def test_a_chart_without_a_point_is_drawn() -> None:
    assert of_class(drawn(Line("norm", points([0.0, -1.0])), log=True), "line") == []


def test_pointing_at_a_place_tells_the_value_there_and_its_epoch() -> None:
    chart = drawn(Line("loss", points([1.0, 2.0, 4.0])), marks=Marks(epochs=[(1, 10), (2, 20)]))
    tips = [[text.text for text in tip.iter("text")] for tip in of_class(chart, "tip")]
    assert tips == [["step 0, epoch 1", "loss 1"], ["step 10, epoch 1", "loss 2"], ["step 20, epoch 2", "loss 4"]]


def test_resumes_and_findings_are_marked_where_they_were() -> None:
    chart = drawn(Line("loss", points([1.0] * 11)), marks=Marks(resumes=[50], spans=[Span("loss spike", 25, 75)]))
    [resume], [span] = of_class(chart, "resume"), of_class(chart, "span")
    middle = places(resume)[0][0]
    assert middle == pytest.approx(float(span.get("x", "")) + float(span.get("width", "")) / 2, abs=0.2)


def test_lines_differ_without_colour() -> None:
    chart = drawn(*(Line(name, points([1.0, 2.0]), short=name) for name in "ABCD"))
    dashes = {
        next(word for word in line.get("class", "").split() if word[0] == "d") for line in of_class(chart, "line")
    }
    assert len(dashes) == 4
    assert [text.text for text in of_class(chart, "end")] == list("ABCD")


def test_a_straight_line_is_not_changed_by_smoothing() -> None:
    straight = points([3.0 - 0.5 * at for at in range(50)])
    assert [value for _, value in smoothed(straight)] == pytest.approx([point.value for point in straight])


def test_smoothing_is_numpys_weighted_fit_of_a_line() -> None:
    rng = np.random.default_rng(1)
    wavering = points(rng.normal(size=100).tolist())
    at, half = 40, 6
    steps = np.array([point.step for point in wavering[at - half : at + half + 1]]) - wavering[at].step
    values = [point.value for point in wavering[at - half : at + half + 1]]
    weights = (1 - (np.abs(steps) / (1.001 * np.abs(steps).max())) ** 3) ** 3
    fitted = np.polynomial.polynomial.polyfit(steps, values, 1, w=np.sqrt(weights))[0]
    assert smoothed(wavering)[at][1] == pytest.approx(fitted)


def test_thinned_points_keep_the_first_and_the_last() -> None:
    many = points([float(at) for at in range(1000)])
    few = thinned(many, 20)
    assert len(few) == 20
    assert (few[0], few[-1]) == (many[0], many[-1])
    assert thinned(few, 20) == few
