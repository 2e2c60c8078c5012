"""Settle every `auto` value: from the number of images, the batch and the length of the run to plain numbers.

The sources are the papers' tables and lightly-train's defaults for small data. Settled once, at a run's start; the
numbers are recorded in params.json and in every checkpoint, and a resumed run keeps them.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import ValidationError

from sltdino.core.auto_papers import PAPERS, paper_lengths, paper_rate
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_base import known, whole
from sltdino.core.settings_checks import FALLBACK_PATCH_SIZE
from sltdino.errors import SettingsError

FEW_IMAGES = 20_000
"""Below it, centering by a running mean and fixed temperatures leave the loss at ln K or on one prototype."""
_SIZE = ("embed_dim", "depth", "num_heads")
_NAMED_SIZES = {"vit-tiny": (192, 12, 3), "vit-small": (384, 12, 6), "vit-base": (768, 12, 12)}
_RANDOM_START = {
    "patch_size": FALLBACK_PATCH_SIZE, "mlp_ratio": 4.0, "registers": 0, "layer_scale": 0.0, "layer_norm_eps": 1e-5,
}  # fmt: skip


class Settled(NamedTuple):
    """Settings without `auto` values."""

    settings: PretrainSettings
    origins: dict[str, str]
    """For each value that was settled here, by dotted key, from what."""


class InitialNetwork(NamedTuple):
    """The network of the weights that a run starts from."""

    name: str
    """Of the file, for the record."""
    patch_size: int
    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float
    registers: int
    layer_scale: float
    layer_norm_eps: float


class Plan(NamedTuple):
    """How long a run is."""

    images_per_step: int
    steps_per_epoch: int
    total_steps: int

    def ends_epoch(self, step: int) -> bool:
        """Whether so many steps end an epoch; the last one may be a part of one."""
        return step % self.steps_per_epoch == 0 or step == self.total_steps

    def evaluation_steps(self, eval_every: float) -> int:
        """Steps between evaluations; the run's end is one more."""
        return max(1, math.ceil(round(eval_every * self.steps_per_epoch, 6)))

    def epochs(self, step: int) -> float:
        """How many epochs so many steps are, to four digits."""
        finished, rest = divmod(step, self.steps_per_epoch)
        return float(f"{step / self.steps_per_epoch:.4g}") if rest else finished


class Length(NamedTuple):
    """How long a run becomes whose `epochs` are `auto`."""

    epochs: float
    source: str
    """What that follows from."""
    eval_every: float | None = None
    """Epochs between evaluations; None where only the number of epochs says."""


USUAL_LENGTH = Length(100, "the usual length")


def plan(settings: PretrainSettings, *, num_images: int, world_size: int = 1) -> Plan:
    """Steps of an epoch (the incomplete last batch is dropped) and of the run, which has one at least."""
    images_per_step = _images_per_step(settings, world_size)
    steps_per_epoch = num_images * settings.pseudo_epochs // images_per_step
    total_steps = max(1, round(known(settings.epochs) * steps_per_epoch)) if steps_per_epoch else 0
    return Plan(images_per_step, steps_per_epoch, total_steps)


def two_lengths(other: str) -> str:
    """What is wrong with minutes beside a given number of epochs."""
    return f"{other} and minutes both say how long to train; leave one of the two out"


def usual_learning_rate(*, num_images: int, images_per_step: int, preset: str = "none") -> float:
    """The peak learning rate that `auto` stands for."""
    if preset in PAPERS:
        return PAPERS[preset].learning_rate(images_per_step)
    few = num_images < FEW_IMAGES
    return min(2e-3, 5e-4 * math.sqrt(images_per_step / 32) if few else 5e-4 * images_per_step / 256)


