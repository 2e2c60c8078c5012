"""Public checkpoints by their key lists: written from each project's own state dict, not from our code."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


class Size(NamedTuple):
    """Of a network."""

    width: int = 24
    depth: int = 2
    patch: int = 4
    grid: int = 3
    registers: int = 0
    hidden: int = 96


def _pair(name: str, rows: int, *columns: int) -> Shapes:
    return {f"{name}.weight": (rows, *columns), f"{name}.bias": (rows,)}


def _outside(size: Size) -> Shapes:
    w = size.width
    return {"cls_token": (1, 1, w), "pos_embed": (1, 1 + size.grid**2, w),
            **_pair("patch_embed.proj", w, 3, size.patch, size.patch), **_pair("norm", w)}  # fmt: skip


def dino(size: Size) -> Shapes:
    """facebookresearch/dino, `VisionTransformer`; also timm's without a classifier."""
    w, shapes = size.width, _outside(size)
    for i in range(size.depth):
        b = f"blocks.{i}"
        shapes |= {**_pair(f"{b}.norm1", w), **_pair(f"{b}.attn.qkv", 3 * w, w), **_pair(f"{b}.attn.proj", w, w)}
        shapes |= {
            **_pair(f"{b}.norm2", w),
            **_pair(f"{b}.mlp.fc1", size.hidden, w),
            **_pair(f"{b}.mlp.fc2", w, size.hidden),
        }
    return shapes


def timm(size: Size) -> Shapes:
    """timm's `vit_*_patch*_224`, with its classifier."""
    return {**dino(size), **_pair("head", 1000, size.width)}


def ibot(size: Size) -> Shapes:
    """bytedance/ibot: DINO's with the embedding of masked patches."""
    return {**dino(size), "masked_embed": (1, size.width)}


def dinov2(size: Size) -> Shapes:
    """facebookresearch/dinov2, `DinoVisionTransformer`, with registers where the size has them."""
    w, shapes = size.width, {**dino(size), "mask_token": (1, size.width)}
    shapes |= {f"blocks.{i}.{name}.gamma": (w,) for i in range(size.depth) for name in ("ls1", "ls2")}
    return {**shapes, **({"register_tokens": (1, size.registers, w)} if size.registers else {})}


def slt(size: Size) -> Shapes:
    """SLT's `ViTSmallPatch16` (COMPAT.md 2.1)."""
    w, shapes = size.width, _outside(size)
    for i in range(size.depth):
        b = f"blocks.{i}"
        shapes |= {**_pair(f"{b}.norm1", w), **_pair(f"{b}.norm2", w), **_pair(f"{b}.attn.out_proj", w, w)}
        shapes |= {f"{b}.attn.in_proj_weight": (3 * w, w), f"{b}.attn.in_proj_bias": (3 * w,)}
        shapes |= {**_pair(f"{b}.mlp.0", size.hidden, w), **_pair(f"{b}.mlp.3", w, size.hidden)}
    return shapes


def hf_dinov2(size: Size) -> Shapes:
    """transformers' `Dinov2Model` and `Dinov2WithRegistersModel` as saved."""
    w = size.width
    shapes: Shapes = {
        "embeddings.cls_token": (1, 1, w), "embeddings.mask_token": (1, w),
        "embeddings.position_embeddings": (1, 1 + size.grid**2, w),
        **_pair("embeddings.patch_embeddings.projection", w, 3, size.patch, size.patch), **_pair("layernorm", w),
    }  # fmt: skip
    if size.registers:
        shapes["embeddings.register_tokens"] = (1, size.registers, w)
    for i in range(size.depth):
        b = f"encoder.layer.{i}"
        shapes |= {**_pair(f"{b}.norm1", w), **_pair(f"{b}.norm2", w)}
        for name in ("attention.query", "attention.key", "attention.value", "output.dense"):
            shapes |= _pair(f"{b}.attention.{name}", w, w)
        shapes |= {f"{b}.layer_scale1.lambda1": (w,), f"{b}.layer_scale2.lambda1": (w,)}
        shapes |= {**_pair(f"{b}.mlp.fc1", size.hidden, w), **_pair(f"{b}.mlp.fc2", w, size.hidden)}
    return shapes


def dino_head(width: int, *, prototypes: int = 16, hidden: int = 20, bottleneck: int = 8) -> Shapes:
    """DINO's and DINOv2's `DINOHead` under the old weight norm."""
    return {**_pair("mlp.0", hidden, width), **_pair("mlp.2", hidden, hidden), **_pair("mlp.4", bottleneck, hidden),
            "last_layer.weight_g": (prototypes, 1), "last_layer.weight_v": (prototypes, bottleneck)}  # fmt: skip


def filled(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of some size, norms of prototypes apart, which are one."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.ones(shape) if key.endswith("weight_g") else 0.3 * torch.randn(shape, generator=generator)
        for key, shape in shapes.items()
    }


TABLES: dict[str, Callable[..., Any]] = {
    "dino": dino, "timm": timm, "ibot": ibot, "dinov2": dinov2, "slt": slt, "hf_dinov2": hf_dinov2,
    "dino_head": dino_head,
}  # fmt: skip


class Foreign(NamedTuple):
    """What the tests of this folder share."""

    tables: dict[str, Callable[..., Any]]
    size: type[Size]
    filled: Callable[..., dict[str, Tensor]]

    def weights(self, table: str, *, seed: int = 0, **size: int) -> dict[str, Tensor]:
        """Random weights of a tiny network."""
        return self.filled(self.tables[table](Size(**size)), seed)


@pytest.fixture(scope="session")
def foreign() -> Foreign:
    return Foreign(TABLES, Size, filled)
