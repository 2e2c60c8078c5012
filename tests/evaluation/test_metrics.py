"""Figures by class, against scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics as theirs

from sltdino.evaluation.metrics import balanced_accuracy, class_scores, confusion_matrix

RNG = np.random.default_rng(0)
LABELS = RNG.choice(5, 400, p=[0.5, 0.3, 0.1, 0.08, 0.02])
PREDICTED = np.where(RNG.random(400) < 0.6, LABELS, RNG.integers(0, 5, 400))


def test_the_confusion_matrix_has_true_classes_in_rows() -> None:
    ours = confusion_matrix(LABELS, PREDICTED, num_classes=5)
    np.testing.assert_array_equal(ours, theirs.confusion_matrix(LABELS, PREDICTED))
    assert (ours != ours.T).any()


def test_precision_recall_and_f1_are_those_of_scikit_learn() -> None:
    ours = class_scores(confusion_matrix(LABELS, PREDICTED, num_classes=5))
    expected = theirs.precision_recall_fscore_support(LABELS, PREDICTED)
    for field, values in zip(("precision", "recall", "f1", "num_images"), expected, strict=True):
        np.testing.assert_allclose([getattr(row, field) for row in ours], values)


def test_balanced_accuracy_is_that_of_scikit_learn_and_not_accuracy() -> None:
    ours = balanced_accuracy((LABELS == PREDICTED)[None], LABELS)
    assert ours == pytest.approx(theirs.balanced_accuracy_score(LABELS, PREDICTED))
    assert abs(ours - (LABELS == PREDICTED).mean()) > 0.01


def test_a_class_without_images_counts_for_nothing_and_one_never_predicted_has_precision_0() -> None:
    labels, predicted = np.array([0, 0, 1, 4]), np.array([0, 1, 1, 0])
    assert balanced_accuracy((labels == predicted)[None], labels) == pytest.approx((0.5 + 1 + 0) / 3)
    matrix = confusion_matrix(np.array([0, 0, 1, 2]), predicted, num_classes=4)
    assert class_scores(matrix)[2] == (1, 0, 0, 0)
    assert class_scores(matrix)[3] == (0, 0, 0, 0)
