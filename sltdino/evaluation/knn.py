"""Weighted k-nearest-neighbour classification: how good are frozen features, without training anything."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_MOST_SIMILARITIES = 1 << 25
"""Held at once, 128 MB: 5,000 queries against a million rows would be 20 GB."""


class Neighbours(NamedTuple):
    """The bank rows nearest to every query, the nearest first."""

    similarity_Bk: Tensor
    index_Bk: Tensor


def nearest(bank_MD: Tensor, queries_BD: Tensor, *, k: int, leave_one_out: bool = False) -> Neighbours:
    """The `k` bank rows of highest cosine with each query, or all of them where the bank has fewer.

    Beside the normalised features it takes about 128 MB, however large the bank is.

    Args:
        leave_one_out: the queries are the bank, and no row is its own neighbour.
    """
    bank_MD, queries_BD = F.normalize(bank_MD.float(), dim=-1), F.normalize(queries_BD.float(), dim=-1)
    k = min(k, len(bank_MD) - leave_one_out)
    parts = list(_nearest_by_parts(bank_MD, queries_BD, k, leave_one_out))
    return Neighbours(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _nearest_by_parts(
    bank_MD: Tensor, queries_BD: Tensor, k: int, leave_one_out: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    size = max(1, _MOST_SIMILARITIES // len(bank_MD))
    for start in range(0, len(queries_BD), size):
        similarity_bM = queries_BD[start : start + size] @ bank_MD.T
        if leave_one_out:
            rows = torch.arange(len(similarity_bM), device=similarity_bM.device)
            similarity_bM[rows, start + rows] = float("-inf")
        similarity_bk, index_bk = similarity_bM.topk(k, dim=-1)
        yield similarity_bk, index_bk


def votes(found: Neighbours, bank_labels_M: Tensor, *, k: int, temp: float) -> Tensor:
    """Votes `[B, classes]` of the first `k` neighbours, each weighted by exp(cosine / temp), the nearest's is 1.

    The protocol of DINO (Caron et al. 2021, after Wu et al. 2018), with k = 20 and temp = 0.07 there.

    Args:
        bank_labels_M: class numbers, 0-based.
    """
    similarity_Bk, index_Bk = found.similarity_Bk[:, :k], found.index_Bk[:, :k]
    weights_Bk = ((similarity_Bk - similarity_Bk[:, :1]) / temp).exp()  # exp(cosine / 0.01) alone would overflow
    counted = torch.zeros(len(index_Bk), int(bank_labels_M.max()) + 1, device=index_Bk.device)
    return counted.scatter_add_(1, bank_labels_M[index_Bk], weights_Bk)


def knn_scores(
    bank_MD: Tensor, bank_labels_M: Tensor, queries_BD: Tensor, *, k: int, temp: float, leave_one_out: bool = False
) -> Tensor:
    """`votes` `[B, classes]` of the rows that `nearest` finds."""
    found = nearest(bank_MD, queries_BD, k=k, leave_one_out=leave_one_out)
    return votes(found, bank_labels_M, k=k, temp=temp)


def knn_accuracy(
    bank_MD: Tensor, bank_labels_M: Tensor, queries_BD: Tensor, labels_B: Tensor, *, k: int, temp: float
) -> float:
    """Share of the queries whose label has most votes, 0..1."""
    return _share_right(knn_scores(bank_MD, bank_labels_M, queries_BD, k=k, temp=temp), labels_B)


def leave_one_out_accuracy(features_MD: Tensor, labels_M: Tensor, *, k: int, temp: float) -> float:
    """Share of the rows whose label has most votes among all the others, 0..1."""
    scores = knn_scores(features_MD, labels_M, features_MD, k=k, temp=temp, leave_one_out=True)
    return _share_right(scores, labels_M)


def _share_right(scores_BC: Tensor, labels_B: Tensor) -> float:
    return int((scores_BC.argmax(dim=-1) == labels_B).sum()) / len(labels_B)  # in float32, 0.1 is not a tenth
