"""The terms an objective is a weighted sum of."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sltdino.objectives.centering import Centering
from sltdino.types import Outputs


class TermValue(NamedTuple):
    """What a term says about a batch."""

    loss: Tensor
    """Scalar, float32."""
    targets_MK: Tensor
    """The teacher's probabilities it compared with; no rows for a term without targets."""


class LossTerm(nn.Module, ABC):
    """A scalar that compares student and teacher, with whatever state the comparison needs."""

    @abstractmethod
    def forward(self, student: Outputs, teacher: Outputs, teacher_temp: float) -> TermValue:
        """The loss of one batch."""

    @abstractmethod
    def update(self) -> None:
        """Move the term's state, once a step."""


class ClsDistillation(LossTerm):
    """Each student crop predicts the teacher's prototypes for every *other* crop of its image (Caron et al. 2021)."""

    def __init__(self, centering: Centering, *, student_temp: float) -> None:
        super().__init__()
        self.centering = centering
        self.student_temp = student_temp

    def forward(self, student: Outputs, teacher: Outputs, teacher_temp: float) -> TermValue:
        """Mean over images and over pairs of a student crop s and a different teacher crop t of H(q_t, p_s).

        With z = logits / student_temp, H(q_t, p_s) = logsumexp(z_s) - z_s · q_t since q_t sums to one; summed over t
        it needs only the summed targets, never a row of log-probabilities for each pair.
        """
        z_SBK = student.cls_logits_CBK.float() / self.student_temp
        q_TBK = self.centering(teacher.cls_logits_CBK.flatten(0, 1), teacher_temp).view_as(teacher.cls_logits_CBK)
        num_teacher, num_student = len(q_TBK), len(z_SBK)
        q_sum_BK = q_TBK.sum(dim=0)
        agreement = torch.linalg.vecdot(z_SBK[:num_teacher], q_sum_BK - q_TBK).sum()
        agreement = agreement + torch.linalg.vecdot(z_SBK[num_teacher:], q_sum_BK).sum()
        log_norm_SB = z_SBK.logsumexp(dim=-1)
        log_norm = num_teacher * log_norm_SB.sum() - log_norm_SB[:num_teacher].sum()
        num_pairs = num_student * num_teacher - num_teacher
        return TermValue((log_norm - agreement) / (num_pairs * z_SBK.shape[1]), q_TBK.flatten(0, 1))

    def update(self) -> None:
        """Move the center."""
        self.centering.update()


class PatchDistillation(LossTerm):
    """The student, shown a mask token, predicts the teacher's prototypes for the patch behind it (Zhou et al. 2022)."""

    def __init__(self, centering: Centering, *, student_temp: float) -> None:
        super().__init__()
        self.centering = centering
        self.student_temp = student_temp

    def forward(self, student: Outputs, teacher: Outputs, teacher_temp: float) -> TermValue:
        """Mean over all global crops of the mean cross-entropy of the crop's masked patches; 0 where none is masked."""
        z_MK = student.patch_logits_MK.float() / self.student_temp
        q_MK = self.centering(teacher.patch_logits_MK, teacher_temp)
        cross_entropy_M = z_MK.logsumexp(dim=-1) - torch.linalg.vecdot(z_MK, q_MK)
        weight_GN = student.masks_GN / student.masks_GN.sum(dim=-1, keepdim=True).clamp(min=1)
        loss = torch.dot(cross_entropy_M, weight_GN[student.masks_GN]) / len(weight_GN)
        return TermValue(loss, q_MK)

    def update(self) -> None:
        """Move the center."""
        self.centering.update()


class KoLeo(LossTerm):
    """Push every feature away from its nearest neighbour (Sablayrolles et al. 2019, as in DINOv2)."""

    def __init__(self, *, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, student: Outputs, teacher: Outputs, teacher_temp: float) -> TermValue:
        """Sum over the global crops of -mean log(distance to the nearest other image + epsilon) on the unit sphere."""
        batch = student.cls_CBD.shape[1]
        if batch < 2:
            return TermValue(student.cls_CBD.sum() * 0.0, student.cls_CBD.new_empty(0, 0))
        x_GBD = F.normalize(student.cls_CBD[:2].float(), dim=-1)
        with torch.no_grad():
            itself = torch.eye(batch, dtype=torch.bool, device=x_GBD.device)
            nearest_GB = (x_GBD @ x_GBD.mT).masked_fill(itself, -2.0).argmax(dim=-1)
        neighbours_GBD = x_GBD.gather(1, nearest_GB[..., None].expand_as(x_GBD))
        distance_GB = F.pairwise_distance(x_GBD, neighbours_GBD, eps=self.epsilon)
        loss = -(distance_GB + self.epsilon).log().mean(dim=-1).sum()
        return TermValue(loss, loss.new_empty(0, 0))

    def update(self) -> None:
        """KoLeo has no state."""
