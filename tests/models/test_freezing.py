"""SLT's `freeze` argument, row by row, by the parameters that are left to train."""

from typing import Any

import pytest
import torch
from torch import nn

from sltdino.core.settings_network import VitSettings
from sltdino.errors import SettingsError
from sltdino.models.freezing import apply_freeze, is_frozen
from sltdino.models.vit import VisionTransformer

EMBEDDING = {"cls_token", "pos_embed", "reg_token", "patch_embed.proj.weight", "patch_embed.proj.bias"}
NORM = {"norm.weight", "norm.bias"}


def network(depth: int = 3) -> VisionTransformer:
    vit = VitSettings(
        patch_size=8, embed_dim=8, depth=depth, num_heads=1, mlp_ratio=4.0, registers=1, layer_scale=0.0,
        layer_norm_eps=1e-5,
    )  # fmt: skip
    return VisionTransformer(vit, image_size=8)


EVERY = {name for name, _ in network().named_parameters()}


def block(*numbers: int) -> set[str]:
    return {name for name in EVERY if name.startswith(tuple(f"blocks.{number}." for number in numbers))}


def frozen_by(freeze: Any, model: nn.Module | None = None) -> set[str]:
    model = network() if model is None else model
    apply_freeze(model, freeze)
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize(
    ("freeze", "frozen"),
    [
        (False, set()),
        (True, EVERY),
        (0, set()),
        (1, block(0)),
        (2, block(0, 1)),
        (3, block(0, 1, 2)),
        ("", set()),
        ("all", EVERY),
        ("full", EVERY),
        ("Backbone", EVERY),
        ("embed", EMBEDDING),
        ("patch", EMBEDDING),
        ("PATCH_EMBED", EMBEDDING),
        ("head", set()),
        ("classifier", set()),
        ("blocks[:2]", block(0, 1)),
        ("blocks[:0]", set()),
        ("norm", NORM),
        ("blocks.1.mlp.fc1.bias", {"blocks.1.mlp.fc1.bias"}),
        ("patch_embed, blocks[:1]; norm", EMBEDDING | block(0) | NORM),
        (" ; ,", set()),
        ([], set()),
        (["norm", "blocks.2"], NORM | block(2)),
        (("blocks.2.",), block(2)),
        ({}, set()),
        ({"all": True}, EVERY),
        ({"full": True}, EVERY),
        ({"backbone": True}, EVERY),
        ({"all": False, "patch_embed": False, "head": False, "blocks": 0}, set()),
        ({"blocks": 2}, block(0, 1)),
        ({"patch_embed": True}, EMBEDDING),
        ({"head": True}, set()),
        ({"modules": ["blocks.1", "norm"]}, block(1) | NORM),
        ({"layers": "norm"}, NORM),
        ({"prefixes": ["blocks.0", "cls_token"]}, block(0) | {"cls_token"}),
        ({"parameters": "norm"}, NORM),
        ({"names": ["norm.bias"]}, {"norm.bias"}),
        ({"all": True, "exclude": ["norm", "blocks.2"]}, EVERY - NORM - block(2)),
        ({"unfreeze": "blocks.0.norm1", "blocks": 1}, block(0) - {"blocks.0.norm1.weight", "blocks.0.norm1.bias"}),
        ({"blocks": 1, "patch_embed": True, "names": "norm.bias"}, block(0) | EMBEDDING | {"norm.bias"}),
    ],
    ids=lambda value: "" if isinstance(value, set) else repr(value),  # a set has no order of its own
)
def test_exactly_what_is_named_is_frozen(freeze: Any, frozen: set[str]) -> None:
    assert frozen_by(freeze) == frozen


def test_a_block_is_not_also_those_whose_number_starts_alike() -> None:
    frozen = frozen_by("blocks.1", network(depth=12))
    assert {name.split(".")[1] for name in frozen} == {"1"}


@pytest.mark.parametrize("freeze", ["blocks.1.norm", ["blocks.1.norm"], {"prefixes": "blocks.1.norm"}])
def test_a_prefix_that_is_no_whole_name_freezes_what_begins_with_it(freeze: Any) -> None:
    frozen = frozen_by(freeze, network(depth=12))
    assert frozen == {f"blocks.1.{norm}.{kind}" for norm in ("norm1", "norm2") for kind in ("weight", "bias")}


def test_what_was_frozen_before_stays_frozen() -> None:
    model = network()
    apply_freeze(model, "norm")
    assert frozen_by(1, model) == NORM | block(0)


def test_a_head_is_frozen_where_there_is_one() -> None:
    model = network()
    model.head = nn.Linear(8, 2)
    assert frozen_by("head", model) == {"head.weight", "head.bias"}
    assert frozen_by({"all": True, "exclude": "head"}, model) == EVERY


@pytest.mark.parametrize("name", ["stem", "patch_embedding"])
def test_other_names_of_the_embedding_are_known(name: str) -> None:
    model = nn.Module()
    setattr(model, name, nn.Linear(2, 2))
    model.class_token, model.fc = nn.Parameter(torch.zeros(2)), nn.Linear(2, 2)
    assert frozen_by("patch_embed", model) == {f"{name}.weight", f"{name}.bias", "class_token"}


def test_frozen_means_that_nothing_learns() -> None:
    model = network()
    assert not is_frozen(model)
    apply_freeze(model, {"all": True, "exclude": "norm.bias"})
    assert not is_frozen(model)
    apply_freeze(model, "norm")
    assert is_frozen(model)


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (4, "4 blocks are to be frozen and the backbone has 3"),
        (-1, "whole number from 0, not -1"),
        ("blocks[:9]", "9 blocks"),
        ("blocks[1:]", r"'blocks\[1:\]' is not blocks\[:N\]"),
        ("nrom", "no parameter or module with parameters called 'nrom'; it has cls_token, pos_embed"),
        ("blocks.0.attn.x", "called 'blocks.0.attn.x'"),
        ({"modules": "blocks.0.norm"}, "no module called 'blocks.0.norm'"),
        ("\x1b[31m", r"called '\\\\x1b\[31m'"),
        (["norm", 3], "3 is not a name"),
        ([""], "'' is not a name"),
        (None, "None is not a name"),
        ({"block": 2}, "unknown key 'block'; the keys are all, full, .* unfreeze"),
        ({"blocks": "two"}, "whole number from 0, not 'two'"),
        ({"blocks": True}, "whole number from 0, not True"),
        ({"all": 1}, "all is True or False, not 1"),
        ({"modules": ["norm.weight"]}, "no module called 'norm.weight'"),
        ({"names": ["norm"]}, "no parameter called 'norm'"),
        ({"exclude": ["nothing"]}, "called 'nothing'"),
    ],
    ids=lambda value: "" if isinstance(value, set) else repr(value),  # a set has no order of its own
)
def test_what_means_nothing_is_an_error(freeze: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        apply_freeze(network(), freeze)


@pytest.mark.parametrize(("freeze", "message"), [(1, "no list of blocks"), ("embed", "no patch_embed")])
def test_a_network_without_what_is_to_be_frozen_is_named(freeze: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=f"a Linear has {message}"):
        apply_freeze(nn.Linear(2, 2), freeze)
