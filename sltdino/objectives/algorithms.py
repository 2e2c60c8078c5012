"""Algorithms: which loss terms, with what weights."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sltdino.core.settings import LossSettings
from sltdino.core.settings_base import known
from sltdino.objectives.centering import Centering, EmaCenter, SinkhornKnopp
from sltdino.objectives.terms import ClsDistillation, KoLeo, LossTerm, PatchDistillation
from sltdino.types import Outputs

Terms = dict[str, tuple[float, LossTerm]]


class Loss(NamedTuple):
    """What an objective says about a batch."""

    total: Tensor
    """The loss to minimise."""
    terms: dict[str, Tensor]
    """Its parts by name, unweighted and detached."""
    cls_targets_MK: Tensor
    """The teacher's probabilities for the CLS tokens of the global crops."""


class Objective(nn.Module):
    """A weighted sum of loss terms. The terms' state (the centers) is saved with it."""

    def __init__(self, terms: Mapping[str, tuple[float, LossTerm]]) -> None:
        super().__init__()
        used = {name: row for name, row in terms.items() if row[0] > 0}
        self.weights = {name: weight for name, (weight, _) in used.items()}
        self.terms = nn.ModuleDict({name: term for name, (_, term) in used.items()})

    def forward(self, student: Outputs, teacher: Outputs, teacher_temp: float) -> Loss:
        """Compare the student's outputs with the teacher's."""
        values = {name: term(student, teacher, teacher_temp) for name, term in self.terms.items()}
        total = torch.stack([self.weights[name] * value.loss for name, value in values.items()]).sum()
        parts = {name: value.loss.detach() for name, value in values.items()}
        return Loss(total, parts, values["cls"].targets_MK)

    def adapt(self, loss: LossSettings) -> None:
        """Take other settings while training: the weight of KoLeo, and how the teacher's scores are centered."""
        weight, koleo = _koleo(loss)
        if weight > 0:
            self.weights["koleo"] = weight
            self.terms["koleo"] = koleo
        for term in self.terms.values():
            if isinstance(term, ClsDistillation | PatchDistillation):
                _adapt(term.centering, loss)

    def update(self) -> None:
        """Move the terms' state; once a step, after every micro-batch was seen."""
        for term in self.terms.values():
            assert isinstance(term, LossTerm)
            term.update()


def dino(loss: LossSettings, num_prototypes: int, num_patch_prototypes: int) -> Terms:
    """Self-distillation of CLS tokens across crops (Caron et al. 2021)."""
    return {"cls": (1.0, _cls(loss, num_prototypes)), "koleo": _koleo(loss)}


def ibot(loss: LossSettings, num_prototypes: int, num_patch_prototypes: int) -> Terms:
    """DINO, plus masked prediction of patch tokens (Zhou et al. 2022)."""
    return {**dino(loss, num_prototypes, num_patch_prototypes), "patch": _patch(loss, num_patch_prototypes)}


def dinov2(loss: LossSettings, num_prototypes: int, num_patch_prototypes: int) -> Terms:
    """iBOT with Sinkhorn-Knopp targets and KoLeo (Oquab et al. 2023); the settings hold what differs."""
    return ibot(loss, num_prototypes, num_patch_prototypes)


ALGORITHMS: dict[str, Callable[[LossSettings, int, int], Terms]] = {"dino": dino, "ibot": ibot, "dinov2": dinov2}


def build_objective(algorithm: str, loss: LossSettings, *, num_prototypes: int, num_patch_prototypes: int) -> Objective:
    """The objective of a row of `ALGORITHMS`. Terms with weight 0 are left out."""
    return Objective(ALGORITHMS[algorithm](loss, num_prototypes, num_patch_prototypes))


def masks_patches(algorithm: str) -> bool:
    """Whether the algorithm hides patches from the student."""
    return algorithm != "dino"


def _centering(loss: LossSettings, num_prototypes: int) -> Centering:
    standardize = known(loss.standardize_teacher)
    if known(loss.use_sinkhorn):
        eps = None if loss.sinkhorn_eps == "auto" else loss.sinkhorn_eps
        return SinkhornKnopp(iterations=loss.sinkhorn_iters, eps=eps, standardize=standardize)
    return EmaCenter(num_prototypes, momentum=loss.center_momentum, standardize=standardize)


def _adapt(centering: Centering, loss: LossSettings) -> None:
    if isinstance(centering, EmaCenter):
        centering.momentum, centering.standardize = loss.center_momentum, known(loss.standardize_teacher)
    elif isinstance(centering, SinkhornKnopp):
        centering.standardize = known(loss.standardize_teacher)
        centering.eps = None if loss.sinkhorn_eps == "auto" else loss.sinkhorn_eps


def _cls(loss: LossSettings, num_prototypes: int) -> LossTerm:
    return ClsDistillation(_centering(loss, num_prototypes), student_temp=loss.student_temp)


def _patch(loss: LossSettings, num_prototypes: int) -> tuple[float, LossTerm]:
    term = PatchDistillation(_centering(loss, num_prototypes), student_temp=loss.student_temp)
    return loss.patch_loss_weight, term


def _koleo(loss: LossSettings) -> tuple[float, LossTerm]:
    return loss.koleo_weight, KoLeo(epsilon=loss.koleo_epsilon)
