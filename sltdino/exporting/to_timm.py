"""For timm: `timm.create_model(**arguments)` and `load_state_dict`, in a .safetensors or .pt file.

Our names are timm's. With registers, timm's own DINOv2 layout is written: `no_embed_class`, that is, no positions for
prefix tokens, and the CLS token's added to the token itself.
"""

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sltdino.core.settings_base import known
from sltdino.exporting.backbone import TrainedBackbone
from sltdino.exporting.extras import required
from sltdino.exporting.folding import float_weights
from sltdino.exporting.outputs import ExportReport, Recipe, network_input, picture_lines, write_file
from sltdino.exporting.reference_block import REFERENCE_EPS
from sltdino.exporting.timm_network import TimmNetwork
from sltdino.exporting.verify import Consumer, Proof, compare_features, load_strictly, other_grids

_GENERIC = "vit_base_patch16_224"
_SIZES = {(192, 12, 3): "tiny", (384, 12, 6): "small", (768, 12, 12): "base", (1024, 24, 16): "large"}
_PATCHES = {"tiny": (16,), "small": (8, 16, 32), "base": (8, 16, 32), "large": (16, 32)}


def write(backbone: TrainedBackbone, path: Path) -> ExportReport:
    """Write a bare state dict, and what `timm.create_model` needs as JSON beside it, after proving the file.

    Raises:
        SettingsError: a .safetensors file is asked for and that package is missing.
        CheckpointError: what was written does not compute the same features.
    """
    weights, arguments = timm_state_dict(backbone), create_model_arguments(backbone)
    facts = {"create_model": arguments, "layer_norm_eps": known(backbone.network.vit.layer_norm_eps)}
    load, notes = _load_lines(backbone, path), _notes(backbone)
    recipe = Recipe("timm", load, network_input(backbone), (("timm", facts),), notes)
    as_safetensors = path.suffix.lower() == ".safetensors"
    content = _safetensors().save(weights, metadata={"format": "pt"}) if as_safetensors else _pickled(weights)
    return write_file(
        backbone,
        path,
        recipe,
        save=lambda file: file.write(content),
        check=lambda written: _check(backbone, written, arguments, as_safetensors=as_safetensors),
    )


def timm_state_dict(backbone: TrainedBackbone) -> dict[str, Tensor]:
    """The weights in timm's names, float32 and contiguous, without the mask token."""
    weights = float_weights(backbone, without=("mask_token",))
    if backbone.network.reg_token is not None:
        weights["cls_token"] = weights["cls_token"] + weights["pos_embed"][:, :1]
        weights["pos_embed"] = weights["pos_embed"][:, 1:].contiguous()
    return weights


def create_model_arguments(backbone: TrainedBackbone) -> dict[str, Any]:
    """Of `timm.create_model`, all of them spelt out: the name is that of the architecture, or of one to change."""
    vit, size = backbone.network.vit, backbone.network.image_size
    shape = (known(vit.embed_dim), known(vit.depth), known(vit.num_heads))
    arguments: dict[str, Any] = {
        "model_name": _architecture(shape, known(vit.patch_size), known(vit.mlp_ratio)),
        "img_size": size,
        "patch_size": known(vit.patch_size),
        "embed_dim": shape[0],
        "depth": shape[1],
        "num_heads": shape[2],
        "mlp_ratio": known(vit.mlp_ratio),
        "num_classes": 0,
        "dynamic_img_size": True,
    }
    if known(vit.layer_scale):
        arguments["init_values"] = known(vit.layer_scale)
    if known(vit.registers):
        arguments |= {"reg_tokens": known(vit.registers), "no_embed_class": True}
    # what timm.data.resolve_model_data_config tells of the input: the whole picture, squeezed, as our evaluation has it
    arguments["pretrained_cfg_overlay"] = {
        "mean": list(backbone.mean), "std": list(backbone.std), "input_size": [3, size, size],
        "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "squash",
    }  # fmt: skip
    return arguments


def _architecture(shape: tuple[int, int, int], patch_size: int, mlp_ratio: float) -> str:
    size = _SIZES.get(shape)
    known_to_timm = size is not None and mlp_ratio == 4 and patch_size in _PATCHES[size]
    return f"vit_{size}_patch{patch_size}_224" if known_to_timm else _GENERIC


def _notes(backbone: TrainedBackbone) -> tuple[str, ...]:
    eps = known(backbone.network.vit.layer_norm_eps)
    return () if eps == REFERENCE_EPS else (f"the norm_layer below gives timm's LayerNorms the training's {eps:g}",)


def _load_lines(backbone: TrainedBackbone, path: Path) -> str:
    """With the training's LayerNorm epsilon, where it is not timm's."""
    name, sidecar, eps = str(path), f"{path}.json", known(backbone.network.vit.layer_norm_eps)
    lines = ["import functools, json, pathlib", "import numpy as np", "import timm, torch", "from PIL import Image", ""]
    read = f"torch.load({name!r}, weights_only=True)"
    if path.suffix.lower() == ".safetensors":
        lines.insert(4, "from safetensors.torch import load_file")
        read = f"load_file({name!r})"
    lines.append(f"said = json.loads(pathlib.Path({sidecar!r}).read_text())")
    lines.append("arguments = said['timm']['create_model']")
    if eps != REFERENCE_EPS:
        lines.append(f"arguments['norm_layer'] = functools.partial(torch.nn.LayerNorm, eps={eps:g})")
    lines += ["model = timm.create_model(**arguments).eval()", f"model.load_state_dict({read})", ""]
    lines += [*picture_lines(network_input(backbone)), "with torch.inference_mode():"]
    lines += ["    cls = model(torch.from_numpy(images))"]
    return "\n".join(lines)


def _safetensors() -> Any:
    return required("safetensors.torch", format="timm", extra="safetensors")


def _pickled(weights: dict[str, Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    return buffer.getvalue()


def _check(backbone: TrainedBackbone, path: Path, arguments: dict[str, Any], *, as_safetensors: bool) -> Proof:
    if as_safetensors:
        weights = _safetensors().load_file(path)
    else:
        weights = torch.load(path, weights_only=True, map_location="cpu")
    network = TimmNetwork(arguments).eval()
    load_strictly(network, weights, consumer="timm's VisionTransformer")
    consumer = Consumer(
        features=network.forward_features,
        name="our own forward of timm's VisionTransformer",
        distributions=(),
        mean=backbone.mean,
        std=backbone.std,
        layer_norm_eps=REFERENCE_EPS,
        grids=other_grids(backbone.network),
    )
    return compare_features(backbone, consumer, num_tensors=len(weights))
