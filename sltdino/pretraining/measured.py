"""What can only be found out by trying: whether the images decode, and how fast the loader and the step are here."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

import numpy as np

from sltdino.core.auto import plan
from sltdino.core.distributed import World
from sltdino.core.memory import keep_freed_memory
from sltdino.core.rng import generator
from sltdino.core.settings import PretrainSettings
from sltdino.data.batches import BatchBuilder
from sltdino.data.decode import BadImage, decode
from sltdino.data.image_folder import ImageFolder
from sltdino.data.loader import Stream, build_loader
from sltdino.pretraining.loop import num_workers, to_device
from sltdino.pretraining.session import build_batches, build_model, build_trainer
from sltdino.training.trainer import Trainer

_SMALLEST_SAMPLE, _SAMPLE = 32, 256  # images decoded
_FEWEST_STEPS, _MOST_STEPS = 2, 50
_FIRST, _LOADER, _STEPS = 0.2, 0.15, 0.55
"""Shares of the time: to learn what a step costs, for the loader alone, and for both together."""
_LEAST_STEPS = 4  # one to warm up and three to time, or the batch is made smaller
_NEARLY = 0.7  # a whole step that is a little too long is timed all the same
_FEW_IMAGES, _MORE_IMAGES = 2, 8  # in the first steps; batch norm needs two
_MOST_LOADED = 256  # images, to know the loader
_LOADER_BATCH = 8  # images are decoded in groups of so many


class Sample(NamedTuple):
    """A random sample of the images, decoded."""

    tried: int
    bad: dict[str, int]
    """How many images cannot be read, by reason."""
    first_bad: str
    """One of them; empty when there is none."""
    sides: tuple[tuple[int, int], ...]
    """Width and height of the image with the fewest pixels, of the middle one and of the one with the most."""
    mean_pixels: float

    @property
    def num_bad(self) -> int:
        """Images that cannot be read."""
        return sum(self.bad.values())


class Speed(NamedTuple):
    """Images a second, on real batches of this machine."""

    together: float
    """The real step on the real loader: what a run has."""
    step: float
    """The step alone, while the loader works beside it."""
    loader: float
    """The loader alone."""
    data_wait: float
    """Share of the time that the step waits for data."""
    images_per_step: int
    steps: int
    """How many steps were timed."""
    is_whole_step: bool
    """False where a step of the run would have taken too long, so that fewer images a step were measured."""


def decode_sample(images: ImageFolder, *, seed: int, seconds: float) -> Sample:
    """Decode a random sample of the images in full, for `seconds` at the most."""
    deadline = time.monotonic() + seconds
    bad, sizes, first_bad, tried = Counter[str](), list[tuple[int, int]](), "", 0
    for index in generator(seed, "dry run").permutation(len(images))[:_SAMPLE].tolist():
        tried += 1
        try:
            height, width = decode(images.path(index)).shape[:2]
            sizes.append((width, height))
        except BadImage as error:
            bad[error.reason] += 1
            first_bad = first_bad or str(images.path(index))
        if tried >= _SMALLEST_SAMPLE and time.monotonic() > deadline:
            break
    sizes.sort(key=lambda side: side[0] * side[1])
    sides = (sizes[0], sizes[len(sizes) // 2], sizes[-1]) if sizes else ()
    mean = float(np.mean([width * height for width, height in sizes])) if sizes else 0.0
    return Sample(tried, dict(bad.most_common()), first_bad, sides, mean)


def measure_speed(
    settings: PretrainSettings, images: ImageFolder, world: World, *, seconds: float, fits: Callable[[int], bool]
) -> Speed:
    """Time the loader and a few steps of fresh networks, within about `seconds`.

    Args:
        fits: whether a step of so many images fits into the memory; two do.

    Raises:
        DataError, ResourceError: as the loader. DivergedError: as the step.
    """
    keep_freed_memory()
    batch_size, passes = settings.dataset.batch_size, settings.optimizer.accumulate_steps
    steps = plan(settings, num_images=len(images), world_size=world.size)
    once = trial(settings, batch_size)
    trainer = build_trainer(build_model(once), once, steps, world)
    affordable = _affordable_images(trainer, settings, images, world, seconds=seconds)
    loader = _loader_rate(trial(settings, min(_LOADER_BATCH, batch_size)), images, world, seconds=_LOADER * seconds)
    seconds *= _STEPS
    if affordable >= _NEARLY * batch_size * passes and fits(batch_size):
        return _together(trainer, trial(settings, batch_size, passes), images, world, seconds=seconds, loader=loader)
    number = max(min(_FEW_IMAGES, len(images)), min(affordable, batch_size))
    while number > _FEW_IMAGES and not fits(number):
        number = max(_FEW_IMAGES, number // 2)
    if affordable < _FEW_IMAGES:
        seconds = 0.0
    speed = _together(trainer, trial(settings, number), images, world, seconds=seconds, loader=loader)
    return speed._replace(is_whole_step=number == batch_size * passes)


def trial(settings: PretrainSettings, batch_size: int, passes: int = 1) -> PretrainSettings:
    """As `settings`, with so many images a pass, and without what takes time at the start of a run only."""
    changes = {
        "dataset": {"batch_size": batch_size, "cache": "none"},
        "optimizer": {"accumulate_steps": passes},
        "vit": {"patch_init": "random"},
    }
    return settings.model_copy(
        update={section: getattr(settings, section).model_copy(update=values) for section, values in changes.items()}
    )


def _affordable_images(
    trainer: Trainer, settings: PretrainSettings, images: ImageFolder, world: World, *, seconds: float
) -> int:
    """How many images a step may have, so that enough steps fit into the time: by steps of two and of eight images."""
    share, number = _FIRST * seconds / 2, min(_FEW_IMAGES, len(images))
    few = _step_seconds(trainer, build_batches(trial(settings, number), images, world), world, seconds=share)
    an_image, fixed = few / number, 0.0
    if len(images) >= _MORE_IMAGES and an_image * _MORE_IMAGES < share:
        more = _step_seconds(trainer, build_batches(trial(settings, _MORE_IMAGES), images, world), world, seconds=share)
        an_image = max((more - few) / (_MORE_IMAGES - number), 0.1 * more / _MORE_IMAGES)  # noise may invert them
        fixed = max(0.0, more - _MORE_IMAGES * an_image)
    return int((_STEPS * seconds / _LEAST_STEPS - fixed) / an_image)


def _step_seconds(trainer: Trainer, batches: BatchBuilder, world: World, *, seconds: float) -> float:
    """Of the step alone, the best of three; the first step warms up and does not count if there is time for another."""
    batch = to_device(batches[0], world.device)
    taken, end = float("inf"), time.perf_counter() + seconds
    for number in range(4):
        start = time.perf_counter()
        trainer.step(batch)
        now = time.perf_counter()
        taken = now - start if number < 2 else min(taken, now - start)
        if now > end:
            break
    return taken


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


def _together(
    trainer: Trainer, settings: PretrainSettings, images: ImageFolder, world: World, *, seconds: float, loader: float
) -> Speed:
    """Both as in a run. What the workers made before the first step counts for nothing, as far as the time allows.

    With no `seconds`, where even a step of two images takes long, one step is timed and none is spent on warming up.
    """
    ready, warm, steps, waited = 2 * num_workers(settings) + 1, 0, 0, 0.0
    fewest = _FEWEST_STEPS if seconds else 1
    begun = time.perf_counter()
    with _stream(settings, images, world) as stream:
        loaded = next(stream)  # to start the workers is no part of a step's time
        while warm < ready and ((seconds and not warm) or time.perf_counter() - begun < seconds / 3):
            trainer.step(to_device(loaded, world.device))
            loaded = next(stream)
            warm += 1
        begun = before = time.perf_counter()
        while steps < fewest or (steps < _MOST_STEPS and before - begun < seconds * 2 / 3):
            trainer.step(to_device(loaded, world.device))  # it waits for the device
            asked = time.perf_counter()
            loaded = next(stream)
            before = time.perf_counter()
            waited += before - asked
            steps += 1
    elapsed = max(before - begun, 1e-9)
    a_step = settings.dataset.batch_size * settings.optimizer.accumulate_steps
    return Speed(
        together=steps * a_step / elapsed,
        step=steps * a_step / max(elapsed - waited, 1e-9),
        loader=loader,
        data_wait=waited / elapsed,
        images_per_step=a_step,
        steps=steps,
        is_whole_step=True,
    )


def _stream(settings: PretrainSettings, images: ImageFolder, world: World) -> "closing[Stream]":
    """Batches without an end."""
    batches = build_batches(settings, images, world)
    pin_memory = settings.dataset.pin_memory
    return closing(
        build_loader(batches, first_step=0, last_step=10**6, num_workers=num_workers(settings), pin_memory=pin_memory)
    )
