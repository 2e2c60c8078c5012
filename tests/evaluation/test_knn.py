"""The weighted vote, against numpy loops written from the protocol."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sltdino.evaluation.knn import knn_accuracy, knn_scores, leave_one_out_accuracy


def predict(bank: NDArray[np.float64], labels: list[int], query: NDArray[np.float64], k: int, temp: float) -> int:
    cosines = [row @ query / np.linalg.norm(row) / np.linalg.norm(query) for row in bank]
    nearest = sorted(range(len(bank)), key=lambda row: -cosines[row])[:k]
    votes = dict.fromkeys(labels, 0.0)
    for row in nearest:
        votes[labels[row]] += np.exp(cosines[row] / temp)
    return max(votes, key=lambda label: votes[label])


@pytest.fixture
def data() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """60 overlapping points of 4 classes: some are predicted wrongly."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 60)
    return rng.normal(size=(4, 8))[labels] + 1.2 * rng.normal(size=(60, 8)), labels


@pytest.mark.parametrize("temp", [0.005, 0.07, 1.0])
@pytest.mark.parametrize("k", [1, 5, 20, 1000])
def test_the_vote_is_that_of_the_protocol(
    data: tuple[NDArray[np.float64], NDArray[np.int64]], k: int, temp: float
) -> None:
    features, labels = data
    expected = [predict(features[:40], labels[:40].tolist(), query, k, temp) for query in features[40:]]
    bank, bank_labels = torch.from_numpy(features[:40]), torch.from_numpy(labels[:40])
    scores = knn_scores(bank, bank_labels, torch.from_numpy(features[40:]), k=k, temp=temp)
    assert scores.argmax(dim=-1).tolist() == expected
    accuracy = knn_accuracy(
        bank, bank_labels, torch.from_numpy(features[40:]), torch.from_numpy(labels[40:]), k=k, temp=temp
    )
    assert accuracy == pytest.approx(np.mean(expected == labels[40:]))
    assert 0.2 < accuracy < 1


@pytest.mark.parametrize("k", [1, 7, 1000])
def test_leaving_one_out_asks_all_the_others(data: tuple[NDArray[np.float64], NDArray[np.int64]], k: int) -> None:
    features, labels = data
    right = 0
    for row in range(len(features)):
        others = np.arange(len(features)) != row
        right += predict(features[others], labels[others].tolist(), features[row], k, 0.07) == labels[row]
    accuracy = leave_one_out_accuracy(torch.from_numpy(features), torch.from_numpy(labels), k=k, temp=0.07)
    assert accuracy == pytest.approx(right / len(features))
    assert accuracy < 1  # a row that saw itself would always be right at k = 1


def test_the_length_of_a_feature_does_not_matter(data: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
    features, labels = map(torch.from_numpy, data)
    longer = features * torch.linspace(0.1, 100, len(features))[:, None]
    one, other = (knn_scores(bank, labels, features, k=5, temp=0.07) for bank in (features, longer))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
