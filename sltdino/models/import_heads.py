"""Projection heads of DINO, iBOT and DINOv2, in the names of ours (`models/head.py`)."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

_GROUPS = {"head": "head", "dino_head": "head", "ibot_head": "patch_head", "patch_head": "patch_head"}
"""Names of a head in a file, and ours."""
_WEIGHT_NORM = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)
"""Norms and directions, as torch's old and new weight norm save them."""
_PLAIN, _WITH_NORMS = {"0", "2", "4"}, {"0", "1", "3", "4", "6"}
"""Indices of the layers with weights in an MLP of three layers."""


class FoundHeads(NamedTuple):
    """Heads under our names, and the names in the file that were dealt with."""

    heads: dict[str, dict[str, Tensor]]
    used: set[str]
    notes: list[str]


def find_heads(weights: Mapping[str, Tensor]) -> FoundHeads:
    """Every head among `weights` that ours can express; what it cannot is said in a note."""
    found = FoundHeads({}, set(), [])
    for theirs, ours in _GROUPS.items():
        layers = {
            key.removeprefix(f"{theirs}."): value for key, value in weights.items() if key.startswith(f"{theirs}.")
        }
        if not any(key.startswith(("mlp.", "last_layer", "prototypes.")) for key in layers):
            continue  # a classifier has such a name too
        found.used.update(f"{theirs}.{key}" for key in layers)
        try:
            found.heads[ours] = _head(layers, "last_layer")
            if "patch_head" not in found.heads and (patch := _own_patch_layer(layers)):
                found.heads["patch_head"] = patch
        except ValueError as error:
            found.notes.append(f"{theirs}: left out, {error}")
    return found


def _own_patch_layer(layers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """iBOT's second last layer over the same MLP; nothing where it is the first one again."""
    if not any(key.startswith("last_layer2.") for key in layers):
        return {}
    first, second = _head(layers, "last_layer"), _head(layers, "last_layer2")
    shared = first["prototypes.weight"].shape == second["prototypes.weight"].shape and torch.equal(
        first["prototypes.weight"], second["prototypes.weight"]
    )
    return {} if shared else second


def _head(layers: Mapping[str, Tensor], last: str) -> dict[str, Tensor]:
    """`mlp.*` and `prototypes.weight`.

    Raises:
        ValueError: ours cannot compute it, and why.
    """
    mlp = {key: value for key, value in layers.items() if key.startswith("mlp.") and "running_" not in key}
    mlp = {key: value for key, value in mlp.items() if not key.endswith("num_batches_tracked")}
    indices = {key.split(".")[1] for key in mlp}
    if indices not in (_PLAIN, _WITH_NORMS):
        raise ValueError(
            f"its MLP has weights in the layers {', '.join(sorted(indices))}; ours has three linear layers"
        )
    if indices == _WITH_NORMS:  # batch norm; ours wraps torch's, and never uses running statistics
        mlp = {re.sub(r"^mlp\.([14])\.(weight|bias)$", r"mlp.\1.bn.\2", key): value for key, value in mlp.items()}
    return {**mlp, "prototypes.weight": _prototypes(layers, last)}


def _prototypes(layers: Mapping[str, Tensor], last: str) -> Tensor:
    prototypes = _directions(layers, last)
    if prototypes.dim() != 2:
        raise ValueError(f"its prototypes are no matrix, but of the shape {list(prototypes.shape)}")
    return prototypes


def _directions(layers: Mapping[str, Tensor], last: str) -> Tensor:
    if "prototypes.weight" in layers:
        return layers["prototypes.weight"]
    for gain, direction in _WEIGHT_NORM:
        if f"{last}.{direction}" in layers:
            norms = layers.get(f"{last}.{gain}")
            if norms is not None and not bool((norms == 1.0).all()):
                raise ValueError("its prototypes have norms other than one, which ours keep at one")
            return layers[f"{last}.{direction}"]
    if f"{last}.weight" in layers:
        raise ValueError("its last layer is not weight-normalised, as ours is")
    raise ValueError("it has no layer of prototypes")
