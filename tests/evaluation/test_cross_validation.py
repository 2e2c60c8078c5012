"""One labelled folder whose images are judged by each other, against scikit-learn on the same folds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sltdino.errors import DataError
from sltdino.evaluation.cross_validation import FOLDS, fewest_train_images, folds
from sltdino.evaluation.knn import leave_one_out_accuracy
from sltdino.evaluation.labelled import LabelledImages, Numbers, Side, check_classes, labelled_images
from sltdino.evaluation.linear_probe import linear_probe
from sltdino.evaluation.predictions import Predicted, predictions
from sltdino.evaluation.scores import possible_shots

PIXELS, DIGITS = load_digits(n_class=4, return_X_y=True)
ROWS = np.random.default_rng(0).permutation(len(DIGITS))[:160]
X, Y = torch.from_numpy(PIXELS[ROWS] + np.random.default_rng(1).normal(size=(160, 64), scale=6)), DIGITS[ROWS]
SIGNERS = np.random.default_rng(2).integers(0, 8, 160)


def data_of(labels: Numbers, groups: Numbers | None = None) -> LabelledImages:
    paths = tuple(Path(f"{row}.png") for row in range(len(labels)))
    side = Side(paths, labels.astype(np.int64), groups)
    return LabelledImages(tuple("abcd"), side, side, 0, (), one_sided=True)


def judged(data: LabelledImages) -> dict[str, Predicted]:
    found = predictions(X, X, data, ks=[5], shots=[2], temp=0.07, solver="torch")
    return {each.method.method: each for each in found}


@pytest.mark.parametrize("groups", [None, SIGNERS])
def test_every_image_is_judged_once_and_by_none_of_its_group(groups: Numbers | None) -> None:
    found = folds(data_of(Y, groups).val)
    assert len(found) == FOLDS
    assert np.sort(np.concatenate([fold.val for fold in found])).tolist() == list(range(160))
    for fold in found:
        assert np.sort(np.concatenate(fold)).tolist() == list(range(160))
        if groups is not None:
            assert not set(groups[fold.train]) & set(groups[fold.val])
        else:
            assert np.ptp([len(each.val) for each in found]) == 0
            assert np.bincount(Y[fold.val], minlength=4).min() >= np.bincount(Y).min() // FOLDS


def test_folds_are_the_same_in_every_call_and_no_more_than_groups() -> None:
    one, other = folds(data_of(Y).val), folds(data_of(Y).val)
    assert all((a.val == b.val).all() for a, b in zip(one, other, strict=True))
    assert len(folds(data_of(Y, SIGNERS % 3).val)) == 3


@pytest.mark.parametrize("groups", [None, SIGNERS])
def test_the_probe_of_a_fold_is_that_of_scikit_learn_on_the_other_folds(groups: Numbers | None) -> None:
    found = judged(data_of(Y, groups))["linear"]
    for train, val in folds(data_of(Y, groups).val):
        own = None if groups is None else groups[train]
        l2 = linear_probe(X[train], torch.from_numpy(Y[train]), X[val], groups_N=own, solver="torch").l2
        scaler = StandardScaler().fit(X[train].numpy())
        theirs = LogisticRegression(C=1 / (l2 * len(train)), tol=1e-6, max_iter=5000)
        theirs.fit(scaler.transform(X[train].numpy()), Y[train])
        assert (theirs.predict(scaler.transform(X[val].numpy())) == found.classes_EB[0, val]).mean() > 0.96
    assert 0.5 < (found.classes_EB == Y).mean() < 1


def test_leaving_one_out_is_that_of_the_run_s_own_probe() -> None:
    right = judged(data_of(Y))["knn"].classes_EB[0] == Y
    assert right.mean() == leave_one_out_accuracy(X, torch.from_numpy(Y), k=5, temp=0.07)


def test_what_only_the_group_knows_helps_no_method_once_groups_are_kept_apart() -> None:
    rng = np.random.default_rng(3)
    groups, labels = np.repeat(np.arange(20), 8), np.repeat(rng.permutation(np.arange(20) % 2), 8)
    features = torch.from_numpy(rng.normal(size=(20, 40))[groups] + 0.05 * rng.normal(size=(160, 40)))
    for given, low, high in ((None, 0.9, 1.0), (groups, 0.2, 0.75)):
        found = list(
            predictions(features, features, data_of(labels, given), ks=[3], shots=[20], temp=0.07, solver="torch")
        )
        assert [each.method.method for each in found] == ["knn", "linear", "few-shot"]
        assert all(low <= (each.classes_EB == labels).mean() <= high for each in found)


def test_the_training_images_of_a_class_are_those_of_the_fold_with_fewest() -> None:
    labels = np.repeat([0, 1], [50, 10])
    data = data_of(labels)
    assert fewest_train_images(data).tolist() == [40, 8, 0, 0]
    assert possible_shots(data, [8, 9]) == ((8,), ("9 shots: left out, because b has 8 training images in a fold",))
    by_group = data_of(labels, np.r_[np.arange(50) % 6, np.full(10, 5)])
    assert fewest_train_images(by_group)[1] == 10  # where the only group that shows it is judged, there is nothing


def test_a_class_of_one_group_counts_as_mistakes_and_that_is_said() -> None:
    labels, groups = np.repeat([0, 1, 2], [20, 20, 5]), np.r_[np.arange(40) % 4, np.zeros(5, dtype=np.int64)]
    assert check_classes(data_of(labels, groups)) == (
        "5 validation images of c, which only one group shows, count as mistakes",
    )
    features = torch.eye(3)[labels] + 0.01 * torch.from_numpy(np.random.default_rng(0).normal(size=(45, 3)))
    for found in predictions(features, features, data_of(labels, groups), ks=[3], shots=[], temp=0.07, solver="torch"):
        assert (found.classes_EB[0] == labels).tolist() == [True] * 40 + [False] * 5


def test_one_group_or_one_label_cannot_judge_itself() -> None:
    with pytest.raises(DataError, match="--group-regex: all validation images are of one group"):
        check_classes(data_of(np.arange(10) % 2, np.zeros(10, dtype=np.int64)))
    with pytest.raises(DataError, match="--val-dir: has images of b alone"):
        check_classes(data_of(np.ones(10)))


def test_without_training_folders_the_validation_images_are_both_sides(tmp_path: Path) -> None:
    for name in ("yes/anna-1", "yes/ben-1", "no/anna-2", "loose"):
        (tmp_path / f"{name}.png").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.png").write_text(name)
    data = labelled_images([], [tmp_path], group_regex="^([a-z]+)-")
    assert data.one_sided
    assert data.train is data.val
    assert (len(data.val.paths), data.val.num_groups) == (3, 2)
    assert data.notes == ("left out 1 validation images that lie in no sub-folder, so they have no label",)
