"""The weighted vote, against numpy loops written from the protocol."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from sltdino.evaluation import knn
from sltdino.evaluation.knn import knn_accuracy, leave_one_out_accuracy, most_voted, nearest, votes


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
    found = nearest(bank, torch.from_numpy(features[40:]), k=k)
    assert most_voted(found, bank_labels, k=k, temp=temp).tolist() == expected
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
    one, other = (votes(nearest(bank, features, k=5), labels, k=5, temp=0.07) for bank in (features, longer))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("leave_one_out", [True, False])
def test_in_parts_the_votes_are_those_of_all_at_once(
    data: tuple[NDArray[np.float64], NDArray[np.int64]], leave_one_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, labels = map(torch.from_numpy, data)
    groups = torch.arange(60) if leave_one_out else None
    at_once = nearest(features, features, k=7, groups_M=groups)
    classes = votes(at_once, labels, k=7, temp=0.07).argmax(dim=-1)
    monkeypatch.setattr(knn, "_MOST_NUMBERS", 7 * 60)
    assert len(list(knn._nearest_by_parts(features, features, 7, groups))) == 9
    in_parts = nearest(features, features, k=7, groups_M=groups)
    torch.testing.assert_close(in_parts.similarity_Bk, at_once.similarity_Bk)
    assert torch.equal(most_voted(in_parts, labels, k=7, temp=0.07), classes)


def test_with_groups_the_vote_is_of_the_images_of_all_other_groups(
    data: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> None:
    features, labels = data
    groups = np.random.default_rng(1).integers(0, 4, 60)
    found = nearest(*[torch.from_numpy(features)] * 2, k=50, groups_M=torch.from_numpy(groups))
    ours = most_voted(found, torch.from_numpy(labels), k=50, temp=0.07)  # of a large group, fewer than 50 others
    for row in range(60):
        others = groups != groups[row]
        assert ours[row] == predict(features[others], labels[others].tolist(), features[row], 50, 0.07)


def test_several_k_in_one_pass_predict_as_scikit_learn_does() -> None:
    pixels, labels = load_digits(return_X_y=True)
    bank, queries = slice(0, 900), slice(900, None)
    found = nearest(torch.from_numpy(pixels[bank]), torch.from_numpy(pixels[queries]), k=100)
    for k in (1, 5, 20, 100):
        ours = votes(found, torch.from_numpy(labels[bank]), k=k, temp=0.07).argmax(dim=-1).numpy()
        theirs = KNeighborsClassifier(k, metric="cosine", weights=lambda far: np.exp((1 - far) / 0.07))
        theirs.fit(pixels[bank], labels[bank])
        np.testing.assert_array_equal(ours, theirs.predict(pixels[queries]))
        assert (ours != labels[queries]).any()


def test_the_accuracy_is_the_fraction_itself() -> None:
    features = torch.eye(3)
    assert knn_accuracy(features, torch.tensor([0, 1, 2]), features, torch.tensor([0, 0, 0]), k=1, temp=0.07) == 1 / 3
