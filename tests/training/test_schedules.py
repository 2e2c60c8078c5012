"""Schedules against their closed form."""

import math

import pytest
import torch

from sltdino.core.settings import LossSettings, OptimizerSettings
from sltdino.training.schedules import build_schedules, cosine, linear


@pytest.mark.parametrize("step", [0, 1, 9, 10, 11, 55, 99])
def test_cosine_with_warmup_is_the_closed_form(step: int) -> None:
    at = cosine(1e-3, 1e-6, steps=100, warmup=10)
    if step < 10:
        expected = 1e-3 * (step + 1) / 10
    else:
        expected = 1e-6 + (1e-3 - 1e-6) * (1 + math.cos(math.pi * (step - 10) / 90)) / 2
    assert at(step) == pytest.approx(expected)


def test_cosine_starts_and_ends_at_its_ends_and_stays_there() -> None:
    at = cosine(0.996, 1.0, steps=50)
    assert at(0) == pytest.approx(0.996)
    assert at(25) == pytest.approx(0.998)
    assert at(50) == at(80) == pytest.approx(1.0)


def test_linear_is_the_closed_form() -> None:
    at = linear(0.04, 0.07, steps=30)
    assert [at(0), at(10), at(30), at(99)] == pytest.approx([0.04, 0.05, 0.07, 0.07])
    assert linear(0.04, 0.07, steps=0)(0) == 0.07


def test_settings_in_epochs_become_steps() -> None:
    optimizer = OptimizerSettings(
        learning_rate=1e-3, warmup_epochs=2, teacher_momentum_base=0.9, freeze_last_layer_epochs=0.5
    )
    loss = LossSettings(teacher_temp=0.07, teacher_temp_start=0.04, teacher_temp_warmup_epochs=3)
    schedules = build_schedules(optimizer, loss, steps_per_epoch=10, total_steps=100)
    assert schedules.learning_rate(19) == pytest.approx(1e-3)
    assert schedules.learning_rate(9) == pytest.approx(5e-4)
    assert schedules.teacher_temp(15) == pytest.approx(0.055)
    assert schedules.teacher_temp(30) == pytest.approx(0.07)
    assert schedules.weight_decay(50) == pytest.approx((0.04 + 0.4) / 2)
    assert schedules.frozen_steps == 5


def test_weight_decay_reaches_only_the_groups_that_decay() -> None:
    weight, bias = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
    groups = [{"params": [weight], "decays": True}, {"params": [bias], "decays": False}]
    adamw = torch.optim.AdamW(groups, lr=0.0)
    optimizer = OptimizerSettings(
        learning_rate=1e-3, warmup_epochs=0, teacher_momentum_base=0.9, freeze_last_layer_epochs=0
    )
    loss = LossSettings(teacher_temp=0.07, teacher_temp_start=0.04, teacher_temp_warmup_epochs=0)
    build_schedules(optimizer, loss, steps_per_epoch=10, total_steps=100).apply(adamw, 0)
    assert [group["weight_decay"] for group in adamw.param_groups] == [pytest.approx(0.04), 0.0]
    assert [group["lr"] for group in adamw.param_groups] == pytest.approx([1e-3, 1e-3])
