"""Intervals, against what is known of binomial numbers and of groups."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sltdino.evaluation import bootstrap as module
from sltdino.evaluation.bootstrap import bootstrap, interval

Right = NDArray[np.bool_]


def accuracy_interval(right_EN: Right, groups_N: NDArray[np.int64] | None = None) -> tuple[float, float]:
    number = right_EN.shape[1]
    labels_N = np.zeros(number, dtype=np.int64)
    return interval(bootstrap(right_EN, labels_N, np.arange(number) if groups_N is None else groups_N).accuracy_R)


def test_drawing_images_gives_the_quantiles_of_the_binomial_distribution() -> None:
    right = np.arange(300)[None] < 210
    expected = np.quantile(np.random.default_rng(1).binomial(300, 0.7, 200_000) / 300, [0.025, 0.975])
    np.testing.assert_allclose(accuracy_interval(right), expected, atol=0.008)


def test_95_of_100_intervals_hold_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPLICATES", 400)
    rng, held = np.random.default_rng(2), 0
    for _ in range(200):
        low, high = accuracy_interval(rng.random((1, 150)) < 0.8)
        held += low <= 0.8 <= high
    assert 0.90 <= held / 200 <= 0.98


def test_groups_whose_images_agree_count_as_one_image_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPLICATES", 400)
    rng, by_group, by_image = np.random.default_rng(3), 0, 0
    groups_N = np.repeat(np.arange(40), 10)
    for _ in range(50):
        right = np.repeat(rng.random(40) < 0.6, 10)[None]
        low, high = accuracy_interval(right, groups_N)
        by_group += low <= 0.6 <= high
        low, high = accuracy_interval(right)
        by_image += low <= 0.6 <= high
    assert by_group >= 43
    assert by_image < 35


def test_balanced_accuracy_is_drawn_class_by_class() -> None:
    rng = np.random.default_rng(4)
    labels_N = np.repeat([0, 1], [380, 20])
    right = rng.random(400) < np.where(labels_N == 0, 0.9, 0.5)
    drawn = [
        np.mean([right[rows][labels_N[rows] == label].mean() for label in (0, 1)])
        for rows in (rng.integers(400, size=400) for _ in range(2000))
    ]
    ours = bootstrap(right[None], labels_N, np.arange(400)).balanced_R
    np.testing.assert_allclose(interval(ours), np.quantile(drawn, [0.025, 0.975]), atol=0.02)
    assert ours.std() == pytest.approx(np.std(drawn), rel=0.1)


def test_draws_of_labelled_images_are_drawn_too() -> None:
    rng = np.random.default_rng(5)
    right = rng.random((4, 2000)) < np.array([0.3, 0.5, 0.6, 0.9])[:, None]  # they differ more than images do
    low, high = accuracy_interval(right)
    spread = np.quantile([rng.choice([0.3, 0.5, 0.6, 0.9], 4).mean() for _ in range(20_000)], [0.025, 0.975])
    np.testing.assert_allclose((low, high), spread, atol=0.03)


def test_the_same_draws_are_made_again_so_that_differences_are_of_the_same_images() -> None:
    right = np.random.default_rng(6).random((1, 500)) < 0.5
    labels_N, groups_N = np.zeros(500, dtype=np.int64), np.arange(500)
    one, other = (bootstrap(values, labels_N, groups_N).accuracy_R for values in (right, ~right))
    np.testing.assert_allclose(one + other, 1)
