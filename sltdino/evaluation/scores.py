"""k-NN, linear probe and few-shot k-NN of several features of the same images, with intervals, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sltdino.evaluation.bootstrap import Interval, Replicates, bootstrap, interval
from sltdino.evaluation.few_shot import few_shot_predictions
from sltdino.evaluation.knn import nearest, votes
from sltdino.evaluation.labelled import LabelledImages
from sltdino.evaluation.linear_probe import linear_probe
from sltdino.evaluation.metrics import balanced_accuracy, confusion_matrix

TRAINED, UNTRAINED = "trained", "untrained"


class Method(NamedTuple):
    """How features are judged; what means nothing for a method is None."""

    method: Literal["knn", "linear", "few-shot"]
    k: int | None = None
    shots: int | None = None
    """Labelled images of each class."""
    temp: float | None = None

    @property
    def title(self) -> str:
        """For a person."""
        if self.method == "few-shot":
            return f"{self.shots}-shot {self.shots}-NN"
        return f"{self.k}-NN" if self.method == "knn" else "linear probe"


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
    """Regularisation of the linear probe, as chosen."""


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


class _Predicted(NamedTuple):
    method: Method
    classes_EB: Tensor
    """Of every validation image, in each of the method's draws."""
    l2: float | None = None
    notes: tuple[str, ...] = ()


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
        for found in _predictions(train[name], val[name], data, ks=ks, shots=shots, temp=temp, solver=solver):
            classes_EN = found.classes_EB.numpy()
            tables = [confusion_matrix(labels_N, row, num_classes=len(data.labels)) for row in classes_EN]
            replicates = drawn[name, found.method] = bootstrap(classes_EN == labels_N, labels_N, groups_N)
            scores.append(
                Score(
                    features=name,
                    method=found.method,
                    accuracy=float(np.mean([np.trace(table) / len(labels_N) for table in tables])),
                    accuracy_interval=interval(replicates.accuracy_R),
                    balanced_accuracy=float(np.mean([balanced_accuracy(table) for table in tables])),
                    balanced_accuracy_interval=interval(replicates.balanced_R),
                    l2=found.l2,
                )
            )
            notes += [f"{note} ({name})" for note in found.notes]
            confusion_CC = tables[0] if confusion_CC is None and name == TRAINED else confusion_CC
    assert confusion_CC is not None
    return Scores(tuple(scores), tuple(_gains(scores, drawn)), confusion_CC, tuple(notes))


def possible_shots(data: LabelledImages, shots: Sequence[int]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The numbers of shots that every class has training images for, and a note for each of the others."""
    counts = np.bincount(data.train.labels_N, minlength=len(data.labels))
    fewest = min((count for count in counts.tolist() if count), default=0)
    label = data.labels[counts.tolist().index(fewest)]
    notes = tuple(
        f"{number} shots: left out, because {label} has {fewest:,} training images"
        for number in shots
        if number > fewest
    )
    return tuple(number for number in shots if number <= fewest), notes


def _predictions(
    train_ND: Tensor,
    val_BD: Tensor,
    data: LabelledImages,
    *,
    ks: Sequence[int],
    shots: Sequence[int],
    temp: float,
    solver: str,
) -> Iterator[_Predicted]:
    labels_N = torch.from_numpy(data.train.labels_N)
    found = nearest(train_ND, val_BD, k=max(ks))
    for k in ks:
        classes_B = votes(found, labels_N, k=k, temp=temp).argmax(dim=-1)
        yield _Predicted(Method("knn", k=k, temp=temp), classes_B[None])
    probed = linear_probe(train_ND, labels_N, val_BD, groups_N=data.train.groups_N, solver=solver)
    yield _Predicted(Method("linear"), probed.predicted_B[None], probed.l2, probed.notes)
    for number in shots:
        classes_EB = few_shot_predictions(train_ND, labels_N, val_BD, shots=number, temp=temp)
        yield _Predicted(Method("few-shot", k=number, shots=number, temp=temp), classes_EB)


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
