"""One optimisation step at a time. No files, no clock, no printing."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from sltdino.core.rng import fold_in
from sltdino.errors import DivergedError
from sltdino.models.student_teacher import StudentTeacher
from sltdino.objectives.algorithms import Objective
from sltdino.training.schedules import Schedules
from sltdino.types import Batch, Outputs


class StepResult(NamedTuple):
    """What a step leaves behind; tensors are still on the device."""

    metrics: dict[str, Tensor]
    """`loss`, its terms as `loss_<name>`, and `grad_norm` before clipping."""
    features_CBD: Tensor
    """The student's CLS features in the last micro-batch, for the health watch."""
    targets_MK: Tensor
    """The teacher's targets in the last micro-batch."""
    scores_MK: Tensor
    """The teacher's scores that they were made of, before centering or balancing."""


class Trainer:
    """What changes during training, and the step that changes it."""

    def __init__(
        self,
        model: StudentTeacher,
        objective: Objective,
        optimizer: Optimizer,
        schedules: Schedules,
        *,
        seed: int,
        clip_grad_norm: float,
        autocast: bool = False,
    ) -> None:
        self.model = model.train()
        self.objective = objective.train()
        self.optimizer = optimizer
        self.schedules = schedules
        self.seed = seed
        self.clip_grad_norm = clip_grad_norm
        self.autocast = autocast
        self.steps_done = 0

    def step(self, micro_batches: Sequence[Batch]) -> StepResult:
        """Update student, centers and teacher once, by the mean gradient of the micro-batches.

        Raises:
            DivergedError: the loss or the gradient is not finite; nothing was changed.
        """
        step = self.steps_done
        # drop path draws from (seed, step) alone, so a resumed run repeats the uninterrupted one
        torch.manual_seed(fold_in(self.seed, "step", step))
        self.schedules.apply(self.optimizer, step)
        self.optimizer.zero_grad(set_to_none=True)
        # a function of the step, so that a resumed run freezes and thaws where the uninterrupted one does
        self.model.student.backbone.requires_grad_(step >= self.schedules.frozen_backbone_steps)

        losses = []
        for batch in micro_batches:
            student, teacher = self._forward(batch)
            loss = self.objective(student, teacher, self.schedules.teacher_temp(step))
            (loss.total / len(micro_batches)).backward()
            losses.append({"loss": loss.total.detach(), **{f"loss_{name}": v for name, v in loss.terms.items()}})
        if step < self.schedules.frozen_steps:
            self._freeze_prototypes()
        metrics = {name: torch.stack([row[name] for row in losses]).mean() for name in losses[0]}
        metrics["grad_norm"] = torch.nn.utils.clip_grad_norm_(
            self.model.student.parameters(), self.clip_grad_norm or float("inf"), foreach=True
        )
        self._check_finite(step, metrics)

        self.optimizer.step()
        self.objective.update()
        self.model.update_teacher(self.schedules.teacher_momentum(step))
        self.steps_done = step + 1
        scores_MK = teacher.cls_logits_CBK.flatten(0, 1)
        return StepResult(metrics, student.cls_CBD.detach(), loss.cls_targets_MK, scores_MK)

    def _forward(self, batch: Batch) -> tuple[Outputs, Outputs]:
        device = batch.global_crops.device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self.autocast):
            with torch.no_grad():
                no_crops = batch.local_crops[:0]
                teacher = self.model.teacher(batch.global_crops, no_crops, masks_GN=batch.masks_GN, hide_masked=False)
            student = self.model.student(
                batch.global_crops, batch.local_crops, masks_GN=batch.masks_GN, hide_masked=True
            )
        return student, teacher

    def _freeze_prototypes(self) -> None:
        for name, parameter in self.model.student.named_parameters():
            if name.endswith("prototypes.weight"):
                parameter.grad = None

    def _check_finite(self, step: int, metrics: dict[str, Tensor]) -> None:
        # reads two scalars, which synchronises the device once a step: weights must never meet a NaN
        loss, norm = metrics["loss"].item(), metrics["grad_norm"].item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.optimizer.zero_grad(set_to_none=True)
            raise DivergedError(
                f"step {step}: loss {loss}, gradient norm {norm}; "
                "lower --learning-rate or raise --teacher-temp, then resume from the last checkpoint"
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs beyond its settings: randomness and schedules follow from the step."""
        optimizer = self.optimizer.state_dict()
        for group in optimizer["param_groups"]:
            group["betas"] = list(group["betas"])  # checkpoints hold lists, not tuples
        return {
            "steps_done": self.steps_done,
            "student": self.model.student.state_dict(),
            "teacher": self.model.teacher.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": optimizer,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`; a missing or unknown key is an error."""
        self.steps_done = state["steps_done"]
        self.model.student.load_state_dict(state["student"])
        self.model.teacher.load_state_dict(state["teacher"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
