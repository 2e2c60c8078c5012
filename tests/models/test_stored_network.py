"""Checkpoints of this software that were forged or damaged: what they lack is named, never our mistake."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sltdino.errors import CheckpointError
from sltdino.exporting.backbone import load_trained_backbone
from sltdino.models.import_weights import import_backbone


def without(*keys: str) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        for key in keys[:-1]:
            state = state[key]
        del state[keys[-1]]

    return change


def having(*keys: Any) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        for key in keys[:-2]:
            state = state[key]
        state[keys[-2]] = keys[-1]

    return change


FORGED = {
    "no teacher": (without("teacher"), "has no teacher"),
    "no progress": (without("progress"), "has no progress"),
    "no step": (without("progress", "global_step"), "has no progress.global_step"),
    "no settings": (without("settings"), "holds no valid settings"),
    "a strange weight": (having("teacher", "decoder.weight", torch.ones(1)), "decoder.weight is a weight of nothing"),
    "a weight too few": (without("teacher", "backbone.norm.bias"), "do not fit its settings"),
    "another shape": (having("teacher", "backbone.norm.bias", torch.ones(3)), "do not fit its settings"),
    "a weight that is text": (having("teacher", "backbone.norm.bias", "x"), "do not fit its settings"),
    "a teacher that is a list": (having("teacher", [1]), "has no teacher"),
    "a size that was never settled": (having("settings", "vit", "depth", "auto"), "do not fit its settings"),
}


@pytest.mark.parametrize("read", [import_backbone, load_trained_backbone])
@pytest.mark.parametrize("name", FORGED)
def test_what_a_forged_checkpoint_lacks_is_named(finished: Path, name: str, read: Callable[[Path], object]) -> None:
    change, message = FORGED[name]
    path = finished / "checkpoint_last.pt"
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
