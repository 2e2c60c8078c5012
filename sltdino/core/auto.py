"""Settle every `auto` value: from the number of images, the batch and the length of the run to plain numbers.

The sources are the papers' tables and lightly-train's defaults for small data. Settled once, at a run's start; the
numbers are recorded in params.json and in every checkpoint, and a resumed run keeps them.
"""

import math
from typing import Any, NamedTuple

from pydantic import ValidationError

from sltdino.core.settings import PretrainSettings
from sltdino.errors import SettingsError

FEW_IMAGES = 20_000
"""Below it, centering by a running mean and fixed temperatures leave the loss at ln K or on one prototype."""
_NAMED_SIZES = {"vit-tiny": (192, 12, 3), "vit-small": (384, 12, 6), "vit-base": (768, 12, 12)}


class Settled(NamedTuple):
    """Settings without `auto` values."""

    settings: PretrainSettings
    origins: dict[str, str]
    """For each value that was settled here, by dotted key, from what."""


class Plan(NamedTuple):
    """How long a run is."""

    images_per_step: int
    steps_per_epoch: int
    total_steps: int


def plan(settings: PretrainSettings, *, num_images: int, world_size: int = 1) -> Plan:
    """Steps of an epoch (the incomplete last batch is dropped) and of the run."""
    images_per_step = settings.dataset.batch_size * settings.optimizer.accumulate_steps * world_size
    steps_per_epoch = num_images * settings.pseudo_epochs // images_per_step
    return Plan(images_per_step, steps_per_epoch, steps_per_epoch * settings.epochs)


def settle(settings: PretrainSettings, *, num_images: int, world_size: int = 1) -> Settled:
    """Replace every `auto` that has a rule here. `device`, `num_workers` and `precision` follow the machine instead.

    Raises:
        SettingsError: a given value does not fit a settled one.
    """
    steps = plan(settings, num_images=num_images, world_size=world_size)
    rules = {**_vit(settings), **_by_images(settings, num_images), **_by_length(settings, steps)}
    few = num_images < FEW_IMAGES
    rate = 1e-3 * math.sqrt(steps.images_per_step / 32) if few else 5e-4 * steps.images_per_step / 256
    rules["optimizer", "learning_rate"] = (min(2e-3, rate), f"{steps.images_per_step} images per step")

    values = settings.model_dump()
    origins: dict[str, str] = {}
    for (section, key), (value, source) in rules.items():
        if values[section][key] == "auto":
            values[section][key] = value
            origins[f"{section}.{key}"] = f"auto: {source}"
    try:
        return Settled(PretrainSettings.model_validate(values), origins)
    except ValidationError as error:
        rows = [row for found in error.errors() for row in found["ctx"]["problems"]]
        raise SettingsError(*(f"{key}: {message}" for key, message in rows)) from None


Rules = dict[tuple[str, str], tuple[Any, str]]
"""From section and key to the value, and what it follows from."""


def _by_images(settings: PretrainSettings, num_images: int) -> Rules:
    """Under FEW_IMAGES: what a small run needs to learn at all, each measured; else the papers' values."""
    few = num_images < FEW_IMAGES
    loss = settings.loss
    standardize = few if loss.standardize_teacher == "auto" else loss.standardize_teacher
    temp = _teacher_temp(num_images, standardize=standardize) if loss.teacher_temp == "auto" else loss.teacher_temp
    values = {
        ("augmentation", "num_local_crops"): 0 if few else 4,
        ("vit", "patch_init"): "whitened" if few else "random",
        ("vit", "weight_init"): "xavier" if few else "trunc_normal",
        ("head", "out_dim"): _num_prototypes(num_images),
        ("loss", "standardize_teacher"): few,
        ("loss", "use_sinkhorn"): few or settings.algorithm == "dinov2",
        ("loss", "teacher_temp"): temp,
        ("loss", "teacher_temp_start"): temp if standardize else min(0.04, temp),
        ("loss", "koleo_weight"): 0.02 if few else 0.1,
    }
    return {key: (value, f"{num_images:,} images") for key, value in values.items()}


def _by_length(settings: PretrainSettings, steps: Plan) -> Rules:
    epochs = settings.epochs
    values = {
        ("loss", "teacher_temp_warmup_epochs"): round(min(30.0, 0.3 * epochs), 6),
        ("optimizer", "warmup_epochs"): round(min(10.0, 0.1 * epochs), 6),
        ("optimizer", "freeze_last_layer_epochs"): round(min(1.0, 0.02 * epochs), 6),
        ("evaluation", "eval_every"): max(1, epochs // 10),
    }
    momentum = (_momentum(steps.total_steps), f"{steps.total_steps:,} steps")
    return {("optimizer", "teacher_momentum_base"): momentum} | {
        key: (value, f"{epochs} epochs") for key, value in values.items()
    }


def _vit(settings: PretrainSettings) -> Rules:
    vit, image_size = settings.vit, settings.augmentation.image_size
    width, depth, heads = _NAMED_SIZES[vit.backbone]
    embed_dim = width if vit.embed_dim == "auto" else vit.embed_dim
    per_64 = range(max(1, embed_dim // 64), 0, -1)
    num_heads = heads if embed_dim == width else next(number for number in per_64 if embed_dim % number == 0)
    local_crop_size = max(2, round(image_size * 3 / 7 / vit.patch_size)) * vit.patch_size
    return {
        ("vit", "embed_dim"): (embed_dim, vit.backbone),
        ("vit", "depth"): (depth, vit.backbone),
        ("vit", "num_heads"): (num_heads, f"width {embed_dim}"),
        ("head", "hidden_dim"): (min(2048, 4 * embed_dim), f"width {embed_dim}"),
        ("augmentation", "local_crop_size"): (local_crop_size, "3/7 of the image size"),
    }


def _num_prototypes(num_images: int) -> int:
    # lightly-train's table for small data; more than one prototype per image only dilutes the targets
    for limit, prototypes in ((20_000, 1024), (50_000, 2048), (100_000, 4096), (200_000, 16_384)):
        if num_images < limit:
            return prototypes
    return 65_536


def _teacher_temp(num_images: int, *, standardize: bool) -> float:
    """In standard deviations, 1/3; else 0.02 up to 20,000 images, rising with their logarithm to 0.07 at a million."""
    if standardize:
        return 0.33
    share = (math.log10(max(1, num_images)) - math.log10(20_000)) / (6 - math.log10(20_000))
    return round(0.02 + 0.05 * min(1.0, max(0.0, share)), 4)


def _momentum(total_steps: int) -> float:
    # the horizon 1 / (1 - m), in steps, must be short against the run or the teacher stays the random start
    horizon = max(1, total_steps) / 15
    return round(min(0.996, max(0.9, 1 - 1 / horizon)), 4)
