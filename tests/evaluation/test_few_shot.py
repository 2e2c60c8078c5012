"""k-NN with few images of each class."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from sltdino.core.rng import generator
from sltdino.evaluation.few_shot import DRAWS, few_shot_predictions

RNG = np.random.default_rng(0)
LABELS = RNG.permutation(np.repeat([0, 1, 3], [30, 12, 20]))
CENTRES = RNG.normal(size=(4, 16))
TRAIN, QUERIES = (CENTRES[labels] + RNG.normal(size=(len(labels), 16)) for labels in (LABELS, LABELS[:40]))


def predictions(shots: int) -> torch.Tensor:
    train, queries = torch.from_numpy(TRAIN), torch.from_numpy(QUERIES)
    return few_shot_predictions(train, torch.from_numpy(LABELS), queries, shots=shots, temp=0.07)


def test_each_draw_is_a_vote_of_that_many_images_of_each_class() -> None:
    found = predictions(5)
    for draw in (0, DRAWS - 1):
        rng = generator(0, "few-shot", draw)
        chosen = np.concatenate([rng.permutation(np.flatnonzero(label == LABELS))[:5] for label in (0, 1, 3)])
        assert [np.sum(LABELS[chosen] == label) for label in (0, 1, 3)] == [5, 5, 5]
        theirs = KNeighborsClassifier(5, metric="cosine", weights=lambda far: np.exp((1 - far) / 0.07))
        theirs.fit(TRAIN[chosen], LABELS[chosen])
        assert found[draw].tolist() == theirs.predict(QUERIES).tolist()


@pytest.mark.parametrize("shots", [1, 12])
def test_draws_are_others_and_the_same_in_every_call(shots: int) -> None:
    found = predictions(shots)
    assert found.shape == (DRAWS, 40)
    assert len({tuple(row) for row in found.tolist()}) > 1
    assert torch.equal(found, predictions(shots))


def test_more_shots_help() -> None:
    one, twelve = ((predictions(shots) == torch.from_numpy(LABELS[:40])).float().mean() for shots in (1, 12))
    assert 0.4 < one < twelve < 1
