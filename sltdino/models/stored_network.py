"""The networks in a checkpoint of this software."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from sltdino.core.foreign_weights import plain_tensors
from sltdino.core.run_files import LoadedCheckpoint, stored_settings
from sltdino.core.settings import PretrainSettings
from sltdino.errors import CheckpointError
from sltdino.models.vit import VisionTransformer


class StoredNetwork(NamedTuple):
    """A student or a teacher, in float32 on the CPU."""

    backbone: VisionTransformer
    heads: dict[str, dict[str, Tensor]]
    """Weights under the names of `PrototypeHead`: `head`, and `patch_head` where it is another."""
    settings: PretrainSettings
    progress: dict[str, Any]
    """`global_step` and `best_loss`, among others."""


def stored_network(loaded: LoadedCheckpoint, role: Literal["teacher", "student"] = "teacher") -> StoredNetwork:
    """Build the backbone that a checkpoint's settings describe, with its weights.

    Raises:
        CheckpointError: it has no valid settings, or lacks what a run writes, or its weights do not fit its settings.
    """
    settings = stored_settings(loaded)
    groups: dict[str, dict[str, Tensor]] = {"backbone": {}, "head": {}, "patch_head": {}}
    try:
        for key, value in plain_tensors(loaded.path, loaded.state[role]).items():
            group, _, name = key.partition(".")
            if group not in groups:
                raise ValueError(f"{key} is a weight of nothing that a run trains")
            groups[group][name] = value
        with torch.device("meta"):  # without numbers: assigning real ones costs neither time nor memory for others
            backbone = VisionTransformer(settings.vit, image_size=settings.augmentation.image_size)
        backbone.load_state_dict(groups.pop("backbone"), assign=True)
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:  # forged values, mostly
        reason = f"its weights do not fit its settings ({error})"
        raise CheckpointError(
            f"{loaded.path}: {reason}; use another copy of it, or another checkpoint of the run"
        ) from error
    heads = {name: head for name, head in groups.items() if head}
    return StoredNetwork(backbone, heads, settings, loaded.state["progress"])
