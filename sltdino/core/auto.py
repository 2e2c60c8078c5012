"""Settle every `auto` value: from the number of images, the batch and the length of the run to plain numbers.

The sources are the papers' tables, lightly-train's number of prototypes, and for few images what was measured on a
thousand crops. Settled once, at a run's start, or where it is given minutes once its steps are timed; the numbers are
recorded in params.json and in every checkpoint, and a resumed run keeps them.
"""

import math
from typing import NamedTuple

from pydantic import ValidationError

from sltdino.core.auto_network import InitialNetwork, Rules, contradictions, network_rules
from sltdino.core.auto_papers import PAPERS, paper_lengths, paper_rate
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_base import known, whole
from sltdino.errors import SettingsError

FEW_IMAGES = 20_000
"""Below it, centering by a running mean and fixed temperatures leave the loss at ln K or on one prototype."""


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
    if initial is not None and (problems := list(contradictions(settings, initial))):
        raise SettingsError(*problems)
    if settings.train_minutes is not None and settings.epochs != "auto":
        raise SettingsError(f"--train-minutes: {two_lengths(f'{settings.epochs:g} epochs')}")
    origins: dict[str, str] = {}
    if settings.epochs == "auto" and (length := length or (None if settings.train_minutes else USUAL_LENGTH)):
        settings = settings.model_copy(update={"epochs": whole(length.epochs)})
        origins["epochs"] = f"auto: {length.source}"
    network = network_rules(settings, initial, num_images=num_images, has_few=num_images < FEW_IMAGES)
    rules = {**_by_images(settings, num_images), **network}
    images_per_step = _images_per_step(settings, world_size)
    rate = usual_learning_rate(num_images=num_images, images_per_step=images_per_step)
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
        key: (value, f"{epochs:.6g} epoch{'s' * (epochs != 1)}") for key, value in values.items()
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
