"""Weighted k-nearest-neighbour classification: how good are frozen features, without training anything."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_MOST_NUMBERS = 1 << 25
"""Similarities or votes held at once, 128 MB: 5,000 queries against a million rows would be 20 GB."""


class Neighbours(NamedTuple):
    """The bank rows nearest to every query, the nearest first."""

    similarity_Bk: Tensor
    index_Bk: Tensor


def nearest(bank_MD: Tensor, queries_BD: Tensor, *, k: int, groups_M: Tensor | None = None) -> Neighbours:
    """The `k` bank rows of highest cosine with each query, or all of them where the bank has fewer.

    Beside the normalised features it takes about 128 MB, however large the bank is.

    Args:
        groups_M: the queries are the bank, and no row is a neighbour of another of its group, or of itself: with a
            group for each, every row is left out in its turn. At least two groups. Where the others are fewer than
            `k`, a row's similarities end in minus infinity, which has no vote.
    """
    bank_MD, queries_BD = F.normalize(bank_MD.float(), dim=-1), F.normalize(queries_BD.float(), dim=-1)
    k = min(k, len(bank_MD) - (groups_M is not None))
    parts = list(_nearest_by_parts(bank_MD, queries_BD, k, groups_M))
    return Neighbours(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _nearest_by_parts(
    bank_MD: Tensor, queries_BD: Tensor, k: int, groups_M: Tensor | None
) -> Iterator[tuple[Tensor, Tensor]]:
    size = max(1, _MOST_NUMBERS // len(bank_MD))
    for start in range(0, len(queries_BD), size):
        similarity_bM = queries_BD[start : start + size] @ bank_MD.T
        if groups_M is not None:
            similarity_bM.masked_fill_(groups_M[start : start + size, None] == groups_M, float("-inf"))
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


def most_voted(found: Neighbours, bank_labels_M: Tensor, *, k: int, temp: float) -> Tensor:
    """The class of most `votes` of each query, `[B]`; 100,000 queries of 1,000 classes are never held at once."""
    size = max(1, _MOST_NUMBERS // (int(bank_labels_M.max()) + 1))
    parts = zip(torch.split(found.similarity_Bk, size), torch.split(found.index_Bk, size), strict=True)
    return torch.cat([votes(Neighbours(*part), bank_labels_M, k=k, temp=temp).argmax(dim=-1) for part in parts])


def knn_accuracy(
    bank_MD: Tensor, bank_labels_M: Tensor, queries_BD: Tensor, labels_B: Tensor, *, k: int, temp: float
) -> float:
    """Share of the queries whose label has most votes, 0..1."""
    found = nearest(bank_MD, queries_BD, k=k)
    return _share_right(most_voted(found, bank_labels_M, k=k, temp=temp), labels_B)


def leave_one_out_accuracy(features_MD: Tensor, labels_M: Tensor, *, k: int, temp: float) -> float:
    """Share of the rows whose label has most votes among all the others, 0..1."""
    found = nearest(features_MD, features_MD, k=k, groups_M=torch.arange(len(features_MD), device=features_MD.device))
    return _share_right(most_voted(found, labels_M, k=k, temp=temp), labels_M)


def _share_right(classes_B: Tensor, labels_B: Tensor) -> float:
    return int((classes_B == labels_B).sum()) / len(labels_B)  # in float32, 0.1 is not a tenth
