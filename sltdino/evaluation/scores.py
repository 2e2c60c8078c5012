"""k-NN, linear probe and few-shot k-NN of several features of the same images, with intervals, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sltdino.evaluation.bootstrap import Interval, Replicates, bootstrap, interval
from sltdino.evaluation.cross_validation import fewest_train_images
from sltdino.evaluation.labelled import LabelledImages
from sltdino.evaluation.metrics import balanced_accuracy, confusion_matrix
from sltdino.evaluation.predictions import Method, predictions

TRAINED, UNTRAINED = "trained", "untrained"


class Score(NamedTuple):
    """What features are worth by a method; the accuracies of few-shot are means over its draws."""

    features: str
    method: Method
    accuracy: float
    accuracy_interval: Interval
    balanced_accuracy: float
    """Mean over classes of the share recognised."""
    balanced_accuracy_interval: Interval
    l2: float | None
    """Regularisation of the linear probe, as chosen; None where folds chose different ones."""


class Gain(NamedTuple):
    """By how much the trained features are better than others: their difference on the same images."""

    over: str
    method: Method
    accuracy: float
    accuracy_interval: Interval


class Scores(NamedTuple):
    """The whole table."""

    scores: tuple[Score, ...]
    gains: tuple[Gain, ...]
    confusion_CC: NDArray[np.int64]
    """Of the trained features by the first method."""
    notes: tuple[str, ...]


def score_features(
    train: Mapping[str, Tensor],
    val: Mapping[str, Tensor],
    data: LabelledImages,
    *,
    ks: Sequence[int],
    shots: Sequence[int],
    temp: float,
    solver: str,
) -> Scores:
    """Judge features `[N, D]`, by name; `TRAINED` are those that the others are compared with.

    Args:
        train, val: features of `data.train` and `data.val`.
        shots: those with enough training images of each class; see `possible_shots`.
    """
    labels_N, groups_N = data.val.labels_N, data.val.groups_N
    if groups_N is None or data.val.num_groups < 2:
        groups_N = np.arange(len(labels_N))
    scores, drawn, notes = list[Score](), dict[tuple[str, Method], Replicates](), list[str]()
    confusion_CC = None
    for name in train:
        for found in predictions(train[name], val[name], data, ks=ks, shots=shots, temp=temp, solver=solver):
            classes_EN = found.classes_EB
            table = confusion_matrix(labels_N, classes_EN[0], num_classes=len(data.labels))
            replicates = drawn[name, found.method] = bootstrap(classes_EN == labels_N, labels_N, groups_N)
            scores.append(
                Score(
                    features=name,
                    method=found.method,
                    accuracy=float((classes_EN == labels_N).mean()),
                    accuracy_interval=interval(replicates.accuracy_R),
                    balanced_accuracy=balanced_accuracy(classes_EN == labels_N, labels_N),
                    balanced_accuracy_interval=interval(replicates.balanced_R),
                    l2=found.l2,
                )
            )
            notes += [f"{note} ({name})" for note in found.notes]
            confusion_CC = table if confusion_CC is None and name == TRAINED else confusion_CC
    assert confusion_CC is not None
    return Scores(tuple(scores), tuple(_gains(scores, drawn)), confusion_CC, tuple(notes))


def possible_shots(data: LabelledImages, shots: Sequence[int]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The numbers of shots that every class has training images for, and a note for each of the others."""
    counts = fewest_train_images(data)
    fewest = min((count for count in counts.tolist() if count), default=0)
    where = " in a fold" if data.one_sided else ""
    label = data.labels[counts.tolist().index(fewest)]
    notes = tuple(
        f"{number} shots: left out, because {label} has {fewest:,} training images{where}"
        for number in shots
        if number > fewest
    )
    return tuple(number for number in shots if number <= fewest), notes


def _gains(scores: Sequence[Score], drawn: Mapping[tuple[str, Method], Replicates]) -> Iterator[Gain]:
    trained = {score.method: score.accuracy for score in scores if score.features == TRAINED}
    for score in scores:
        if score.features != TRAINED:
            ours, theirs = drawn[TRAINED, score.method], drawn[score.features, score.method]
            yield Gain(
                score.features,
                score.method,
                trained[score.method] - score.accuracy,
                interval(ours.accuracy_R - theirs.accuracy_R),
            )
