"""Nearest images among those that may be one's neighbours, and how often they have the same label."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sltdino.evaluation.knn import Neighbours


def nearest_allowed(features_MD: Tensor, *, k: int, allowed_MM: Tensor) -> Neighbours:
    """The `k` most similar others of each row by cosine, as k-NN votes take them.

    Where fewer are allowed, a row's index ends in -1.

    Args:
        allowed_MM: which rows each row may have: not itself, or none of its own clip.
    """
    features_MD = F.normalize(features_MD.float(), dim=-1)
    similarity_MM = (features_MD @ features_MD.T).masked_fill(~allowed_MM, float("-inf"))
    similarity_Mk, index_Mk = similarity_MM.topk(min(k, len(features_MD)), dim=-1)
    return Neighbours(similarity_Mk, torch.where(similarity_Mk.isneginf(), -1, index_Mk))


def agreement(found: Neighbours, labels_M: Tensor) -> float:
    """The share of all neighbours that have their row's label, 0..1; NaN without neighbours."""
    there_Mk = found.index_Bk >= 0
    same_Mk = labels_M[found.index_Bk] == labels_M[:, None]
    return (same_Mk & there_Mk).sum().item() / there_Mk.sum().item() if there_Mk.any() else float("nan")


def agreement_by_chance(labels_M: Tensor, *, allowed_MM: Tensor) -> float:
    """What `agreement` would be with neighbours drawn among the allowed ones; NaN where none is."""
    same_MM = (labels_M[:, None] == labels_M) & allowed_MM
    some_M = allowed_MM.any(dim=1)
    shares_M = same_MM[some_M].float().sum(dim=1) / allowed_MM[some_M].sum(dim=1)
    return shares_M.mean().item()
