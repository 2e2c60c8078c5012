"""How far an accuracy would move with other validation images: bootstrap intervals, by group where groups are known."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sltdino.core.rng import generator

REPLICATES = 2000
"""Data sets drawn: the ends of a 95 % interval are then steady to about a tenth of its width."""
LEVEL = 0.95
_MOST_WEIGHTS = 1 << 22  # held at once

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
    experiments, num_groups, num_classes = len(right_EN), int(groups_N.max()) + 1, int(labels_N.max()) + 1
    cells_N = groups_N * num_classes + labels_N
    size = num_groups * num_classes
    shape = (num_groups, num_classes)
    counts_GC = np.bincount(cells_N, minlength=size).reshape(shape).astype(np.float64)
    right_EGC = [np.bincount(cells_N, weights=row, minlength=size).reshape(shape) for row in right_EN]
    rng = generator(seed, "bootstrap")
    accuracy, balanced = list[Reals](), list[Reals]()
    at_once = max(1, min(REPLICATES, _MOST_WEIGHTS // num_groups))
    for start in range(0, REPLICATES, at_once):
        number = min(at_once, REPLICATES - start)
        weights_RG = _draws(rng, num_groups, number)
        weights_RE = _draws(generator(seed, "experiments", start), experiments, number) / experiments
        counts_RC = weights_RG @ counts_GC
        right_RC = np.zeros_like(counts_RC)
        for e in range(experiments):
            right_RC += weights_RE[:, e, None] * (weights_RG @ right_EGC[e])
        accuracy.append(right_RC.sum(axis=1) / counts_RC.sum(axis=1))
        # a class that was not drawn has no recall, and counts for nothing
        recall_RC = np.divide(right_RC, counts_RC, out=np.zeros_like(counts_RC), where=counts_RC > 0)
        balanced.append(recall_RC.sum(axis=1) / (counts_RC > 0).sum(axis=1))
    return Replicates(np.concatenate(accuracy), np.concatenate(balanced))


def interval(values_R: Reals) -> Interval:
    """The middle 95 % of what was drawn (percentile interval; Efron 1979)."""
    low, high = np.quantile(values_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _draws(rng: np.random.Generator, number: int, replicates: int) -> Reals:
    """How often each of `number` things is drawn in `number` draws: `[replicates, number]`."""
    drawn = rng.integers(number, size=(replicates, number)) + number * np.arange(replicates)[:, None]
    return np.bincount(drawn.ravel(), minlength=replicates * number).reshape(replicates, number).astype(np.float64)
