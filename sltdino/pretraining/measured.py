"""What can only be found out by trying: how fast the loader and the step are here, and who else uses the cores."""

import os
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from typing import Literal, NamedTuple

import torch

from sltdino.core.auto import plan
from sltdino.core.distributed import World
from sltdino.core.memory import keep_freed_memory
from sltdino.core.settings import PretrainSettings
from sltdino.data.image_folder import ImageFolder
from sltdino.data.loader import Stream, build_loader
from sltdino.pretraining.loop import num_workers, to_device
from sltdino.pretraining.session import build_model, build_trainer
from sltdino.training.batches import build_batches
from sltdino.training.trainer import Trainer

_MOST_STEPS = 50
_LOADER = 0.15  # share of the time for the loader alone
_FEW_IMAGES = 2  # the smallest step that is timed; batch norm needs two
_FEW_STEPS = 3  # of a smaller step, so many are to fit into the time
_MOST_LOADED = 256  # images, to know the loader
_LOADER_BATCH = 8  # images are decoded in groups of so many
_PRODUCT = 512  # rows and columns of the matrices that are multiplied to learn what the device can do
_PRODUCTS = 20  # multiplied, of which the quickest counts
_STEP_SHARE = 0.25  # of the rate of plain matrix products: what a step reaches at the least
_LEAST_RATE = 5e9  # operations a second of any machine, however busy: a disturbed product says nothing
_BUSY = 0.5  # load a core above which other programs disturb the measurement


class Load(NamedTuple):
    """What the machine's cores had to do in the last minute."""

    average: float
    """Programs that ran or waited for a core."""
    cores: int

    @property
    def is_busy(self) -> bool:
        """Other programs disturb what is timed here."""
        return self.average > _BUSY * self.cores


class Speed(NamedTuple):
    """Images a second of whole steps, on real batches of this machine."""

    together: float
    """The real step on the real loader: what a run has."""
    step: float
    """The step alone, while the loader works beside it."""
    loader: float
    """The loader alone."""
    data_wait: float
    """Share of the time that the step waits for data."""
    images_per_step: int
    """Of the steps that were timed."""
    steps: int
    """How many steps were timed."""
    limited_by: Literal["", "time", "memory"]
    """Why steps of fewer images were timed, and scaled; empty where they were whole."""


def machine_load() -> Load:
    """To be asked before anything is computed here."""
    return Load(os.getloadavg()[0], os.cpu_count() or 1)


def longest_seconds(seconds: float, step_seconds: float, *, images: int) -> float:
    """How long measuring may take in `seconds` of time where a whole step of so many images takes `step_seconds`.

    Where that is too long, one step of the smallest number is made all the same.
    """
    least = step_seconds if step_seconds < seconds else step_seconds * min(_FEW_IMAGES, images) / images
    return max(seconds, _LOADER * seconds + least)


def expected_step_seconds(operations: float, device: str) -> float:
    """How long a step of so many operations may take, cautiously: from the rate of matrix products on the device."""
    matrix, best = torch.ones(_PRODUCT, _PRODUCT, device=device), float("inf")
    for _ in range(_PRODUCTS):
        start = time.perf_counter()
        (matrix @ matrix)[0, 0].item()  # it waits for the device
        best = min(best, time.perf_counter() - start)
    return operations / max(_LEAST_RATE, _STEP_SHARE * 2 * _PRODUCT**3 / best)


