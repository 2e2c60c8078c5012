"""Is the run healthy? Numbers from one step, and a verdict in words with the remedy that fits."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_UNIFORM_SHARE = 0.98
"""Targets whose entropy exceeds this share of ln K tell nothing: the student can only answer uniformly."""
_ONE_POINT_SHARE = 0.05
"""When the batch's mean assignment has less than this share of ln K, nearly all images share one prototype."""
_SAME_FEATURE_COSINE = 0.999
"""Features this close to their mean are the same for every image."""


class Verdict(NamedTuple):
    """A judgement of one moment of a run."""

    name: str
    """`healthy`, `uniform collapse` or `one-point collapse`."""
    collapsed: bool
    remedy: str
    """What to change; empty when healthy."""


class Health(NamedTuple):
    """What the watch measures in a step. Entropies are in nats, K prototypes."""

    loss_gap: float
    """ln K minus the CLS loss: 0 means the student knows nothing."""
    target_entropy: float
    """Mean entropy of the teacher's targets: ln K is uniform, 0 is one prototype an image."""
    assignment_entropy: float
    """Entropy of the batch's mean target: 0 means that all images share a prototype."""
    feature_spread: float
    """Standard deviation of the L2-normalised features times sqrt(D): 1 fills the sphere, 0 is one point."""
    cosine_to_mean: float
    """Mean cosine of the features with their mean."""


@torch.no_grad()
def observe(cls_loss: float, features_CBD: Tensor, targets_MK: Tensor) -> Health:
    """Measure one step, from the student's features (the first crop of each image) and the teacher's targets."""
    unit_BD = F.normalize(features_CBD[0].float(), dim=-1)
    mean_D = unit_BD.mean(dim=0)
    log_targets_MK = targets_MK.clamp(min=1e-12).log()
    mean_K = targets_MK.mean(dim=0)
    return Health(
        loss_gap=math.log(targets_MK.shape[1]) - cls_loss,
        target_entropy=-(targets_MK * log_targets_MK).sum(dim=-1).mean().item(),
        assignment_entropy=-(mean_K * mean_K.clamp(min=1e-12).log()).sum().item(),
        feature_spread=(unit_BD.var(dim=0, unbiased=False).mean().sqrt() * math.sqrt(unit_BD.shape[1])).item(),
        cosine_to_mean=(unit_BD @ F.normalize(mean_D, dim=0)).mean().item(),
    )


def judge(health: Health, *, num_prototypes: int) -> Verdict:
    """The verdict on one observation.

    Uniform collapse: the targets are as good as uniform, so the loss sits at ln K. One-point collapse: every image gets
    the same prototype, or the same feature.
    """
    log_k = math.log(num_prototypes)
    if health.target_entropy > _UNIFORM_SHARE * log_k:
        return Verdict(
            "uniform collapse",
            True,
            f"teacher entropy is {health.target_entropy:.2f} of ln {num_prototypes} = {log_k:.2f}: "
            "lower --teacher-temp, or raise --learning-rate",
        )
    if health.assignment_entropy < _ONE_POINT_SHARE * log_k or health.cosine_to_mean > _SAME_FEATURE_COSINE:
        return Verdict(
            "one-point collapse",
            True,
            f"all images look the same to the teacher (assignment entropy {health.assignment_entropy:.2f} of "
            f"{log_k:.2f}, cosine to the mean {health.cosine_to_mean:.3f}): raise --teacher-temp or --koleo-weight, "
            "or lower --learning-rate",
        )
    return Verdict("healthy", False, "")
