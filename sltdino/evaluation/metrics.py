"""What predictions are worth, class by class."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


class ClassScore(NamedTuple):
    """How a class fares. What would be a division by nothing is 0, as in scikit-learn."""

    num_images: int
    """Of the class."""
    precision: float
    """Share of what is taken for the class that is of it."""
    recall: float
    """Share of the class that is recognised."""
    f1: float
    """Harmonic mean of the two."""


def confusion_matrix(labels_N: Counts, predicted_N: Counts, *, num_classes: int) -> Counts:
    """How often a class (rows) is taken for another (columns): `[classes, classes]`."""
    pairs = np.bincount(labels_N * num_classes + predicted_N, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes).astype(np.int64)


def balanced_accuracy(right_EN: NDArray[np.bool_], labels_N: Counts) -> float:
    """Mean recall of the classes that have images, over experiments: rare classes count as much as frequent ones."""
    counts_C, right_C = np.bincount(labels_N), np.bincount(labels_N, right_EN.mean(axis=0))
    return float((right_C[counts_C > 0] / counts_C[counts_C > 0]).mean())


def class_scores(confusion_CC: Counts) -> tuple[ClassScore, ...]:
    """Precision, recall and F1 of every class."""
    return tuple(
        ClassScore(
            num_images=int(confusion_CC[c].sum()),
            precision=_ratio(confusion_CC[c, c], confusion_CC[:, c].sum()),
            recall=_ratio(confusion_CC[c, c], confusion_CC[c].sum()),
            f1=_ratio(2 * confusion_CC[c, c], confusion_CC[c].sum() + confusion_CC[:, c].sum()),
        )
        for c in range(len(confusion_CC))
    )


def _ratio(part: np.int64, whole: np.int64) -> float:
    return int(part) / int(whole) if whole else 0.0
