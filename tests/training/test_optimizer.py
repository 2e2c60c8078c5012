"""Groups of parameters: who is decayed, and whose learning rate is a share."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sltdino.models.student_teacher import Network
from sltdino.training.optimizer import build_optimizer
from sltdino.training.trainer import Trainer

DEPTH = 2


@pytest.fixture
def student(tiny_trainer: Callable[..., Trainer]) -> Network:
    vit = {"registers": 1, "layer_scale": 0.5}
    return tiny_trainer("ibot", vit=vit).model.student


def shares(student: Network, **options: float) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in student.named_parameters()}
    groups = build_optimizer(student, **options).param_groups
    return {names[id(parameter)]: group["lr_scale"] for group in groups for parameter in group["params"]}


def test_by_default_there_are_two_groups_with_the_whole_rate_and_every_parameter(student: Network) -> None:
    groups = build_optimizer(student).param_groups
    assert [(group["decays"], group["lr_scale"]) for group in groups] == [(True, 1.0), (False, 1.0)]
    assert sum(len(group["params"]) for group in groups) == len(list(student.parameters()))
    assert all(parameter.dim() > 1 for parameter in groups[0]["params"])


def test_what_is_decayed_is_what_has_more_than_one_dimension_and_embeddings_where_asked(student: Network) -> None:
    names = {id(parameter): name for name, parameter in student.named_parameters()}
    embeddings = {name for name in names.values() if name.endswith(("_token", "pos_embed"))}
    assert len(embeddings) == 4
    for asked in (False, True):
        groups = build_optimizer(student, decay_embeddings=asked).param_groups
        found = {names[id(parameter)] for group in groups if group["decays"] for parameter in group["params"]}
        # DINO's utils.get_params_groups: neither `.bias` nor one-dimensional
        theirs = {
            name for name, row in student.named_parameters() if not name.endswith(".bias") and len(row.shape) != 1
        }
        assert found == (theirs if asked else theirs - embeddings)


def test_layers_have_the_shares_of_beit_and_dinov2(student: Network) -> None:
    found = shares(student, layer_decay=0.5, patch_embed_lr_scale=0.2)
    # BEiT: scales = decay ** (num_layers + 1 - i); 0 the embeddings, 1.. the blocks, num_layers + 1 the rest
    table = [0.5 ** (DEPTH + 1 - i) for i in range(DEPTH + 2)]
    for name, share in found.items():
        if name.startswith("backbone.patch_embed"):
            assert share == 0.2 * table[0]
        elif name in {f"backbone.{token}" for token in ("cls_token", "pos_embed", "reg_token", "mask_token")}:
            assert share == table[0]
        elif name.startswith("backbone.blocks."):
            assert share == table[int(name.split(".")[2]) + 1]
        else:
            assert share == 1.0
    assert found.keys() == {name for name, _ in student.named_parameters()}
    assert found["backbone.norm.weight"] == found["head.prototypes.weight"] == 1.0


def test_a_share_of_the_rate_is_that_share_of_the_first_step(tiny_trainer: Any, random_batch: Any) -> None:
    moved = {}
    for share in (1.0, 0.25):
        trainer = tiny_trainer("dino", loss={"koleo_weight": 0.0})
        trainer.optimizer = build_optimizer(trainer.model.student, patch_embed_lr_scale=share)
        bias = trainer.model.student.backbone.patch_embed.proj.bias
        before = bias.detach().clone()
        trainer.step([random_batch(0)])
        moved[share] = bias.detach() - before
    assert moved[1.0].abs().min() > 0
    # biases are not decayed, so Adam's first step is the rate times a sign
    torch.testing.assert_close(moved[0.25], 0.25 * moved[1.0], rtol=1e-3, atol=1e-9)


def test_a_checkpoint_from_before_there_were_shares_goes_on_as_it_was(tiny_trainer: Any, random_batch: Any) -> None:
    new, old = tiny_trainer("dino"), tiny_trainer("dino")
    state = new.state_dict()
    for group in state["optimizer"]["param_groups"]:
        del group["lr_scale"]
    old.load_state_dict(state)
    assert old.step([random_batch(0)]).metrics["loss"] == new.step([random_batch(0)]).metrics["loss"]
    assert torch.equal(old.model.student.head.mlp[0].weight, new.model.student.head.mlp[0].weight)
