"""Judging the images of one labelled folder by each other: in folds that tear no group apart."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sltdino.core.rng import generator
from sltdino.evaluation.labelled import LabelledImages, Side

FOLDS = 5


class Fold(NamedTuple):
    """Rows that are judged, and all others."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]


def folds(side: Side, number: int = FOLDS) -> list[Fold]:
    """Up to so many folds, the same in every call: of whole groups, or of the images of every class in turn.

    Every row is judged once.
    """
    rng = generator(0, "folds")
    if side.groups_N is not None:
        of_group = rng.permutation(side.num_groups) % number
        of_row = of_group[side.groups_N]
    else:
        by_class = np.argsort(side.labels_N[order := rng.permutation(len(side.paths))], kind="stable")
        of_row = np.empty(len(order), dtype=np.int64)
        of_row[order[by_class]] = np.arange(len(order)) % number
    return [Fold(np.flatnonzero(of_row != fold), np.flatnonzero(of_row == fold)) for fold in np.unique(of_row)]


def fewest_train_images(data: LabelledImages) -> NDArray[np.int64]:
    """Training images of every class, `[classes]`; with folds, in the one where it has fewest of those with any."""
    number = len(data.labels)
    if not data.one_sided:
        return np.bincount(data.train.labels_N, minlength=number)
    counts_FC = np.array([np.bincount(data.val.labels_N[fold.train], minlength=number) for fold in folds(data.val)])
    most = np.iinfo(np.int64).max
    fewest_C = np.where(counts_FC > 0, counts_FC, most).min(axis=0)
    return np.where(fewest_C == most, 0, fewest_C)
