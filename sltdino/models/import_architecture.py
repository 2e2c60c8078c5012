"""The shape of a network from its weights, and from what its files say where the weights do not tell."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from sltdino.core.settings_network import VitSettings
from sltdino.errors import CheckpointError, SettingsError
from sltdino.models.import_facts import Facts
from sltdino.models.import_layouts import Layout

GUESSED_HEADS = "heads: the file does not say how many"
_HEADS_OF_WIDTH = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16, 1664: 16}
"""Of ViT-Ti, S, B, L (Touvron et al. 2021, Dosovitskiy et al. 2021), H, g and G (Zhai et al. 2022)."""


class Architecture(NamedTuple):
    """A public name's network."""

    embed_dim: int
    depth: int
    num_heads: int
    patch_size: int
    registers: int = 0


_SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
ARCHITECTURES: dict[str, Architecture] = {
    **{
        f"dino_vit{size[0]}{patch}": Architecture(*_SIZES[size], patch)
        for size in ("small", "base")
        for patch in (8, 16)
    },
    **{f"dinov2_vit{size[0]}14": Architecture(*_SIZES[size], 14) for size in ("small", "base", "large")},
    **{f"dinov2_vit{size[0]}14_reg": Architecture(*_SIZES[size], 14, 4) for size in ("small", "base", "large")},
    **{f"vit_{size}_patch{patch}_224": Architecture(*_SIZES[size], patch) for size in _SIZES for patch in (8, 16)},
}
"""The names under which the authors publish them: DINO's, DINOv2's and timm's."""
SLT_ARCHITECTURES = ("slt_vitsmall_patch16", "slt_vits16")
"""SLT's names, which say nothing about the size: it is in the file's metadata."""


class Inferred(NamedTuple):
    """A network to build, without `auto` values."""

    vit: VitSettings
    image_size: int
    """Side in pixels of the images whose positions are stored."""


def infer_vit(path: Path, weights: Mapping[str, Tensor], layout: Layout, *, facts: Facts, notes: list[str]) -> Inferred:
    """The network that these weights (under our names) belong to.

    Args:
        facts: what the file says beyond its weights.
        notes: where what was taken for granted is added.

    Raises:
        CheckpointError: they are no vision transformer of the kind that ours computes, and why.
    """
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    patch = _shape(path, shapes, "patch_embed.proj.weight", 4, layout)
    width, channels, patch_size = patch[0], patch[1], patch[2]
    if channels != 3 or patch[3] != patch_size:
        raise _error(path, f"its patches have {channels} channels of {patch_size} × {patch[3]}; ours are square RGB")
    tokens = _shape(path, shapes, "pos_embed", 3, layout)[1] - 1
    grid = round(tokens**0.5)
    if grid < 1 or grid * grid != tokens:
        raise _error(path, f"its {tokens} positions are no square grid beside one class token, as ours are")
    depth = _depth(path, shapes, layout)
    hidden = _shape(path, shapes, "blocks.0.mlp.fc1.weight", 2, layout)[0]
    return Inferred(
        VitSettings(
            patch_size=patch_size,
            embed_dim=width,
            depth=depth,
            num_heads=_num_heads(path, width, facts.num_heads, notes),
            mlp_ratio=_ratio(hidden, width),
            registers=_shape(path, shapes, "reg_token", 3, layout)[1] if "reg_token" in shapes else 0,
            layer_scale=1e-5 if "blocks.0.ls1.gamma" in shapes else 0.0,
            layer_norm_eps=facts.layer_norm_eps or layout.layer_norm_eps,
            weight_init="trunc_normal",
            positions="random",
        ),
        grid * patch_size,
    )


def check_architecture(path: Path, name: str, vit: VitSettings) -> None:
    """Refuse weights that are not of the network that was named.

    Raises:
        SettingsError: the name is unknown. CheckpointError: the weights are another network's.
    """
    if name in SLT_ARCHITECTURES:
        return
    if name not in ARCHITECTURES:
        known = ", ".join((*ARCHITECTURES, *SLT_ARCHITECTURES))
        raise SettingsError(f"{name!r} is no known architecture; leave it out, or use one of: {known}")
    wanted = ARCHITECTURES[name]._asdict()
    wrong = [f"{key} {getattr(vit, key)}, not {value}" for key, value in wanted.items() if getattr(vit, key) != value]
    if wrong:
        raise _error(path, f"not a {name}: {'; '.join(wrong)}; name the architecture that it is, or none")


def _shape(path: Path, shapes: Mapping[str, tuple[int, ...]], key: str, dims: int, layout: Layout) -> tuple[int, ...]:
    if key not in shapes:
        raise _error(path, f"names as of {layout.name}, but {key} is missing; use another copy of it")
    if len(shapes[key]) != dims or 0 in shapes[key]:
        raise _error(path, f"{key} has the shape {list(shapes[key])}, with which no vision transformer can be built")
    return shapes[key]


def _depth(path: Path, shapes: Mapping[str, object], layout: Layout) -> int:
    numbers = {int(found[1]) for key in shapes if (found := re.match(r"blocks\.(\d{1,6})\.", key))}
    if not numbers or numbers != set(range(len(numbers))):
        raise _error(path, f"names as of {layout.name}, but its {len(numbers)} blocks are not numbered from 0 on")
    return len(numbers)


def _num_heads(path: Path, width: int, said: int | None, notes: list[str]) -> int:
    if said is not None:
        if width % said:
            raise _error(path, f"says it has {said} heads, which do not divide its width {width}")
        return said
    if width in _HEADS_OF_WIDTH:
        return _HEADS_OF_WIDTH[width]
    number = max(1, width // 64)
    if width % number:
        raise _error(
            path,
            f"does not say how many heads its width {width} has; put num_attention_heads into config.json beside it",
        )
    notes.append(f"{GUESSED_HEADS}; one per 64 channels makes {number}")
    return number


def _ratio(hidden: int, width: int) -> float:
    """The ratio that gives `hidden` back when the network is built: `int` cuts off."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else (hidden + 0.5) / width


def _error(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: {reason}", code="E-WEIGHTS")
