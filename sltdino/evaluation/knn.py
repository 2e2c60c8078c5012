"""Weighted k-nearest-neighbour classification: how good are frozen features, without training anything."""

import torch
import torch.nn.functional as F
from torch import Tensor


def knn_scores(
    bank_MD: Tensor, bank_labels_M: Tensor, queries_BD: Tensor, *, k: int, temp: float, leave_one_out: bool = False
) -> Tensor:
    """Votes `[B, classes]` of the `k` most similar bank rows, each weighted by exp(cosine / temp), the nearest's is 1.

    The protocol of DINO (Caron et al. 2021, after Wu et al. 2018), with k = 20 and temp = 0.07 there.

    Args:
        bank_MD: features with known labels.
        bank_labels_M: class numbers, 0-based.
        queries_BD: features to classify.
        leave_one_out: the queries are the bank, and no row votes for itself.
    """
    bank_MD, queries_BD = F.normalize(bank_MD.float(), dim=-1), F.normalize(queries_BD.float(), dim=-1)
    similarity_BM = queries_BD @ bank_MD.T
    if leave_one_out:
        similarity_BM.fill_diagonal_(float("-inf"))
    similarity_Bk, index_Bk = similarity_BM.topk(min(k, len(bank_MD) - leave_one_out), dim=-1)
    weights_Bk = ((similarity_Bk - similarity_Bk[:, :1]) / temp).exp()  # exp(cosine / 0.01) alone would overflow
    votes = torch.zeros(len(queries_BD), int(bank_labels_M.max()) + 1, device=queries_BD.device)
    return votes.scatter_add_(1, bank_labels_M[index_Bk], weights_Bk)


def knn_accuracy(
    bank_MD: Tensor, bank_labels_M: Tensor, queries_BD: Tensor, labels_B: Tensor, *, k: int, temp: float
) -> float:
    """Share of the queries whose label has most votes, 0..1."""
    predicted_B = knn_scores(bank_MD, bank_labels_M, queries_BD, k=k, temp=temp).argmax(dim=-1)
    return (predicted_B == labels_B).float().mean().item()


def leave_one_out_accuracy(features_MD: Tensor, labels_M: Tensor, *, k: int, temp: float) -> float:
    """Share of the rows whose label has most votes among all the others, 0..1."""
    scores = knn_scores(features_MD, labels_M, features_MD, k=k, temp=temp, leave_one_out=True)
    return (scores.argmax(dim=-1) == labels_M).float().mean().item()
