"""Bars, read back from the markup."""

import re

import numpy as np
import pytest

from sltdino.report.web.bars import histogram

VALUES = np.array([1.0] * 30 + [2.0] * 10 + [3.0] * 60)


def test_bars_are_as_high_as_they_count() -> None:
    page = histogram(VALUES, "Light")
    heights = [float(height) for height in re.findall(r'height="([\d.]+)" style="fill', page)]
    counts = [int(count.replace(",", "")) for count in re.findall(r"and more: ([\d,]+)</title>", page)]
    assert sum(counts) == 100
    assert heights == pytest.approx([110 * count / 60 for count in counts], abs=0.06)
    assert "the tallest bar is 60" in page


def test_a_line_is_told_only_where_it_is_drawn() -> None:
    assert "line: black" in histogram(VALUES, "Light", marks={"black": 1.5})
    page = histogram(VALUES, "Light", marks={"black": 0.5, "bright": 2.5})
    assert "line: black" not in page
    assert "line: bright" in page


def test_one_value_is_said_instead_of_drawn() -> None:
    page = histogram(np.full(7, 160), "Side", unit="px")
    assert "<svg" not in page
    assert "Side: 160 px for all" in page
