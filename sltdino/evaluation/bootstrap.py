"""How far an accuracy would move with other validation images: bootstrap intervals, by group where groups are known."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sltdino.core.rng import generator

REPLICATES = 2000
"""Data sets drawn: the ends of a 95 % interval are then steady to about a tenth of its width."""
LEVEL = 0.95

Interval = tuple[float, float]
Reals = NDArray[np.float64]


class Replicates(NamedTuple):
    """Both accuracies on every data set drawn; the same draws for all methods, so that differences can be taken."""

    accuracy_R: Reals
    balanced_R: Reals


def bootstrap(
    right_EN: NDArray[np.bool_], labels_N: NDArray[np.int64], groups_N: NDArray[np.int64], *, seed: int = 0
) -> Replicates:
    """Draw groups of images with replacement, and experiments too where there are several, as in few-shot.

    Images of one signer resemble each other, so their number says less than as many independent ones would: whole
    groups are drawn (the cluster bootstrap; Davison and Hinkley 1997, section 3.8). Numbering every image as a group of
    its own gives the ordinary bootstrap.

    Args:
        right_EN: whether each experiment takes each image for what it is.
        labels_N: class numbers, 0-based.
        groups_N: group numbers, 0-based and without gaps.
    """
    draw, draw_experiments = generator(seed, "bootstrap"), generator(seed, "experiments")
    num_groups, num_classes = int(groups_N.max()) + 1, int(labels_N.max()) + 1
    accuracy_R, balanced_R = np.empty(REPLICATES), np.empty(REPLICATES)
    for r in range(REPLICATES):
        weights_N = _drawn(draw, num_groups)[groups_N]
        right_N = _drawn(draw_experiments, len(right_EN)) / len(right_EN) @ right_EN
        counts_C = np.bincount(labels_N, weights_N, minlength=num_classes)
        right_C = np.bincount(labels_N, weights_N * right_N, minlength=num_classes)
        accuracy_R[r] = right_C.sum() / counts_C.sum()
        seen_C = counts_C > 0  # a class that was not drawn has no recall, and counts for nothing
        balanced_R[r] = (right_C[seen_C] / counts_C[seen_C]).mean()
    return Replicates(accuracy_R, balanced_R)


def interval(values_R: Reals) -> Interval:
    """The middle 95 % of what was drawn (percentile interval; Efron 1979)."""
    low, high = np.quantile(values_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _drawn(rng: np.random.Generator, number: int) -> Reals:
    """How often each of `number` things is drawn in `number` draws."""
    return np.bincount(rng.integers(number, size=number), minlength=number).astype(np.float64)