def settle(
    settings: PretrainSettings,
    *,
    num_images: int,
    world_size: int = 1,
    initial: InitialNetwork | None = None,
    length: Length | None = None,
) -> Settled:
    """Replace every `auto` that has a rule here. `device`, `num_workers` and `precision` follow the machine instead.

    Args:
        initial: what `init_from` names; the network's `auto` values follow it.
        length: what `epochs` become where they are `auto`; without it the usual length. But of a run that is given
            minutes, `epochs` and what follows from them then stay `auto`, until its steps were timed.

    Raises:
        SettingsError: a given value does not fit a settled one, or not the weights; epochs and minutes are given.
    """
    if initial is not None and (problems := list(_contradictions(settings, initial))):
        raise SettingsError(*problems)
    if settings.train_minutes is not None and settings.epochs != "auto":
        raise SettingsError(f"--train-minutes: {two_lengths(f'{settings.epochs:g} epochs')}")
    origins: dict[str, str] = {}
    if settings.epochs == "auto" and (length := length or (None if settings.train_minutes else USUAL_LENGTH)):
        settings = settings.model_copy(update={"epochs": whole(length.epochs)})
        origins["epochs"] = f"auto: {length.source}"
    rules = {**_by_images(settings, num_images), **_network(settings, initial)}
    images_per_step = _images_per_step(settings, world_size)
    rate = usual_learning_rate(num_images=num_images, images_per_step=images_per_step)
    rules["vit", "weight_init"] = _weight_init(settings, initial, num_images)
    rules["optimizer", "learning_rate"] = (rate, f"{images_per_step} images per step")
    rules |= paper_rate(settings.preset, images_per_step=images_per_step)
    if settings.epochs != "auto":
        steps = plan(settings, num_images=num_images, world_size=world_size)
        rules |= _by_length(settings, steps, eval_every=None if length is None else length.eval_every)
        rules |= paper_lengths(settings.preset, epochs=settings.epochs)

    values = settings.model_dump()
    for (section, key), (value, source) in rules.items():
        if values[section][key] == "auto":
            values[section][key] = value
            origins[f"{section}.{key}"] = f"auto: {source}"
    try:
        return Settled(PretrainSettings.model_validate(values), origins)
    except ValidationError as error:
        rows = [row for found in error.errors() for row in found["ctx"]["problems"]]
        raise SettingsError(*(f"{key}: {message}" for key, message in rows)) from None


def _images_per_step(settings: PretrainSettings, world_size: int) -> int:
    return settings.dataset.batch_size * settings.optimizer.accumulate_steps * world_size


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
        ("augmentation", "solarize_prob"): 0.0 if few else "dino",
        ("augmentation", "rotation"): 10.0 if few else 0.0,
        ("augmentation", "light"): 0.3 if few else 0.0,
        ("head", "out_dim"): _num_prototypes(num_images),
        ("loss", "standardize_teacher"): few,
        ("loss", "use_sinkhorn"): few or settings.algorithm == "dinov2",
        ("loss", "teacher_temp"): temp,
        ("loss", "teacher_temp_start"): temp if standardize else min(0.04, temp),
    }
    return {key: (value, f"{num_images:,} images") for key, value in values.items()}


