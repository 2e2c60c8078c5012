"""Principal components, with signs that do not depend on the machine's linear algebra."""

from typing import NamedTuple

import torch
from torch import Tensor


class Components(NamedTuple):
    """The directions in which rows differ most, largest first."""

    scores_MC: Tensor
    """Each row's coordinates along them; every column has mean 0."""
    shares_C: Tensor
    """Of the rows' variance, 0..1."""


def principal_components(rows_MD: Tensor, count: int) -> Components:
    """The first `count` principal components of `[M, D]`; fewer where D or M is smaller.

    An eigenvector's sign means nothing; here its largest entry is positive. Rows that are all alike have shares of 0.
    """
    rows_MD = rows_MD.double()
    centered_MD = rows_MD - rows_MD.mean(dim=0)
    values_D, vectors_DD = torch.linalg.eigh(centered_MD.T @ centered_MD)
    count = min(count, *rows_MD.shape)
    values_C, vectors_DC = values_D.flip(0)[:count].clamp(min=0), vectors_DD.flip(1)[:, :count]
    largest_C = vectors_DC.gather(0, vectors_DC.abs().argmax(dim=0, keepdim=True))[0]
    total = centered_MD.square().sum()
    shares_C = values_C / total if total > 0 else torch.zeros_like(values_C)
    return Components((centered_MD @ (vectors_DC * largest_C.sign())).float(), shares_C.float())
