"""Axes and the numbers on them."""

import math
from itertools import pairwise

import pytest

from sltdino.report.web.ticks import axis, label


def test_an_axis_holds_its_values_with_room_on_both_sides() -> None:
    made = axis([2.0, 7.0])
    assert 0 < made.place(2.0) < 0.1
    assert 0.9 < made.place(7.0) < 1
    assert made.place(4.5) == pytest.approx(0.5)


def test_on_a_logarithmic_axis_factors_have_one_length() -> None:
    made = axis([0.01, 100.0], log=True)
    assert made.place(10) - made.place(1) == pytest.approx(made.place(1) - made.place(0.1))


def test_what_is_not_positive_lies_at_the_foot_of_a_logarithmic_axis() -> None:
    made = axis([0.0, -1.0, 1.0, 10.0], log=True)
    assert made.low > 0
    assert made.place(0.0) == made.place(-5.0) == 0


@pytest.mark.parametrize("values", [[], [0.0], [5.0, 5.0], [-3.0]])
@pytest.mark.parametrize("log", [False, True])
def test_one_value_or_none_has_an_axis_with_a_width(values: list[float], log: bool) -> None:
    made = axis(values, log=log)
    assert made.high > made.low
    assert all(math.isfinite(made.place(value)) for value in values)
    assert made.ticks()


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1900), (5.83, 7.18), (0.9921, 1.0), (-0.17, 1.05), (0, 1e-5), (1e6, 5e6), (0.33, 0.3300001)]
)
def test_ticks_are_few_round_even_and_inside(low: float, high: float) -> None:
    made = axis([low, high])
    ticks = made.ticks()
    steps = {float(f"{b - a:.6g}") for a, b in pairwise(ticks)}
    assert 3 <= len(ticks) <= 7
    assert all(made.low <= tick <= made.high for tick in ticks)
    assert len(steps) == 1
    mantissa = next(iter(steps)) / 10 ** math.floor(math.log10(next(iter(steps))) + 1e-9)
    assert any(mantissa == pytest.approx(round_one) for round_one in (1, 2, 5))


@pytest.mark.parametrize(("low", "high"), [(1e-6, 1e-3), (0.4, 3.1), (1.0, 1.3), (1e-9, 1e9)])
def test_ticks_of_a_logarithmic_axis_are_inside_and_few(low: float, high: float) -> None:
    made = axis([low, high], log=True)
    ticks = made.ticks()
    assert 2 <= len(ticks) <= 8
    assert all(made.low <= tick <= made.high * (1 + 1e-9) for tick in ticks)
    assert ticks == sorted(ticks)


@pytest.mark.parametrize(
    ("ticks", "texts"),
    [
        ([0, 500, 1000], ["0", "500", "1,000"]),
        ([6.0, 6.5, 7.0], ["6.0", "6.5", "7.0"]),
        ([0.992, 0.994], ["0.992", "0.994"]),
        ([20_000, 40_000], ["20k", "40k"]),
        ([1e6, 1.5e6], ["1M", "1.5M"]),
        ([1e-5, 1e-4, 1e-3], ["1e-5", "0.0001", "0.001"]),
    ],
)
def test_labels_tell_ticks_apart_without_needless_digits(ticks: list[float], texts: list[str]) -> None:
    assert [label(tick, ticks) for tick in ticks] == texts
