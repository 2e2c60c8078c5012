"""For this package and any other reader: our own names in a .safetensors file, our metadata in its header."""

import json
from pathlib import Path
from typing import Any

from sltdino.core import json_files
from sltdino.core.settings_base import known
from sltdino.core.settings_network import VitSettings
from sltdino.exporting.backbone import TrainedBackbone
from sltdino.exporting.extras import required
from sltdino.exporting.folding import float_weights
from sltdino.exporting.outputs import ExportReport, NetworkInput, Recipe, network_input, picture_lines, said, write_file
from sltdino.exporting.verify import Consumer, Proof, compare_features, load_strictly, other_grids
from sltdino.models.import_facts import OUR_HEADER
from sltdino.models.normalisation import IMAGENET_MEAN, IMAGENET_STD
from sltdino.models.vit import VisionTransformer

_SHAPE = {"patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "registers", "layer_scale", "layer_norm_eps"}


def write(backbone: TrainedBackbone, path: Path) -> ExportReport:
    """Write every weight, the mask token too, and the metadata in the header, after proving the file.

    Raises:
        SettingsError: the safetensors package is missing.
        CheckpointError: what was written does not compute the same features.
    """
    safetensors = required("safetensors.torch", format="safetensors", extra="safetensors")
    given, vit = network_input(backbone), backbone.network.vit.model_dump(include=_SHAPE)
    header = {OUR_HEADER: json_files.dumps({**said(backbone), "input": given._asdict(), "vit": vit})}
    content = safetensors.save(float_weights(backbone), metadata=header)
    return write_file(
        backbone,
        path,
        Recipe("safetensors", _load_lines(backbone, path), given, (("vit", vit),), _notes(backbone)),
        save=lambda file: file.write(content),
        check=lambda written: _check(backbone, written),
    )


def _load_lines(backbone: TrainedBackbone, path: Path) -> str:
    """`load_backbone` gives a network for ImageNet's mean and std, whatever the training's."""
    return "\n".join(
        (
            "import numpy as np",
            "import torch",
            "from PIL import Image",
            "from sltdino.models import load_backbone",
            "",
            f"backbone = load_backbone({f'file::{path}'!r})",
            "",
            *picture_lines(NetworkInput(backbone.network.image_size, IMAGENET_MEAN, IMAGENET_STD)),
            "with torch.inference_mode():",
            "    cls = backbone(torch.from_numpy(images))",
        )
    )


def _notes(backbone: TrainedBackbone) -> tuple[str, ...]:
    read = "sltdino embed and --init-from read this file too"
    if (backbone.mean, backbone.std) == (IMAGENET_MEAN, IMAGENET_STD):
        return (read,)
    return (read, "load_backbone folds the training's mean and std in, so that its network takes ImageNet's")


def _check(backbone: TrainedBackbone, path: Path) -> Proof:
    """Build the network from what the header says, and nothing else."""
    with required("safetensors", format="safetensors", extra="safetensors").safe_open(path, "pt") as file:
        header: dict[str, Any] = json.loads(file.metadata()[OUR_HEADER])
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
    given = header["input"]
    network = VisionTransformer(VitSettings.model_validate(header["vit"]), image_size=given["image_size"]).eval()
    load_strictly(network, weights, consumer="sltdino")
    consumer = Consumer(
        features=network.forward_features,
        name="safetensors",
        distributions=("safetensors",),
        mean=tuple(given["mean"]),
        std=tuple(given["std"]),
        layer_norm_eps=known(backbone.network.vit.layer_norm_eps),
        grids=other_grids(backbone.network),
    )
    return compare_features(backbone, consumer, num_tensors=len(weights))
