"""For SLT's `load_dinov2_backbone("file::PATH:slt_vitsmall_patch16")`, the loader of the original guide.

That loader builds its network from `metadata.backbone` and loads without strictness, so a wrong key would leave it
random with only a warning. It always feeds RGB under ImageNet's mean and std, and its LayerNorms use 1e-5.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sltdino.errors import SettingsError
from sltdino.exporting.backbone import TrainedBackbone
from sltdino.exporting.folding import float_weights, fold_layer_scale
from sltdino.exporting.outputs import ExportReport, NetworkInput, Recipe, picture_lines, said, write_file
from sltdino.exporting.slt_network import SltNetwork
from sltdino.exporting.verify import Consumer, Proof, compare_features, load_strictly, other_grids
from sltdino.models.normalisation import IMAGENET_MEAN, IMAGENET_STD, fold_normalisation

SLT_EPS = 1e-5
_RENAMES = {"attn.qkv.": "attn.in_proj_", "attn.proj.": "attn.out_proj.", "mlp.fc1.": "mlp.0.", "mlp.fc2.": "mlp.3."}


def write(backbone: TrainedBackbone, path: Path, *, dtype: torch.dtype = torch.float32) -> ExportReport:
    """Write `path` (`{"model": …, "metadata": …}`) and its metadata as JSON beside it, after proving the file.

    Args:
        dtype: of the weights in the file, which consumers read as float32; one that rounds them must be in them before.

    Raises:
        SettingsError: the backbone has registers, which SLT's network cannot hold.
        CheckpointError: what was written does not compute the same features.
    """
    model = {key: value.to(dtype) for key, value in slt_state_dict(backbone).items()}
    return write_file(
        backbone,
        path,
        slt_recipe("slt", backbone, path, model="slt_vitsmall_patch16"),
        save=lambda file: torch.save(slt_payload(backbone, model), file),
        check=lambda written: _check(backbone, written),
    )


def slt_recipe(format: str, backbone: TrainedBackbone, path: Path, *, model: str) -> Recipe:
    """How SLT loads a file of one of its formats."""
    spec = f"file::{path}:{model}"
    given = NetworkInput(backbone.network.image_size, IMAGENET_MEAN, IMAGENET_STD)
    load = [
        "import numpy as np",
        "import torch",
        "from PIL import Image",
        "from slt.models import load_dinov2_backbone",
        "",
        f"backbone = load_dinov2_backbone({spec!r}).eval()",
        "",
        *picture_lines(given),
        "with torch.inference_mode():",
        "    cls = backbone(torch.from_numpy(images))",
    ]
    notes = ["SLT's loader cannot take a path with a colon in it: rename the file"] if ":" in str(path) else []
    if format == "slt":
        notes.append(f"{model} is the loader's name for a network of any size")
    return Recipe(format, "\n".join(load), given, notes=tuple(notes))


def slt_payload(backbone: TrainedBackbone, model: dict[str, Tensor]) -> dict[str, Any]:
    """What SLT's loader finds in a file: weights and metadata, of plain values only."""
    return {"model": model, "metadata": said(backbone)}


def slt_state_dict(backbone: TrainedBackbone) -> dict[str, Tensor]:
    """The weights in SLT's names, float32 and contiguous, for input under ImageNet's mean and std."""
    if backbone.network.reg_token is not None:
        raise SettingsError("--format slt: SLT's network has no register tokens; train with --vit-registers 0 for it")
    weights = float_weights(backbone, without=("mask_token",))
    fold_layer_scale(weights)
    fold_normalisation(weights, fed=(IMAGENET_MEAN, IMAGENET_STD), expected=(backbone.mean, backbone.std))
    return {_renamed(key): value.contiguous() for key, value in weights.items()}


def _renamed(key: str) -> str:
    for ours, theirs in _RENAMES.items():
        key = key.replace(ours, theirs)
    return key


def _check(backbone: TrainedBackbone, path: Path) -> Proof:
    payload: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    network = SltNetwork(payload["metadata"]["backbone"]).eval()
    load_strictly(network, payload["model"], consumer="SLT's network")
    consumer = Consumer(
        features=network.forward_features,
        name="our own forward of SLT's network",
        distributions=(),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        layer_norm_eps=SLT_EPS,
        grids=other_grids(backbone.network, square=True),
    )
    return compare_features(backbone, consumer, num_tensors=len(payload["model"]))
