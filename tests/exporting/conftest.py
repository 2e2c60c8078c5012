"""Backbones to export, and a transformer in float64 that is written from the papers alone."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sltdino.core.auto import settle
from sltdino.core.settings import PretrainSettings
from sltdino.evaluation.features import Pixels
from sltdino.exporting.backbone import TrainedBackbone, trained_backbone
from sltdino.models.vit import VisionTransformer

SEED_MEAN, SEED_STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)


def _make_backbone(*, image_size: int = 16, moved: bool | float = True, **sections: dict[str, Any]) -> TrainedBackbone:
    """A network whose every parameter was moved away from the zeros and ones it starts with.

    It is the same in every order of the tests, and starts from small scores: those of a layout start are tens, whose
    rounding in float32 would be larger than the errors that are looked for here.
    """
    vit = {
        "weight_init": "xavier",
        "patch_size": 8,
        "embed_dim": 16,
        "depth": 2,
        "num_heads": 2,
        **sections.pop("vit", {}),
    }
    crops = {"image_size": image_size, "local_crop_size": vit["patch_size"], **sections.pop("augmentation", {})}
    values = {"train_dir": "crops", "stream": "hand", "epochs": 7, "vit": vit, "augmentation": crops}
    settings = settle(PretrainSettings.model_validate(values), num_images=80).settings
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = VisionTransformer(settings.vit, image_size=image_size)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters() if moved else ():
        parameter.data += (0.3 if moved is True else moved) * torch.randn(parameter.shape, generator=generator)
    progress = {"best_loss": 1.25, "global_step": 42}
    return trained_backbone(network, settings, progress, checkpoint=Path("checkpoint_last.pt"))


@pytest.fixture(scope="session")
def make_backbone() -> Callable[..., TrainedBackbone]:
    """`make_backbone(image_size=16, vit={…}, augmentation={…})`."""
    return _make_backbone


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """`crop.jpg` in a folder of its own: smooth, larger than the networks' inputs, and not square."""
    small = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    (tmp_path / "photo").mkdir()
    Image.fromarray(small).resize((100, 70), Image.Resampling.BICUBIC).save(tmp_path / "photo/crop.jpg")
    return tmp_path / "photo/crop.jpg"


@pytest.fixture(scope="session")
def features_of() -> Callable[[TrainedBackbone, Path], Tensor]:
    """`features_of(backbone, path)`: what `embed` writes of a picture, `[1, D]`."""

    def features_of(backbone: TrainedBackbone, path: Path) -> Tensor:
        pixels = Pixels(backbone.network.image_size, backbone.mean, backbone.std)
        with torch.no_grad():
            return backbone.network(pixels.load(path)[None])

    return features_of


class Features(NamedTuple):
    """Tokens after the last norm."""

    cls_BD: Tensor
    patches_BND: Tensor


@pytest.fixture(scope="session")
def blocks_of() -> Callable[..., Tensor]:
    """`blocks_of(x, weights, depth=2, heads=2, eps=1e-6)`: pre-norm blocks and last norm in timm's names, float64."""

    def blocks_of(x: Tensor, p: dict[str, Tensor], *, depth: int, heads: int, eps: float) -> Tensor:
        width = x.shape[-1]

        def norm(x: Tensor, name: str) -> Tensor:
            centred = x - x.mean(-1, keepdim=True)
            scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
            return scaled * p[f"{name}.weight"] + p[f"{name}.bias"]

        for i in range(depth):
            b = f"blocks.{i}"
            qkv = F.linear(norm(x, f"{b}.norm1"), p[f"{b}.attn.qkv.weight"], p[f"{b}.attn.qkv.bias"])
            q, k, v = qkv.reshape(*x.shape[:2], 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            y = torch.softmax(q @ k.mT / math.sqrt(width // heads), dim=-1) @ v
            y = F.linear(y.transpose(1, 2).flatten(2), p[f"{b}.attn.proj.weight"], p[f"{b}.attn.proj.bias"])
            x = x + y * p.get(f"{b}.ls1.gamma", torch.ones(width).double())
            y = F.linear(norm(x, f"{b}.norm2"), p[f"{b}.mlp.fc1.weight"], p[f"{b}.mlp.fc1.bias"])
            y = F.linear(0.5 * y * (1 + torch.erf(y / math.sqrt(2))), p[f"{b}.mlp.fc2.weight"], p[f"{b}.mlp.fc2.bias"])
            x = x + y * p.get(f"{b}.ls2.gamma", torch.ones(width).double())
        return norm(x, "norm")

    return blocks_of


@pytest.fixture(scope="session")
def ours() -> Callable[..., tuple[Tensor, Features]]:
    """`ours(backbone, size, eps)`: pictures of 0..1 and our features of them in float64, at an epsilon."""

    def ours(backbone: TrainedBackbone, *size: int, eps: float | None = None) -> tuple[Tensor, Features]:
        height, width = size * 2 if len(size) == 1 else size
        pictures = torch.rand(3, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        mean, std = (torch.tensor(v).double().view(3, 1, 1) for v in (backbone.mean, backbone.std))
        network = VisionTransformer(backbone.network.vit, image_size=backbone.network.image_size).double().eval()
        network.load_state_dict(backbone.network.state_dict())
        for module in network.modules():
            if isinstance(module, torch.nn.LayerNorm) and eps is not None:
                module.eps = eps
        with torch.no_grad():
            return pictures, Features(*network.forward_features((pictures - mean) / std))

    return ours


@pytest.fixture(scope="session")
def relative() -> Callable[[Any, Any], float]:
    """Largest difference of two pairs of CLS and patch tokens, relative to the second's largest value."""
    return lambda one, other: max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="session")
def block_shapes() -> Callable[..., dict[str, tuple[int, ...]]]:
    """`block_shapes(12, 384, 1536, rows)`: names and shapes of every block, from a table of `name: (out, in)`."""

    def block_shapes(depth: int, table: dict[str, tuple[int, ...]], prefix: str) -> dict[str, tuple[int, ...]]:
        keys: dict[str, tuple[int, ...]] = {}
        for i in range(depth):
            for name, shape in table.items():
                whole = f"{prefix}{i}.{name}"
                if name.endswith((".gamma", ".lambda1")):
                    keys[whole] = shape
                else:
                    keys |= {f"{whole}.weight": shape, f"{whole}.bias": shape[:1]}
        return keys

    return block_shapes
