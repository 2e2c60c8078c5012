"""The map's drawing, read back as XML."""

import re
import xml.etree.ElementTree as ET
from itertools import combinations

import numpy as np

from sltdino.report.pictures.scatter import marks_of, scatter

PLACES = np.random.default_rng(0).normal(size=(30, 2))
NAMES = [str(number % 3) for number in range(30)]


def drawn(names: list[str], *, most: int = 20, titles: list[str] | None = None, written: bool = True) -> ET.Element:
    svg = scatter(PLACES, names, marks=marks_of(names, most=most), titles=titles or names, alt="A map", written=written)
    return ET.fromstring(svg)


def spots(root: ET.Element) -> dict[str, list[tuple[float, float]]]:
    """Where the points with each title lie."""
    found: dict[str, list[tuple[float, float]]] = {}
    for point in root.iter("path"):
        title = point.find("title")
        if title is not None:
            x, y = re.findall(r"-?[\d.]+", point.attrib["transform"])
            found.setdefault(title.text or "", []).append((float(x), float(y)))
    return found


def test_every_point_lies_where_it_should_to_one_scale() -> None:
    at = np.concatenate([np.array(points) for points in spots(drawn(NAMES)).values()])
    order = np.concatenate([np.flatnonzero(np.array(NAMES) == name) for name in ("0", "1", "2")])
    expected = PLACES[order] - PLACES.mean(axis=0)
    measured = at - at.mean(axis=0)
    scale = (measured * expected).sum() / (expected**2).sum()
    np.testing.assert_allclose(measured, expected * scale, atol=0.11)
    assert at.min() >= 10
    assert at.max() <= 390


def test_marks_are_pairs_of_colour_and_shape_that_do_not_repeat_and_come_in_natural_order() -> None:
    marks = marks_of([f"n{number}" for number in range(40)], most=40)
    assert len(set(marks.values())) == 40
    assert list(marks)[:3] == ["n0", "n1", "n2"]
    assert list(marks_of(["b", "a", "a", "", "", "", "c", "c"], most=2)) == ["a", "c"]


def test_what_has_no_mark_is_counted_as_others() -> None:
    root = drawn(["a"] * 20 + ["b"] * 7 + [""] * 3, most=1)
    assert [text.text for text in root.iter("text")] == ["a"]
    assert [(item[0].tail or "").strip() for item in root.iter("li")] == ["a (20)", "others (10)"]


def test_names_at_their_means_do_not_overlap() -> None:
    names = [f"label {number % 6}" for number in range(30)]  # their means lie close together
    root = drawn(names)
    written = list(root.iter("text"))
    assert len(written) == 6
    places = [(float(text.attrib["x"]), float(text.attrib["y"])) for text in written]
    apart = [(abs(x - other_x), abs(y - other_y)) for (x, y), (other_x, other_y) in combinations(places, 2)]
    assert all(right >= 7 * 10 or down >= 14.9 for right, down in apart)
    assert any(right < 7 * 10 for right, _ in apart)


def test_long_names_at_their_means_lie_on_the_paper_whole() -> None:
    names = [f"a long name of a label {number % 20}" for number in range(30)]
    root = drawn(names)
    _, _, width, height = map(float, root[0].attrib["viewBox"].split())
    for text in root.iter("text"):
        half = len(text.text or "") * 10 / 2
        assert half - 0.1 <= float(text.attrib["x"]) <= width - half + 0.1
        assert float(text.attrib["y"]) < height - 7


def test_no_colour_is_written_into_the_drawing() -> None:
    assert "#" not in ET.tostring(drawn(NAMES), encoding="unicode")


def test_hostile_names_stay_text() -> None:
    hostile = "</title><script>alert(1)</script>\u202e\x1b[2J"
    root = drawn([hostile] * 15 + ["b"] * 15, titles=[hostile] * 30)
    assert {element.tag for element in root.iter()} <= {"div", "svg", "g", "path", "title", "text", "ul", "li"}
    [(shown, points)] = spots(root).items()
    assert len(points) == 30
    assert shown == "</title><script>alert(1)</script>\\u202e\\x1b[2J"
