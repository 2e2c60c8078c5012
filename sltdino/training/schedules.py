"""Schedules are functions of the step: nothing to save, nothing to restore."""

import math
from collections.abc import Callable
from typing import NamedTuple

from torch.optim import Optimizer

from sltdino.core.settings import LossSettings, OptimizerSettings
from sltdino.core.settings_base import known

Schedule = Callable[[int], float]


def cosine(start: float, end: float, *, steps: int, warmup: int = 0) -> Schedule:
    """Linear from 0 to `start` over `warmup` steps, then half a cosine that would reach `end` at `steps`."""

    def at(step: int) -> float:
        if step < warmup:
            return start * (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * progress))

    return at


def linear(start: float, end: float, *, steps: int) -> Schedule:
    """Linear from `start` at step 0 to `end` at `steps`, then constant."""

    def at(step: int) -> float:
        return end if step >= steps else start + (end - start) * step / steps

    return at


class Schedules(NamedTuple):
    """The hyper-parameters that move during a run."""

    learning_rate: Schedule
    weight_decay: Schedule
    teacher_momentum: Schedule
    teacher_temp: Schedule
    frozen_steps: int
    """Steps in which the prototypes stay fixed."""
    frozen_backbone_steps: int
    """Steps in which the whole backbone stays fixed."""

    def apply(self, optimizer: Optimizer, step: int) -> None:
        """Set this step's learning rate and weight decay; groups marked `decays: False` are never decayed."""
        for group in optimizer.param_groups:
            # checkpoints written before there were shares have none
            group["lr"] = self.learning_rate(step) * group.get("lr_scale", 1.0)
            group["weight_decay"] = self.weight_decay(step) if group["decays"] else 0.0


def build_schedules(
    optimizer: OptimizerSettings, loss: LossSettings, *, steps_per_epoch: int, total_steps: int
) -> Schedules:
    """The schedules of DINO over a run; settings in epochs become steps here."""

    def in_steps(epochs: float) -> int:
        return round(epochs * steps_per_epoch)

    return Schedules(
        learning_rate=cosine(
            known(optimizer.learning_rate),
            optimizer.min_learning_rate,
            steps=total_steps,
            warmup=in_steps(known(optimizer.warmup_epochs)),
        ),
        weight_decay=cosine(optimizer.weight_decay, optimizer.weight_decay_final, steps=total_steps),
        teacher_momentum=cosine(
            known(optimizer.teacher_momentum_base), optimizer.teacher_momentum_final, steps=total_steps
        ),
        teacher_temp=linear(
            known(loss.teacher_temp_start),
            known(loss.teacher_temp),
            steps=in_steps(known(loss.teacher_temp_warmup_epochs)),
        ),
        frozen_steps=in_steps(known(optimizer.freeze_last_layer_epochs)),
        frozen_backbone_steps=in_steps(optimizer.freeze_backbone_epochs),
    )
