"""What the health watch measures in a step: a few numbers, and which prototypes were used lately."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sltdino.training.trainer import StepResult


class Health(NamedTuple):
    """One step, measured. Entropies are in nats, K prototypes."""

    loss_gap: float
    """ln K minus the CLS loss: 0 means the student knows nothing."""
    target_entropy: float
    """Mean entropy of the teacher's targets: ln K is uniform, 0 is one prototype an image."""
    assignment_entropy: float
    """Entropy of the batch's mean target: 0 means that all images share a prototype."""
    assignment_kl: float
    """Divergence from uniform of the batch's mean answer, as the teacher's scores have it at the student's temperature.
    Sinkhorn makes the mean *target* uniform whatever the scores are; of the scores themselves this tells."""
    feature_spread: float
    """Standard deviation of the L2-normalised features times sqrt(D): 1 fills the sphere, 0 is one point."""
    cosine_to_mean: float
    """Mean cosine of the features with their mean."""


@torch.no_grad()
def observe(result: StepResult, *, student_temp: float) -> Health:
    """Measure one step, from the student's features of the first crop and the teacher's scores and targets.

    Reads the numbers, which synchronises the device: for logged steps only.
    """
    unit_BD = F.normalize(result.features_CBD[0].float(), dim=-1)
    mean_D = unit_BD.mean(dim=0)
    targets_MK = result.targets_MK
    log_k = math.log(targets_MK.shape[1])
    answer_K = (result.scores_MK.float() / student_temp).softmax(dim=-1).mean(dim=0)
    values = torch.stack(
        [
            result.metrics["loss_cls"],
            entropy(targets_MK).mean(),
            entropy(targets_MK.mean(dim=0)),
            entropy(answer_K),
            unit_BD.var(dim=0, unbiased=False).mean().sqrt() * math.sqrt(unit_BD.shape[1]),
            (unit_BD @ F.normalize(mean_D, dim=0)).mean(),
        ]
    )
    loss, target_entropy, assignment_entropy, answer_entropy, spread, cosine = values.tolist()
    return Health(log_k - loss, target_entropy, assignment_entropy, log_k - answer_entropy, spread, cosine)


def entropy(probabilities_MK: Tensor) -> Tensor:
    """`-Σ p ln p` over the last dimension, in nats."""
    entropy_M: Tensor = torch.special.entr(probabilities_MK).sum(dim=-1)
    return entropy_M


class PrototypeUsage:
    """In which step each prototype last had the highest score for some image; kept on the device."""

    def __init__(self, num_prototypes: int, *, first_step: int, device: str) -> None:
        self.used_at_K = torch.zeros(num_prototypes, dtype=torch.int64, device=device)
        """Step, counted from 1; 0: not yet."""
        self.first_step = first_step
        """Steps before it were not seen."""

    @torch.no_grad()
    def see(self, step: int, scores_MK: Tensor) -> None:
        """Note a step's scores. Nothing is read back from the device."""
        self.used_at_K[scores_MK.argmax(dim=-1)] = step

    def count(self, step: int, *, window: int) -> int | None:
        """Prototypes used in the last `window` steps; None before so many were seen. Synchronises the device."""
        if step - self.first_step < window:
            return None
        return int((self.used_at_K > step - window).sum().item())
