"""k-NN with a handful of labelled images of each class."""

import torch
from torch import Tensor

from sltdino.core.rng import generator
from sltdino.evaluation.knn import most_voted, nearest

DRAWS = 20
"""Sets of labelled images that are drawn; the accuracy is the mean over them."""


def few_shot_predictions(
    train_MD: Tensor, labels_M: Tensor, queries_BD: Tensor, *, shots: int, temp: float, seed: int = 0
) -> Tensor:
    """The class of every query by `shots` images of each class, of each of the draws: `[DRAWS, B]`.

    As many neighbours vote as a class has images. A draw's first image is the same for any number of shots, so what
    more shots bring is not a matter of luck.

    Args:
        labels_M: class numbers, 0-based; each class that occurs has at least `shots` rows.
    """
    rows_of = [(labels_M == label).nonzero()[:, 0] for label in torch.unique(labels_M).tolist()]
    predicted = []
    for draw in range(DRAWS):
        rng = generator(seed, "few-shot", draw)
        chosen = torch.cat([rows[torch.from_numpy(rng.permutation(len(rows))[:shots])] for rows in rows_of])
        found = nearest(train_MD[chosen], queries_BD, k=shots)
        predicted.append(most_voted(found, labels_M[chosen], k=shots, temp=temp))
    return torch.stack(predicted)
