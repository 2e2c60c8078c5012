"""What each method takes the validation images for: k-NN, linear probe and few-shot k-NN."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sltdino.evaluation.cross_validation import Fold, folds
from sltdino.evaluation.few_shot import DRAWS, few_shot_predictions
from sltdino.evaluation.knn import most_voted, nearest
from sltdino.evaluation.labelled import LabelledImages
from sltdino.evaluation.linear_probe import linear_probe


class Method(NamedTuple):
    """How features are judged; what means nothing for a method is None."""

    method: Literal["knn", "linear", "few-shot"]
    k: int | None = None
    shots: int | None = None
    """Labelled images of each class."""
    temp: float | None = None


class Predicted(NamedTuple):
    """What a method says."""

    method: Method
    classes_EB: NDArray[np.int64]
    """Of every validation image, in each of the method's draws."""
    l2: float | None = None
    """Regularisation of the linear probe; None where folds chose different ones."""
    notes: tuple[str, ...] = ()


def predictions(
    train_ND: Tensor,
    val_BD: Tensor,
    data: LabelledImages,
    *,
    ks: Sequence[int],
    shots: Sequence[int],
    temp: float,
    solver: str,
) -> Iterator[Predicted]:
    """What the methods say of one kind of features, one after another.

    Where the data have one side, k-NN leaves each image out, or its group; the others go by folds.

    Args:
        train_ND, val_BD: features of `data.train` and `data.val`.
    """
    labels_N = torch.from_numpy(data.train.labels_N)
    groups_N = torch.from_numpy(data.val.apart()) if data.one_sided else None
    found = nearest(train_ND, val_BD, k=max(ks), groups_M=groups_N)
    for k in ks:
        classes_B = most_voted(found, labels_N, k=k, temp=temp)
        yield Predicted(Method("knn", k=k, temp=temp), classes_B[None].numpy())
    parts = folds(data.val) if data.one_sided else [Fold(np.arange(len(train_ND)), np.arange(len(val_BD)))]
    yield _linear(train_ND, val_BD, data, parts, solver)
    for number in shots:
        classes_EB = np.empty((DRAWS, len(val_BD)), dtype=np.int64)
        for part in parts:
            classes_EB[:, part.val] = few_shot_predictions(
                train_ND[part.train], labels_N[part.train], val_BD[part.val], shots=number, temp=temp
            )
        yield Predicted(Method("few-shot", k=number, shots=number, temp=temp), classes_EB)


def _linear(train_ND: Tensor, val_BD: Tensor, data: LabelledImages, parts: Sequence[Fold], solver: str) -> Predicted:
    classes_B, chosen, notes = np.empty(len(val_BD), dtype=np.int64), set[float](), dict[str, None]()
    for part in parts:
        probed = linear_probe(
            train_ND[part.train],
            torch.from_numpy(data.train.labels_N[part.train]),
            val_BD[part.val],
            groups_N=None if data.train.groups_N is None else data.train.groups_N[part.train],
            solver=solver,
        )
        classes_B[part.val] = probed.predicted_B.numpy()
        chosen.add(probed.l2)
        notes |= dict.fromkeys(probed.notes)
    l2 = chosen.pop() if len(chosen) == 1 else None
    return Predicted(Method("linear"), classes_B[None], l2, tuple(notes))
