"""What must hold between settings of different fields."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sltdino.core.settings import PretrainSettings
    from sltdino.core.settings_network import VitSettings

Problem = tuple[str, str]
"""Dotted key of the culprit, and what is wrong with it."""

FALLBACK_PATCH_SIZE = 16
"""Side of a patch where neither settings nor weights say one."""
LEAST_LAYOUT_WIDTH = 8
"""Channels of a network that a layout start divides between the picture and its places."""
_RUN_FILES = frozenset({"params.json", "artifacts.json", "status.json", "bad_images.jsonl", ".sltdino.lock"})


def cross_field_problems(settings: "PretrainSettings") -> Iterator[Problem]:
    """Everything that is wrong between fields; `auto` values are checked once they are settled."""
    yield from _crops(settings)
    yield from _network(settings)
    yield from _file_names(settings)


def _crops(settings: "PretrainSettings") -> Iterator[Problem]:
    crops, patch = settings.augmentation, settings.vit.patch_size
    if patch == "auto" and settings.init_from is None:
        patch = FALLBACK_PATCH_SIZE
    for key, size in (("image_size", crops.image_size), ("local_crop_size", crops.local_crop_size)):
        if size != "auto" and patch != "auto" and size % patch:
            fits = max(1, round(size / patch)) * patch
            yield f"augmentation.{key}", f"{size} is not a multiple of the patch size {patch}; use {fits}"
    scales = (("global_crop_scale", crops.global_crop_scale), ("local_crop_scale", crops.local_crop_scale))
    for key, (low, high) in scales:
        if low > high:
            yield f"augmentation.{key}", f"starts above its end ({low} > {high}); swap the two"


def _network(settings: "PretrainSettings") -> Iterator[Problem]:
    vit, batch_size = settings.vit, settings.dataset.batch_size
    if vit.embed_dim != "auto" and vit.num_heads != "auto" and vit.embed_dim % vit.num_heads:
        yield "vit.num_heads", f"{vit.num_heads} heads do not divide the width {vit.embed_dim}"
    if vit.weight_init == "layout" and (obstacle := against_layout(vit)):
        yield "vit.weight_init", f"layout {obstacle.message}"
    if settings.head.batch_norm and batch_size < 2:
        yield "dataset.batch_size", "batch norm in the heads needs at least 2 images; or use --no-head-batch-norm"


class Obstacle(NamedTuple):
    """Why a network cannot start in a way."""

    name: str
    message: str
    """Of the way, and what to do instead."""


def against_layout(vit: "VitSettings") -> Obstacle | None:
    """What of a network speaks against the layout start; what is `auto` never does."""
    if vit.layer_scale not in ("auto", 0.0):
        return Obstacle("LayerScale", "has no use under LayerScale, which silences the branches; use xavier")
    if vit.embed_dim != "auto" and vit.embed_dim < LEAST_LAYOUT_WIDTH:
        return Obstacle(f"width {vit.embed_dim}", f"needs a width of {LEAST_LAYOUT_WIDTH} at least; use xavier")
    if vit.positions == "random":
        return Obstacle("random positions", "has positions of its own, not --vit-positions random; use xavier")
    return None


def _file_names(settings: "PretrainSettings") -> Iterator[Problem]:
    names = settings.checkpointing.model_dump(include={"best_name", "last_name", "history_file"})
    for key, name in names.items():
        if name in _RUN_FILES or list(names.values()).count(name) > 1:
            yield f"checkpointing.{key}", f"{name!r} is also the name of another file of the run"
