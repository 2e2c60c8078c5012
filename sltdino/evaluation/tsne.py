"""A map of points in two dimensions that keeps neighbours together: exact t-SNE, and how far to trust it."""

import numpy as np
import torch
from numpy.typing import NDArray

from sltdino.evaluation.components import principal_components

Floats = NDArray[np.float64]

PERPLEXITY = 30.0
_EXAGGERATION, _EXAGGERATED, _ITERATIONS = 12.0, 250, 750
_LEAST_RATE, _LEAST_GAIN = 50.0, 0.01
_BISECTIONS = 50
_TINY = 1e-12


def usable_perplexity(num_points: int) -> float:
    """30, or a third of the points where they are few: a perplexity near their number asks for no neighbours at all."""
    return min(PERPLEXITY, max(1.0, (num_points - 1) / 3))


def tsne(points_MD: NDArray[np.floating], *, perplexity: float) -> Floats:
    """Places `[M, 2]` in which near points of `[M, D]` are near (van der Maaten and Hinton 2008).

    Exact, so for up to about a thousand points: M² numbers, 750 iterations. It starts from the first two principal
    components and draws nothing at random. Exaggeration, momentum, gains and the learning rate M / 48 (at least 50) are
    those of scikit-learn.

    Args:
        perplexity: of each point's neighbourhood, below M.
    """
    num_points = len(points_MD)
    assert 1 <= perplexity < num_points
    joint_MM = _joint_probabilities(_squared_distances(points_MD.astype(np.float64)), perplexity)
    start = principal_components(torch.from_numpy(np.ascontiguousarray(points_MD)), 2).scores_MC.double().numpy()
    places = np.zeros((num_points, 2))
    places[:, : start.shape[1]] = start * (1e-4 / max(float(start[:, 0].std()), _TINY))
    rate = max(num_points / _EXAGGERATION / 4, _LEAST_RATE)
    step, gains = np.zeros_like(places), np.ones_like(places)
    for iteration in range(_ITERATIONS):
        early = iteration < _EXAGGERATED
        gradient = _gradient(joint_MM * _EXAGGERATION if early else joint_MM, places)
        gains = np.where(step * gradient < 0, gains + 0.2, gains * 0.8).clip(_LEAST_GAIN)
        step = (0.5 if early else 0.8) * step - rate * gains * gradient
        places = places + step
    centered: Floats = places - places.mean(axis=0)
    return centered


def trustworthiness(points_MD: NDArray[np.floating], places_M2: Floats, *, num_neighbours: int) -> float:
    """How far neighbours in the map are neighbours in truth: 1 when all are, about 0.5 by chance.

    Venna and Kaski 2001: each of the `num_neighbours` nearest in the map counts by how much later than that it comes in
    truth. At most half as many neighbours as points.
    """
    num_points, k = len(points_MD), num_neighbours
    true_ranks, map_ranks = (_ranks(_squared_distances(rows.astype(np.float64))) for rows in (points_MD, places_M2))
    excess = np.where(map_ranks <= k, true_ranks - k, 0).clip(0).sum()
    return float(1 - 2 / (num_points * k * (2 * num_points - 3 * k - 1)) * excess)


def _squared_distances(rows_MD: Floats) -> Floats:
    squares_M = np.square(rows_MD).sum(axis=1)
    distances: Floats = (squares_M[:, None] + squares_M[None] - 2 * rows_MD @ rows_MD.T).clip(0)
    np.fill_diagonal(distances, 0)
    return distances


def _joint_probabilities(distances_MM: Floats, perplexity: float) -> Floats:
    """Gaussian neighbourhoods of the asked perplexity, found by bisection for all points at once, made symmetric."""
    low, high = np.zeros(len(distances_MM)), np.full(len(distances_MM), np.inf)
    nearest_MM = distances_MM + np.diag(np.full(len(distances_MM), np.inf))
    shifted_MM = nearest_MM - nearest_MM.min(axis=1, keepdims=True)  # else exp of a far point's row is all 0
    precision = np.full(len(distances_MM), 1 / max(float(distances_MM.mean()), _TINY))
    for _ in range(_BISECTIONS):
        weights_MM = np.exp(-shifted_MM * precision[:, None])
        conditional_MM = weights_MM / weights_MM.sum(axis=1, keepdims=True)
        entropy = -(conditional_MM * np.log(conditional_MM.clip(_TINY))).sum(axis=1)
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, precision, low), np.where(wide, high, precision)
        precision = np.where(np.isinf(high), precision * 2, (low + np.where(np.isinf(high), 0, high)) / 2)
    joint_MM: Floats = (conditional_MM + conditional_MM.T) / (2 * len(distances_MM))
    return joint_MM


def _gradient(joint_MM: Floats, places_M2: Floats) -> Floats:
    kernel_MM = 1 / (1 + _squared_distances(places_M2))
    np.fill_diagonal(kernel_MM, 0)
    pull_MM = (joint_MM - kernel_MM / kernel_MM.sum()) * kernel_MM
    gradient: Floats = 4 * (pull_MM.sum(axis=1)[:, None] * places_M2 - pull_MM @ places_M2)
    return gradient


def _ranks(distances_MM: Floats) -> NDArray[np.int64]:
    """Each point's place in each row's order of distance, 0 for the point itself."""
    distances_MM = distances_MM - np.diag(np.full(len(distances_MM), np.inf))
    ranks = np.empty(distances_MM.shape, dtype=np.int64)
    np.put_along_axis(ranks, distances_MM.argsort(axis=1, kind="stable"), np.arange(len(ranks))[None], axis=1)
    return ranks
