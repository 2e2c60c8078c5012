"""The label-free measures against the formulas of their papers, written in numpy."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sltdino.evaluation.label_free import alignment, clip_retrieval, feature_std, rankme, uniformity
from sltdino.training.observation import observe
from sltdino.training.trainer import StepResult

Matrix = NDArray[np.float64]


@pytest.fixture(scope="module")
def features() -> Matrix:
    """300 rows, more than a block of the distances, in 24 directions of very different size, away from the origin."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 24)) @ np.diag(0.8 ** np.arange(24)) @ rng.normal(size=(24, 24)) + rng.normal(size=24)


def unit(rows: Matrix) -> Matrix:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def tensor(rows: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(rows))


def test_rankme_is_the_exponential_of_the_entropy_of_the_singular_values(features: Matrix) -> None:
    singular = np.linalg.svd(features, compute_uv=False)
    shares = singular / np.abs(singular).sum() + 1e-7
    assert rankme(tensor(features)) == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-9)


@pytest.mark.parametrize("rank", [1, 5, 24])
def test_rankme_counts_directions_of_equal_size(rank: int) -> None:
    rows = np.zeros((48, 24))
    rows[np.arange(48), np.arange(48) % rank] = 3.0
    rows[48 // rank * rank :] = 0
    assert rankme(tensor(rows)) == pytest.approx(rank, rel=1e-4)


def test_rankme_does_not_depend_on_scale_or_rotation(features: Matrix) -> None:
    turned = 7 * features @ np.linalg.qr(np.random.default_rng(1).normal(size=(24, 24)))[0]
    assert rankme(tensor(turned)) == pytest.approx(rankme(tensor(features)), rel=1e-9)


def test_features_that_are_all_zero_have_one_direction_and_not_none() -> None:
    assert rankme(torch.zeros(5, 3)) == pytest.approx(1, abs=1e-4)


def test_uniformity_is_the_log_of_the_mean_gaussian_potential_of_all_pairs(features: Matrix) -> None:
    rows, total = unit(features), 0.0
    for one in range(len(rows)):
        for other in range(one):
            total += math.exp(-2 * float(np.square(rows[one] - rows[other]).sum()))
    assert uniformity(tensor(features)) == pytest.approx(math.log(total / (300 * 299 / 2)), rel=1e-9)


def test_uniformity_is_zero_in_one_point_and_minus_eight_for_opposite_ones() -> None:
    assert uniformity(torch.ones(5, 3)) == pytest.approx(0, abs=1e-9)
    assert uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8)


def test_alignment_is_the_mean_squared_distance_of_two_views_on_the_sphere(features: Matrix) -> None:
    other = 3 * features + np.random.default_rng(2).normal(size=features.shape)
    expected = np.mean(np.linalg.norm(unit(features) - unit(other), axis=1) ** 2)
    assert alignment(tensor(features), tensor(other)) == pytest.approx(expected, rel=1e-9)


def test_the_spread_is_that_of_the_health_watch(features: Matrix) -> None:
    rows = tensor(features).float()
    even = torch.full((2, 4), 0.25)
    step = StepResult({"loss_cls": torch.zeros(())}, features_CBD=rows[None], targets_MK=even, scores_MK=even)
    assert feature_std(rows) == pytest.approx(observe(step, student_temp=0.1).feature_spread, rel=1e-5)
    assert feature_std(tensor(np.random.default_rng(3).normal(size=(4000, 24)))) == pytest.approx(1, abs=0.01)


def test_retrieval_is_that_of_a_search_through_all_pairs(features: Matrix) -> None:
    clips = np.arange(300) // 5
    rows = features + 1.5 * features[5 * clips]  # frames of a clip are alike, somewhat
    hits = 0
    for row, mine in enumerate(rows):
        cosines = unit(rows) @ (mine / np.linalg.norm(mine))
        cosines[row] = -2
        hits += int(clips[int(cosines.argmax())] == clips[row])
    assert 0.2 < hits / 300 < 0.98
    assert clip_retrieval(tensor(rows), tensor(clips)) == pytest.approx(hits / 300)


def test_retrieval_is_perfect_where_clips_lie_apart_and_never_finds_the_image_itself() -> None:
    rows = np.repeat(np.eye(3), 4, axis=0) + 0.01 * np.random.default_rng(4).normal(size=(12, 3))
    assert clip_retrieval(tensor(rows), tensor(np.repeat(np.arange(3), 4))) == 1
    assert clip_retrieval(tensor(rows), tensor(np.arange(12))) == 0
