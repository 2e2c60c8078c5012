"""Nearest neighbours by cosine against a search one by one."""

import math

import numpy as np
import pytest
import torch

from sltdino.evaluation.knn import nearest
from sltdino.evaluation.neighbours import agreement, agreement_by_chance, nearest_allowed

BANK = torch.from_numpy(np.random.default_rng(0).normal(size=(12, 5))).float()
APART = ~torch.eye(12, dtype=torch.bool)


def test_they_are_the_most_similar_ones_that_are_allowed() -> None:
    allowed = APART.clone()
    allowed[:, ::3] = False
    found = nearest_allowed(BANK * 7, k=4, allowed_MM=allowed)
    rows = BANK.numpy() / np.linalg.norm(BANK.numpy(), axis=1, keepdims=True)
    for query in range(12):
        candidates = sorted((i for i in range(12) if allowed[query, i]), key=lambda i: -rows[query] @ rows[i])
        assert found.index_Bk[query].tolist() == candidates[:4]
        np.testing.assert_allclose(
            found.similarity_Bk[query], [rows[query] @ rows[i] for i in candidates[:4]], atol=1e-6
        )


def test_a_query_with_fewer_allowed_ends_in_none() -> None:
    allowed = torch.zeros(12, 12, dtype=torch.bool)
    allowed[0, 3] = True
    found = nearest_allowed(BANK, k=3, allowed_MM=allowed)
    assert found.index_Bk[0].tolist() == [3, -1, -1]
    assert found.index_Bk[1].tolist() == [-1, -1, -1]


def test_agreement_counts_neighbours_that_exist() -> None:
    labels = torch.tensor([0, 0, 1] * 4)
    allowed = torch.zeros(12, 12, dtype=torch.bool)
    allowed[0, [1, 2, 3]] = True  # labels 0, 1, 0 for a query of label 0
    allowed[2, 1] = True  # label 0 for a query of label 1
    found = nearest_allowed(BANK, k=5, allowed_MM=allowed)
    assert agreement(found, labels) == 2 / 4
    assert agreement_by_chance(labels, allowed_MM=allowed) == pytest.approx((2 / 3 + 0) / 2)


def test_without_neighbours_there_is_no_agreement_to_speak_of() -> None:
    none, labels = torch.zeros(12, 12, dtype=torch.bool), torch.zeros(12, dtype=torch.long)
    assert math.isnan(agreement(nearest_allowed(BANK, k=2, allowed_MM=none), labels))
    assert math.isnan(agreement_by_chance(labels, allowed_MM=none))


def test_they_are_those_of_the_k_nn_where_all_others_are_allowed() -> None:
    ours, theirs = (
        nearest_allowed(BANK, k=4, allowed_MM=APART),
        nearest(BANK, BANK, k=4, groups_M=torch.arange(len(BANK))),
    )
    assert torch.equal(ours.index_Bk, theirs.index_Bk)
    torch.testing.assert_close(ours.similarity_Bk, theirs.similarity_Bk)
