"""The step: what it changes, what it refuses, and that a resumed one is the same one."""

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sltdino.errors import DivergedError
from sltdino.training.trainer import Trainer
from sltdino.types import Batch

MakeTrainer = Callable[..., Trainer]
MakeBatch = Callable[..., Batch]
ALGORITHMS = ["dino", "ibot", "dinov2"]


def run(trainer: Trainer, make_batch: MakeBatch, algorithm: str, steps: range) -> list[float]:
    return [trainer.step([make_batch(k, algorithm)]).metrics["loss"].item() for k in steps]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else bool(a == b)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_twelve_steps_are_six_and_a_checkpoint_and_six(
    algorithm: str, tiny_trainer: MakeTrainer, random_batch: MakeBatch
) -> None:
    whole = tiny_trainer(algorithm)
    losses = run(whole, random_batch, algorithm, range(12))
    first = tiny_trainer(algorithm)
    run(first, random_batch, algorithm, range(6))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = tiny_trainer(algorithm)
    torch.manual_seed(99)  # what the process drew before must not matter
    second.load_state_dict(torch.load(file, weights_only=True))
    assert run(second, random_batch, algorithm, range(6, 12)) == losses[6:]
    assert same(second.state_dict(), whole.state_dict())


def test_micro_batches_make_the_step_of_their_union(tiny_trainer: MakeTrainer, random_batch: MakeBatch) -> None:
    # what looks at a whole batch is not the same on its parts
    loss: dict[str, object] = {"koleo_weight": 0.0, "use_sinkhorn": False, "standardize_teacher": False}
    changes: dict[str, dict[str, object]] = {"head": {"batch_norm": False}, "loss": loss}
    vit: dict[str, dict[str, object]] = {"vit": {"drop_path": 0.0}}  # it is drawn anew for each pass
    whole, parts = tiny_trainer("dino", **changes, **vit), tiny_trainer("dino", **changes, **vit)
    batch = random_batch(0)
    halves = [
        Batch(*(x.unflatten(0, (2, 8))[:, rows].flatten(0, 1) for x in batch)) for rows in (slice(0, 4), slice(4, 8))
    ]
    whole.step([batch])
    parts.step(halves)
    for key, value in whole.state_dict()["student"].items():
        torch.testing.assert_close(parts.state_dict()["student"][key], value, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(
        parts.state_dict()["objective"]["terms.cls.centering.center_K"],
        whole.state_dict()["objective"]["terms.cls.centering.center_K"],
    )


def test_prototypes_stay_fixed_in_the_first_steps(tiny_trainer: MakeTrainer, random_batch: MakeBatch) -> None:
    trainer = tiny_trainer("dino", optimizer={"freeze_last_layer_epochs": 0.2})  # 2 of 10 steps
    before = trainer.model.student.head.prototypes.weight.detach().clone()
    run(trainer, random_batch, "dino", range(2))
    assert torch.equal(trainer.model.student.head.prototypes.weight, before)
    run(trainer, random_batch, "dino", range(2, 3))
    assert not torch.equal(trainer.model.student.head.prototypes.weight, before)


def test_a_non_finite_loss_stops_before_it_reaches_a_weight(tiny_trainer: MakeTrainer, random_batch: MakeBatch) -> None:
    trainer = tiny_trainer("dino")
    run(trainer, random_batch, "dino", range(1))
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    batch = random_batch(1)
    batch.global_crops[0] = float("nan")
    with pytest.raises(DivergedError, match="step 1: loss nan"):
        trainer.step([batch])
    assert same(trainer.model.state_dict(), before)
    assert trainer.steps_done == 1


def test_ibot_gives_unmasked_patches_no_gradient(tiny_trainer: MakeTrainer, random_batch: MakeBatch) -> None:
    trainer = tiny_trainer("ibot", loss={"koleo_weight": 0.0})
    batch = random_batch(0, "ibot")
    network, seen = trainer.model.student, {}
    forward = network.backbone.forward_features

    def spy(images: torch.Tensor, masks: torch.Tensor | None = None) -> Any:
        features = forward(images, masks)
        if masks is not None:
            features.patches_BND.retain_grad()
            seen["patches"], seen["masks"] = features.patches_BND, masks
        return features

    network.backbone.forward_features = spy  # type: ignore[method-assign]
    trainer.step([batch])
    gradient = seen["patches"].grad.abs().sum(dim=-1)
    assert (gradient[~batch.masks_GN] == 0).all()
    assert (gradient[batch.masks_GN] > 0).all()
    assert torch.equal(seen["masks"], batch.masks_GN)


def test_biases_norms_and_tokens_are_not_decayed(tiny_trainer: MakeTrainer) -> None:
    trainer = tiny_trainer("ibot")
    names = {id(parameter): name for name, parameter in trainer.model.student.named_parameters()}
    decayed, plain = (
        {names[id(p)] for group in trainer.optimizer.param_groups if group["decays"] is on for p in group["params"]}
        for on in (True, False)
    )
    assert {"backbone.cls_token", "backbone.pos_embed", "backbone.mask_token", "backbone.norm.weight"} <= plain
    assert all(not name.endswith("bias") and "norm" not in name for name in decayed)
    assert {
        "backbone.blocks.0.attn.qkv.weight",
        "head.prototypes.weight",
        "backbone.patch_embed.proj.weight",
    } <= decayed
    assert len(decayed) + len(plain) == len(names)


@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_clipping_bounds_the_gradient_and_zero_turns_it_off(
    clip: float, tiny_trainer: MakeTrainer, random_batch: MakeBatch
) -> None:
    trainer = tiny_trainer("dino")
    trainer.clip_grad_norm = clip
    reported = trainer.step([random_batch(0)]).metrics["grad_norm"].item()
    gradients = [p.grad.norm() for p in trainer.model.student.parameters() if p.grad is not None]
    left = torch.stack(gradients).norm().item()
    assert left == pytest.approx(min(reported, clip or reported), rel=1e-3)


def test_a_frozen_backbone_stays_bit_for_bit_while_the_heads_learn_and_then_moves(
    tiny_trainer: MakeTrainer, random_batch: MakeBatch
) -> None:
    trainer = tiny_trainer("ibot", optimizer={"freeze_backbone_epochs": 0.3, "freeze_last_layer_epochs": 0.0})
    backbone, head = trainer.model.student.backbone, trainer.model.student.head
    start = {key: value.clone() for key, value in backbone.state_dict().items()}
    before = head.mlp[0].weight.detach().clone()
    run(trainer, random_batch, "ibot", range(3))  # 0.3 epochs of 10 steps
    assert all(torch.equal(value, start[key]) for key, value in backbone.state_dict().items())
    assert all(torch.equal(v, start[k]) for k, v in trainer.model.teacher.backbone.state_dict().items())
    assert not torch.equal(head.mlp[0].weight, before)
    run(trainer, random_batch, "ibot", range(3, 4))
    assert not torch.equal(backbone.blocks[0].attn.qkv.weight, start["blocks.0.attn.qkv.weight"])


@pytest.mark.parametrize("stop", [2, 5, 6])
def test_a_run_that_resumes_around_the_end_of_the_freeze_is_the_same(
    tiny_trainer: MakeTrainer, random_batch: MakeBatch, stop: int
) -> None:
    options: dict[str, dict[str, object]] = {"optimizer": {"freeze_backbone_epochs": 0.5, "layer_decay": 0.9}}
    whole, first, second = (tiny_trainer("dino", **options) for _ in range(3))
    losses = run(whole, random_batch, "dino", range(9))
    run(first, random_batch, "dino", range(stop))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert run(second, random_batch, "dino", range(stop, 9)) == losses[stop:]
    assert same(second.state_dict(), whole.state_dict())