def _by_length(settings: PretrainSettings, steps: Plan, *, eval_every: float | None = None) -> Rules:
    epochs = known(settings.epochs)
    values = {
        ("loss", "teacher_temp_warmup_epochs"): round(min(30.0, 0.3 * epochs), 6),
        ("optimizer", "warmup_epochs"): round(min(10.0, 0.1 * epochs), 6),
        ("optimizer", "freeze_last_layer_epochs"): round(min(1.0, 0.02 * epochs), 6),
        ("evaluation", "eval_every"): eval_every or (max(1, int(epochs // 10)) if epochs >= 1 else epochs / 10),
    }
    momentum = (_momentum(steps.total_steps), f"{steps.total_steps:,} steps")
    return {("optimizer", "teacher_momentum_base"): momentum} | {
        key: (value, f"{epochs:.6g} epochs") for key, value in values.items()
    }


def _network(settings: PretrainSettings, initial: InitialNetwork | None) -> Rules:
    """As the weights it starts from; else of the named size, with the values of a random start."""
    if initial is not None:
        vit = initial._asdict()
        named = [name for name, size in _NAMED_SIZES.items() if size == tuple(vit[key] for key in _SIZE)]
        vit |= {"backbone": named[0]} if named else {}
        source = vit.pop("name")
    else:
        vit = _RANDOM_START | _named_size(settings)
        source = vit["backbone"]
    embed_dim, patch_size = (vit[key] if getattr(settings.vit, key) == "auto" else getattr(settings.vit, key)
                             for key in ("embed_dim", "patch_size"))  # fmt: skip
    local_crop_size = max(2, round(settings.augmentation.image_size * 3 / 7 / patch_size)) * patch_size
    return {("vit", key): (value, source) for key, value in vit.items()} | {
        ("vit", "num_heads"): (vit["num_heads"], source if initial else f"width {embed_dim}"),
        ("head", "hidden_dim"): (min(2048, 4 * embed_dim), f"width {embed_dim}"),
        ("augmentation", "local_crop_size"): (local_crop_size, "3/7 of the image size"),
    }


def _weight_init(settings: PretrainSettings, initial: InitialNetwork | None, num_images: int) -> tuple[str, str]:
    """What layout starts with is lost where LayerScale silences the branches."""
    if initial is not None:
        return "trunc_normal", initial.name
    if num_images >= FEW_IMAGES:
        return "trunc_normal", f"{num_images:,} images"
    if settings.vit.layer_scale not in ("auto", 0.0):
        return "xavier", f"{num_images:,} images, LayerScale"
    return "layout", f"{num_images:,} images"


def _named_size(settings: PretrainSettings) -> dict[str, Any]:
    vit = settings.vit
    name = "vit-small" if vit.backbone == "auto" else vit.backbone
    width, depth, heads = _NAMED_SIZES[name]
    embed_dim = width if vit.embed_dim == "auto" else vit.embed_dim
    per_64 = range(max(1, embed_dim // 64), 0, -1)
    num_heads = heads if embed_dim == width else next(number for number in per_64 if embed_dim % number == 0)
    return {"backbone": name, "embed_dim": embed_dim, "depth": depth, "num_heads": num_heads}


def _contradictions(settings: PretrainSettings, initial: InitialNetwork) -> Iterator[str]:
    """Given values that the weights cannot have, each with both values. Registers and epsilon may differ."""
    vit, weights = settings.vit, f"the weights in {initial.name}"
    if vit.backbone != "auto":
        size = dict(zip(_SIZE, _NAMED_SIZES[vit.backbone], strict=True))
        if wrong := [key for key in _SIZE if getattr(vit, key) == "auto" and getattr(initial, key) != size[key]]:
            asked, found = (", ".join(f"{key} {row[key]}" for key in wrong) for row in (size, initial._asdict()))
            yield f"--backbone: {vit.backbone} has {asked}, and {weights} have {found}; {_way_out('--backbone')}"
    for key in (*_SIZE, "mlp_ratio"):
        given, found = getattr(vit, key), getattr(initial, key)
        if given not in ("auto", found):
            flag = f"--vit-{key.replace('_', '-')}"
            yield f"{flag}: {given}, and {weights} have {found}; {_way_out(flag)}"
    if vit.patch_size not in ("auto", initial.patch_size) and not settings.init_resample_patch:
        yield (
            f"--patch-size: {vit.patch_size}, and {weights} have {initial.patch_size}; "
            f"{_way_out('--patch-size')}, or add --init-resample-patch, which resamples their patch kernels"
        )
    if vit.layer_scale != "auto" and bool(vit.layer_scale) != bool(initial.layer_scale):
        found = "one" if initial.layer_scale else "none"
        yield f"--vit-layer-scale: {vit.layer_scale}, and {weights} have {found}; {_way_out('--vit-layer-scale')}"
    if vit.weight_init == "layout":
        yield f"--vit-weight-init: layout would replace {weights}; leave it out"


def _way_out(flag: str) -> str:
    return f"leave it out, or over a preset pass {flag} auto"


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
