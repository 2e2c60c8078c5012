"""Curves of any length in constant memory."""

import random

import numpy as np

from sltdino.report.curves import STRETCHES, Curves, number


def test_a_short_curve_is_every_value() -> None:
    curves = Curves(["a", "b"])
    curves.add([10, 20], [[1.0, None], [2.0, 5]])
    curve = curves.of("a")
    assert [values.tolist() for values in curve] == [[10, 20], [1, 2], [1, 2], [1, 2]]
    assert curves.of("b").as_json() == {
        "steps": [10, 20], "low": [None, 5], "mean": [None, 5], "high": [None, 5],
    }  # fmt: skip
    assert curves.of("b").known().steps.tolist() == [20]


def test_a_long_curve_has_the_extremes_and_means_of_its_stretches() -> None:
    rng, curves = random.Random(0), Curves(["a"])
    values = [rng.gauss(0, 1) if rng.random() < 0.9 else None for _ in range(50_000)]
    at = 0
    while at < len(values):  # in pieces of every size, as a run that is followed is read
        size = rng.choice([1, 2, 1000, 4096])
        curves.add(range(at + 1, min(at + size, len(values)) + 1), [[value] for value in values[at : at + size]])
        at += size
    curve = curves.of("a")
    assert STRETCHES <= len(curve.steps) <= 2 * STRETCHES
    starts = np.concatenate(([0], curve.steps[:-1])).astype(int)
    parts = [
        [value for value in values[first : int(last)] if value is not None]
        for first, last in zip(starts, curve.steps, strict=True)
    ]
    np.testing.assert_allclose(curve.low, [min(part) for part in parts])
    np.testing.assert_allclose(curve.high, [max(part) for part in parts])
    np.testing.assert_allclose(curve.mean, [sum(part) / len(part) for part in parts])


def test_memory_is_bounded_also_where_steps_go_up_and_down() -> None:
    curves = Curves(["a"])
    for _ in range(20):
        curves.add([1, 10**12] * 500, [[1.0]] * 1000)
    assert len(curves.of("a").steps) <= 2 * STRETCHES


def test_what_is_no_number_is_none() -> None:
    curves = Curves(["a"])
    curves.add([1, 2, 3, 4], [["x"], [{}], [10**400], [2]])
    assert curves.of("a").known().mean.tolist() == [2]
    assert [number(value) for value in (1, 2.5, True, None, "3", float("nan"), float("inf"), 10**400)] == [
        1, 2.5, None, None, None, None, None, None,
    ]  # fmt: skip
