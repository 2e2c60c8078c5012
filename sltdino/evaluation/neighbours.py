"""The images whose features are nearest to another's."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Neighbours(NamedTuple):
    """Nearest first; a row has fewer than it may where fewer are allowed, and then ends in rows of -1."""

    index_Bk: Tensor
    """Rows of the bank."""
    cosine_Bk: Tensor


def nearest(queries_BD: Tensor, bank_MD: Tensor, *, k: int, allowed_BM: Tensor) -> Neighbours:
    """The `k` rows of the bank most similar to each query by cosine, as k-NN votes take them.

    Args:
        allowed_BM: which rows of the bank each query may have: not itself, or no image of its own clip.
    """
    similarity_BM = F.normalize(queries_BD.float(), dim=-1) @ F.normalize(bank_MD.float(), dim=-1).T
    similarity_BM = similarity_BM.masked_fill(~allowed_BM, float("-inf"))
    cosine_Bk, index_Bk = similarity_BM.topk(min(k, len(bank_MD)), dim=-1)
    return Neighbours(torch.where(cosine_Bk.isneginf(), -1, index_Bk), cosine_Bk)


def agreement(neighbours: Neighbours, labels_B: Tensor, bank_labels_M: Tensor) -> float:
    """The share of all neighbours that have their query's label, 0..1; NaN without neighbours."""
    found_Bk = neighbours.index_Bk >= 0
    same_Bk = bank_labels_M[neighbours.index_Bk] == labels_B[:, None]
    return (same_Bk & found_Bk).sum().item() / found_Bk.sum().item() if found_Bk.any() else float("nan")


def agreement_by_chance(labels_B: Tensor, bank_labels_M: Tensor, *, allowed_BM: Tensor) -> float:
    """What `agreement` would be with neighbours drawn among the allowed ones; NaN where none is."""
    same_BM = (labels_B[:, None] == bank_labels_M) & allowed_BM
    some_B = allowed_BM.any(dim=1)
    shares_B = same_BM[some_B].float().sum(dim=1) / allowed_BM[some_B].sum(dim=1)
    return shares_B.mean().item()
