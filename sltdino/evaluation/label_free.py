"""Measures of features that need no labels: directions in use, spread over the sphere, what augmentation does to them.

None of them is a quality by itself. A network that answers noise has a high rank and an even spread; one that answers
the same to every image has perfect alignment. They are read together, and against the start of the run.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_RANKME_EPSILON = 1e-7  # of the paper, for float32 features
_ROWS = 256  # of the distance matrix, at once


def rankme(features_ND: Tensor) -> float:
    """How many directions the features use, 1 to min(N, D): exp of the entropy of the singular values' shares.

    RankMe of Garrido et al. 2023, "RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised
    Representations by Their Rank", equation 1: p_k = s_k / sum(s) + 1e-7, exp(-sum p_k log p_k), of the features as
    they are: neither centered nor normalised. N should be well above D; fewer images bound it.
    """
    singular_K = torch.linalg.svdvals(features_ND.double())
    shares_K = singular_K / singular_K.sum().clamp_min(torch.finfo(torch.float64).tiny) + _RANKME_EPSILON
    return math.exp(-(shares_K * shares_K.log()).sum().item())


def feature_std(features_ND: Tensor) -> float:
    """Standard deviation of the L2-normalised features times sqrt(D): 1 fills the sphere, 0 is one point.

    What the health watch calls `feature_spread` (there of the student's crops in one batch); SimSiam, Chen and He 2021,
    watches the same number without the factor, where 1 / sqrt(D) means healthy.
    """
    unit_ND = F.normalize(features_ND.double(), dim=-1)
    return (unit_ND.var(dim=0, unbiased=False).mean().sqrt() * math.sqrt(unit_ND.shape[1])).item()


def alignment(one_ND: Tensor, other_ND: Tensor) -> float:
    """Mean squared distance, 0 to 4, of the L2-normalised features of two views of an image; less is closer.

    Wang and Isola 2020, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere", with alpha = 2. It depends on how much the views differ: compare within one augmentation only.
    """
    one_ND, other_ND = F.normalize(one_ND.double(), dim=-1), F.normalize(other_ND.double(), dim=-1)
    return (one_ND - other_ND).square().sum(dim=-1).mean().item()


def uniformity(features_ND: Tensor) -> float:
    """Log of the mean of exp(-2 d^2) over all pairs of L2-normalised features; 0 is one point, about -4 evenly spread.

    Wang and Isola 2020, with t = 2. Needs two rows.
    """
    unit_ND = F.normalize(features_ND.double(), dim=-1)
    total = 0.0
    for start in range(0, len(unit_ND), _ROWS):
        squared_MN = (2 - 2 * unit_ND[start : start + _ROWS] @ unit_ND.T).clamp_min(0)
        squared_MN.diagonal(start).fill_(math.inf)  # no row is its own pair
        total += (-2 * squared_MN).exp().sum().item()
    return math.log(total / (len(unit_ND) * (len(unit_ND) - 1)))


def clip_retrieval(features_ND: Tensor, clips_N: Tensor) -> float:
    """Share of the images, 0 to 1, whose most similar other image by the cosine is of the same clip.

    Recall at 1 with the clip as the class. Frames that follow one another are alike in any features, raw pixels too, so
    it says something only of frames well apart in time, next to what raw pixels reach.
    """
    unit_ND = F.normalize(features_ND.double(), dim=-1)
    nearest = torch.empty(len(unit_ND), dtype=torch.long)
    for start in range(0, len(unit_ND), _ROWS):
        cosine_MN = unit_ND[start : start + _ROWS] @ unit_ND.T
        cosine_MN.diagonal(start).fill_(-math.inf)
        nearest[start : start + _ROWS] = cosine_MN.argmax(dim=1)
    return (clips_N[nearest] == clips_N).double().mean().item()