def measure_speed(
    settings: PretrainSettings,
    images: ImageFolder,
    world: World,
    *,
    seconds: float,
    step_seconds: float,
    fits: Callable[[int], bool],
) -> Speed:
    """Time the loader and steps of fresh networks, within about `seconds`: whole steps where there is room for them.

    Args:
        step_seconds: how long a whole step may take, by `expected_step_seconds`.
        fits: whether a step of so many images fits into the memory; two do.

    Raises:
        DataError, ResourceError: as the loader. DivergedError: as the step.
    """
    end = time.perf_counter() + seconds
    keep_freed_memory()
    batch_size, passes = settings.dataset.batch_size, settings.optimizer.accumulate_steps
    whole = trial(settings, batch_size, passes)
    steps = plan(settings, num_images=len(images), world_size=world.size)
    trainer = build_trainer(build_model(whole), whole, steps, world)
    loader = _loader_rate(trial(settings, min(_LOADER_BATCH, batch_size)), images, world, seconds=_LOADER * seconds)
    if fits(batch_size) and step_seconds < seconds:
        return _speed(_time_steps(trainer, whole, images, world, end=end), loader=loader)
    few = _time_step(trainer, trial(settings, min(_FEW_IMAGES, batch_size)), images, world, end=end)
    affordable = int((end - time.perf_counter()) / _FEW_STEPS / few.step_seconds * few.images)
    if fits(batch_size) and affordable >= batch_size * passes:  # quicker than was feared
        return _speed(_time_steps(trainer, whole, images, world, end=end), loader=loader)
    number = max(few.images, min(affordable, batch_size))
    while number > few.images and not fits(number):
        number = max(few.images, number // 2)
    is_time_over = affordable < few.images and time.perf_counter() + few.step_seconds > end
    timed = few if is_time_over else _time_steps(trainer, trial(settings, number), images, world, end=end)
    speed = _speed(_scaled(few, timed, images=batch_size * passes), loader=loader)
    return speed._replace(
        images_per_step=number, steps=timed.steps, limited_by="time" if fits(batch_size) else "memory"
    )


def trial(settings: PretrainSettings, batch_size: int, passes: int = 1) -> PretrainSettings:
    """As `settings`, with so many images a pass, and without what takes time at the start of a run only."""
    changes = {
        "dataset": {"batch_size": batch_size, "cache": "none"},
        # steps with a frozen backbone are quicker than those after them
        "optimizer": {"accumulate_steps": passes, "freeze_backbone_epochs": 0.0},
        "vit": {"weight_init": "trunc_normal"},
    }
    return settings.model_copy(
        update={section: getattr(settings, section).model_copy(update=values) for section, values in changes.items()}
    )


class _Timed(NamedTuple):
    """Steps that were timed."""

    images: int
    """Of one step."""
    steps: int
    step_seconds: float
    """The middle one's, which other programs disturb less than the mean."""
    wait_seconds: float
    """For data, after a step; the mean, because the batches of several workers come in bursts."""


def _time_step(
    trainer: Trainer, settings: PretrainSettings, images: ImageFolder, world: World, *, end: float
) -> _Timed:
    """The better of two steps on one batch, without a loader; a single one where the second would not end in time."""
    batch, taken = to_device(build_batches(settings, images, world)[0], world.device), list[float]()
    for _ in range(2):
        start = time.perf_counter()
        trainer.step(batch)
        taken.append(time.perf_counter() - start)
        if time.perf_counter() + taken[0] > end:
            break
    return _Timed(settings.dataset.batch_size, 1, min(taken), 0.0)


def _time_steps(
    trainer: Trainer, settings: PretrainSettings, images: ImageFolder, world: World, *, end: float
) -> _Timed:
    """Steps on the loader as in a run, until `end`: one to warm up and at least one more.

    Where already the first takes longer than the time that is left, it is the one. What the workers made before the
    first step counts for nothing, as far as the time allows.
    """
    taken, waited = list[float](), list[float]()
    with _stream(settings, images, world) as stream:
        loaded = next(stream)  # to start the workers is no part of a step's time
        left = end - time.perf_counter()
        while len(taken) < _MOST_STEPS:
            start = time.perf_counter()
            trainer.step(to_device(loaded, world.device))  # it waits for the device
            stepped = time.perf_counter()
            loaded = next(stream)
            now = time.perf_counter()
            taken.append(stepped - start)
            waited.append(now - stepped)
            if now > end and (len(taken) > 1 or taken[0] > left):
                break
    warm = min(2 * num_workers(settings) + 1, (len(taken) + 1) // 3) if len(taken) > 1 else 0
    a_step = settings.dataset.batch_size * settings.optimizer.accumulate_steps
    return _Timed(a_step, len(taken) - warm, statistics.median(taken[warm:]), statistics.mean(waited[warm:]))


def _scaled(few: _Timed, timed: _Timed, *, images: int) -> _Timed:
    """What steps of fewer images say of a whole one of `images`.

    Part of a step is the same for any number of images (the optimizer, the teacher). It follows from steps of two
    sizes where they differ enough; noise may invert them, so at least half of the larger one counts by the image.
    """
    an_image = timed.step_seconds / timed.images
    if timed.images >= 2 * few.images:
        slope = (timed.step_seconds - few.step_seconds) / (timed.images - few.images)
        an_image = min(an_image, max(slope, an_image / 2))
    more = images - timed.images
    wait = timed.wait_seconds * images / timed.images
    return _Timed(images, timed.steps, timed.step_seconds + more * an_image, wait)


def _speed(timed: _Timed, *, loader: float) -> Speed:
    """Of whole steps. A run cannot be faster than its loader, whatever few steps on batches made ahead seem to say."""
    together = max(timed.step_seconds + timed.wait_seconds, timed.images / loader)
    return Speed(
        together=timed.images / together,
        step=timed.images / timed.step_seconds,
        loader=loader,
        data_wait=1 - timed.step_seconds / together,
        images_per_step=timed.images,
        steps=timed.steps,
        limited_by="",
    )


def _loader_rate(settings: PretrainSettings, images: ImageFolder, world: World, *, seconds: float) -> float:
    """Images a second of all workers, whose first batches are left out: they start at one time and count double."""
    workers, few = num_workers(settings), settings.dataset.batch_size
    with _stream(settings, images, world) as stream:
        for _ in range(max(1, workers)):
            next(stream)
        start, number = time.perf_counter(), 0
        while number == 0 or (number < _MOST_LOADED and time.perf_counter() - start < seconds):
            for _ in range(max(1, workers)):
                next(stream)
                number += few
        return number / (time.perf_counter() - start)


def _stream(settings: PretrainSettings, images: ImageFolder, world: World) -> "closing[Stream]":
    """Batches without an end."""
    batches = build_batches(settings, images, world)
    pin_memory = settings.dataset.pin_memory
    return closing(
        build_loader(batches, first_step=0, last_step=10**6, num_workers=num_workers(settings), pin_memory=pin_memory)
    )
