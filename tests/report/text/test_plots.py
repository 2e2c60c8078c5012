"""Curves of characters."""

import unicodedata

import numpy as np
import pytest

from sltdino.report.curves import Curve
from sltdino.report.text.plots import ASCII, UNICODE, bar, chart, glyphs_for, sparkline


def line(values: list[float]) -> Curve:
    found = np.array(values, dtype=float)
    return Curve(np.arange(1.0, len(values) + 1), found, found, found)


def set_dots(lines: list[str]) -> list[tuple[int, int]]:
    """Row and column of each dot of a chart in ASCII, counted from the top left."""
    cells = [row.partition("+" if "+" in row else "|")[2] for row in lines[:-1]]
    found = [
        (2 * at + half, column)
        for at, row in enumerate(cells)
        for column, cell in enumerate(row)
        for half in (0, 1)
        if cell == ":" or cell == "'."[half]
    ]
    return sorted(found, key=lambda dot: (dot[1], dot[0]))


def draw(curve: Curve, **options: object) -> list[str]:
    given = {"width": 24, "height": 3, "shown": "{:.1f}".format, "glyphs": ASCII, **options}
    return chart(curve, **given)  # type: ignore[arg-type]


def test_a_sparkline_spans_its_lowest_and_highest_value() -> None:
    assert sparkline([0, 1, 2], 40, UNICODE) == "▁▅█"
    assert (sparkline([], 40, UNICODE), sparkline([5, 5], 40, UNICODE)) == ("", "▁▁")
    assert len(sparkline([float(value) for value in range(1000)], 40, ASCII)) == 40


def test_a_bar_is_full_only_at_the_end() -> None:
    assert [bar(share, 4, ASCII) for share in (0, 0.5, 1, 7, -1)] == ["----", "##--", "####", "####", "----"]


def test_a_falling_line_falls_from_corner_to_corner_with_its_ends_written() -> None:
    lines = draw(line([6.0, 5.0, 4.0, 3.0, 2.0, 1.0]))
    assert [row[:5] for row in lines] == ["6.0 +", "    |", "1.0 +", "    +"]
    assert (lines[-1].split(), len(lines[-1])) == (["+step", "1", "6"], 24)
    dots = set_dots(lines)
    assert (dots[0], dots[-1]) == ((0, 0), (5, 18))
    assert {column for _, column in dots} == set(range(19))  # no gaps
    assert [row for row, _ in dots] == sorted(row for row, _ in dots)


def test_a_spike_inside_one_stretch_is_seen() -> None:
    flat = np.ones(10)
    high = flat.copy()
    high[5] = 9.0
    rows = [row for row, column in set_dots(draw(Curve(np.arange(1.0, 11.0), flat, flat, high))) if column == 10]
    assert rows == list(range(6))


def test_a_rule_is_dotted_across_and_within_the_axis() -> None:
    lines = draw(line([1.0, 2.0]), rules=(10.0,))
    assert lines[0].startswith("10.0 +'  '  '")
    assert lines[2].startswith(" 1.0 +")


def test_a_line_that_does_not_move_is_drawn() -> None:
    lines = draw(line([2.0, 2.0, 2.0]))
    assert len({row for row, _ in set_dots(lines)}) == 1
    assert len(set_dots(lines)) == 19


@pytest.mark.parametrize("values", [[], [1.0], [float("nan"), 1.0], [float("nan")] * 3])
def test_nothing_is_drawn_of_fewer_than_two_points(values: list[float]) -> None:
    assert draw(line(values)) == []


def test_braille_dots_are_those_of_their_names() -> None:
    lines = draw(line([6.0, 5.0, 4.0, 3.0, 2.0, 1.0]), glyphs=UNICODE)
    places = {"1": (0, 0), "2": (1, 0), "3": (2, 0), "7": (3, 0), "4": (0, 1), "5": (1, 1), "6": (2, 1), "8": (3, 1)}
    dots = sorted(
        (2 * column + places[number][1], 4 * at + places[number][0])
        for at, row in enumerate(lines[:-1])
        for column, cell in enumerate(row[5:])
        if cell != " "
        for number in unicodedata.name(cell).removeprefix("BRAILLE PATTERN DOTS-")
    )
    assert (dots[0], dots[-1]) == ((0, 0), (37, 11))
    assert {column for column, _ in dots} == set(range(38))
    assert [row for _, row in dots] == sorted(row for _, row in dots)


@pytest.mark.parametrize(
    ("encoding", "glyphs"),
    [("utf-8", UNICODE), ("UTF-16", UNICODE), ("ascii", ASCII), ("latin-1", ASCII), ("cp437", ASCII), (None, ASCII),
     ("none such", ASCII)],
)  # fmt: skip
def test_an_encoding_without_the_characters_gets_ascii(encoding: str | None, glyphs: object) -> None:
    assert glyphs_for(encoding) is glyphs
    assert "".join(ASCII[:7]).isascii()
