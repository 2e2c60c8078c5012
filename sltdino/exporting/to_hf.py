"""For Hugging Face: a folder that `AutoModel` and `AutoImageProcessor` read, in the layout of their DINOv2.

The names are those of the Hub's files, which every version of transformers reads, not those of its latest modules. That
DINOv2 takes our LayerNorm epsilon; where there is no LayerScale, ones are written.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sltdino.core import files, json_files
from sltdino.core.settings_base import known
from sltdino.errors import SettingsError
from sltdino.exporting.backbone import TrainedBackbone
from sltdino.exporting.extras import required
from sltdino.exporting.folding import float_weights
from sltdino.exporting.output_names import FOLDER_WEIGHTS
from sltdino.exporting.outputs import ExportReport, Recipe, network_input, write_folder
from sltdino.exporting.verify import Consumer, Proof, compare_features, other_grids, refused
from sltdino.models.vit import Features

_TOP = {
    "cls_token": "embeddings.cls_token",
    "mask_token": "embeddings.mask_token",
    "pos_embed": "embeddings.position_embeddings",
    "reg_token": "embeddings.register_tokens",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
_IN_BLOCK = {
    "blocks.": "encoder.layer.",
    "attn.proj": "attention.output.dense",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
}
_BICUBIC = 3  # Pillow's number


def write(backbone: TrainedBackbone, path: Path) -> ExportReport:
    """Write the folder `path` with model, configuration, image processor and metadata, after proving it.

    Raises:
        SettingsError: transformers or safetensors is missing, or its DINOv2 cannot hold this backbone.
        CheckpointError: what was written leaves a key out, has one too many, or computes other features.
    """
    transformers = required("transformers", format="hf", extra="hf")
    safetensors = required("safetensors.torch", format="hf", extra="hf")
    vit = backbone.network.vit
    if known(vit.mlp_ratio) != int(known(vit.mlp_ratio)):
        raise SettingsError(
            f"--format hf: transformers' DINOv2 takes a whole number for mlp_ratio, and this backbone has "
            f"{known(vit.mlp_ratio):g}; export it with --format timm or onnx"
        )
    content = safetensors.save(hf_state_dict(backbone), metadata={"format": "pt"})

    def save(folder: Path) -> None:
        with files.new_file(folder / FOLDER_WEIGHTS) as file:
            file.write(content)
        json_files.write(folder / "config.json", hf_config(backbone))
        json_files.write(folder / "preprocessor_config.json", hf_preprocessor(backbone))

    def check(folder: Path) -> Proof:
        with _quiet(transformers):
            return _check(backbone, folder, transformers)

    recipe = Recipe("hf", _load_lines(backbone, path), network_input(backbone))
    return write_folder(backbone, path, recipe, save=save, check=check)


def hf_state_dict(backbone: TrainedBackbone) -> dict[str, Tensor]:
    """The weights in the names of DINOv2 on the Hub, float32 and contiguous."""
    written: dict[str, Tensor] = {}
    for key, value in float_weights(backbone).items():
        if ".attn.qkv." in key:
            _, block, _, _, kind = key.split(".")
            for name, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                written[f"encoder.layer.{block}.attention.attention.{name}.{kind}"] = rows.contiguous()
        else:
            written[_renamed(key)] = value
    ones = torch.ones(backbone.network.embed_dim)
    for index in range(len(backbone.network.blocks)):
        for scale in ("layer_scale1", "layer_scale2"):
            written.setdefault(f"encoder.layer.{index}.{scale}.lambda1", ones.clone())
    return written


def _renamed(key: str) -> str:
    for ours, theirs in (_IN_BLOCK if key.startswith("blocks.") else _TOP).items():
        key = key.replace(ours, theirs)
    return key


def hf_config(backbone: TrainedBackbone) -> dict[str, Any]:
    """What config.json says; with registers, of `Dinov2WithRegistersModel`."""
    vit = backbone.network.vit
    config = {
        "architectures": ["Dinov2Model"],
        "model_type": "dinov2",
        "dtype": "float32",
        "hidden_size": known(vit.embed_dim),
        "num_hidden_layers": known(vit.depth),
        "num_attention_heads": known(vit.num_heads),
        "mlp_ratio": int(known(vit.mlp_ratio)),
        "hidden_act": "gelu",
        "layer_norm_eps": known(vit.layer_norm_eps),
        "image_size": backbone.network.image_size,
        "patch_size": known(vit.patch_size),
        "num_channels": 3,
        "qkv_bias": True,
        "layerscale_value": known(vit.layer_scale) or 1.0,
        "use_swiglu_ffn": False,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "drop_path_rate": 0.0,
    }
    if known(vit.registers):
        return config | {
            "architectures": ["Dinov2WithRegistersModel"],
            "model_type": "dinov2_with_registers",
            "num_register_tokens": known(vit.registers),
        }
    return config | {"use_mask_token": True}


def hf_preprocessor(backbone: TrainedBackbone) -> dict[str, Any]:
    """What preprocessor_config.json says: the whole image, resized to the training size as the k-NN probe does."""
    size = {"height": backbone.network.image_size, "width": backbone.network.image_size}
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": size,
        "resample": _BICUBIC,
        "do_center_crop": False,
        "crop_size": size,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(backbone.mean),
        "image_std": list(backbone.std),
    }


def _load_lines(backbone: TrainedBackbone, path: Path) -> str:
    registers = known(backbone.network.vit.registers)
    tokens = f"CLS, {registers} registers, patches" if registers else "CLS, patches"
    return (
        f"from PIL import Image\n"
        f"from transformers import AutoImageProcessor, AutoModel\n\n"
        f"image = Image.open('crop.jpg')\n"
        f"processor = AutoImageProcessor.from_pretrained({str(path)!r})\n"
        f"model = AutoModel.from_pretrained({str(path)!r})\n"
        f"inputs = processor(image, return_tensors='pt')\n"
        f"tokens = model(**inputs).last_hidden_state  # {tokens}"
    )


def _check(backbone: TrainedBackbone, folder: Path, transformers: Any) -> Proof:
    model, info = transformers.AutoModel.from_pretrained(
        folder, output_loading_info=True, local_files_only=True, ignore_mismatched_sizes=True
    )
    problems = [f"{kind} {sorted(map(str, found))[0]}" for kind, found in info.items() if found]
    if problems:
        raise refused("transformers", ", ".join(problems))
    _check_processor(backbone, transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True))
    prefix = 1 + known(backbone.network.vit.registers)

    def features(images: Tensor) -> Features:
        tokens_BLD = model(pixel_values=images).last_hidden_state
        return Features(tokens_BLD[:, 0], tokens_BLD[:, prefix:])

    consumer = Consumer(
        features=features,
        name="transformers",
        distributions=("transformers", "safetensors"),
        mean=backbone.mean,
        std=backbone.std,
        layer_norm_eps=known(backbone.network.vit.layer_norm_eps),
        grids=other_grids(backbone.network),
    )
    num_tensors = len(model.eval().state_dict())
    return compare_features(backbone, consumer, num_tensors=num_tensors)


def _check_processor(backbone: TrainedBackbone, processor: Any) -> None:
    """A picture of the training size must only be scaled and normalised, and another one brought to that size."""
    size = backbone.network.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    made = torch.as_tensor(np.stack(processor(pixels, return_tensors="np")["pixel_values"]))[0]
    mean, std = torch.tensor(backbone.mean).view(3, 1, 1), torch.tensor(backbone.std).view(3, 1, 1)
    wanted = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - mean) / std
    if made.shape != wanted.shape or not (made - wanted).abs().max() < 1e-4:
        raise refused("transformers", "its image processor normalises differently")
    other = processor(np.zeros((2 * size, size, 3), dtype=np.uint8), return_tensors="np")["pixel_values"]
    if np.shape(other) != (1, 3, size, size):
        raise refused("transformers", f"its image processor makes images of {np.shape(other)}")


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without its progress bars, and its advice about packages that are not needed here."""
    settings = transformers.utils.logging
    verbosity, bars = settings.get_verbosity(), settings.is_progress_bar_enabled()
    settings.set_verbosity(logging.ERROR)
    settings.disable_progress_bar()
    try:
        yield
    finally:
        settings.set_verbosity(verbosity)
        if bars:
            settings.enable_progress_bar()
