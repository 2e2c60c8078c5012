"""Batches as a pure function of (seed, step): any number of workers or processes gives the same ones."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sltdino.core.distributed import World
from sltdino.core.rng import fold_in, generator
from sltdino.core.settings import AugmentationSettings, DatasetSettings
from sltdino.core.settings_base import known
from sltdino.data.cache import ImageCache, free_memory
from sltdino.data.crops import CropParameters, draw_crops, draw_uniforms
from sltdino.data.decode import BadImage, decode
from sltdino.data.image_folder import ImageFolder
from sltdino.data.kernels import Image, apply_crops, one_thread
from sltdino.data.masking import Masking, draw_masks
from sltdino.errors import DataError
from sltdino.types import Batch

_REPLACEMENTS = 20  # images tried in the place of a bad one
_GROUP = 8  # images decoded before they are cropped together: bounds the memory that big photographs take
_CACHE_SHARE = 0.8  # of the free memory, for decoded pixels


class LoadedBatch(NamedTuple):
    """What this process needs for one step."""

    batches: tuple[Batch, ...]
    """One for each forward pass of the step (gradient accumulation)."""
    indices: Tensor
    """`[images of this process]`: which image was used, in the order of the batches."""
    bad: tuple[tuple[str, str], ...]
    """(path, reason) of every image that could not be used and was replaced."""


class Sample(NamedTuple):
    """One place in the stream of images."""

    epoch: int
    repeat: int
    """Which pass over the data within the epoch (pseudo-epochs)."""
    image: int


def bytes_per_step(augmentation: AugmentationSettings, num_images: int) -> int:
    """Size of the float32 crops of so many images, which is nearly all of an item."""
    crops, local_size = augmentation, known(augmentation.local_crop_size)
    pixels = crops.num_global_crops * crops.image_size**2 + known(crops.num_local_crops) * local_size**2
    return num_images * pixels * 12


class BatchBuilder(Dataset[LoadedBatch]):
    """Makes the batches of a step from image files. Item `step` depends on nothing but the arguments and `step`.

    Args:
        masking: how much of the global crops is masked.
        pseudo_epochs: passes over the data that make one epoch.
        accumulate_steps: batches of one step.
        world: this process's place; all processes together use `images_per_step` images a step.

    Raises:
        DataError: fewer images than one step needs.
        ResourceError: `dataset.cache` is `ram` and the pixels do not fit.
    """

    def __init__(
        self,
        images: ImageFolder,
        dataset: DatasetSettings,
        augmentation: AugmentationSettings,
        *,
        seed: int,
        patch_size: int,
        masking: Masking,
        pseudo_epochs: int,
        accumulate_steps: int,
        world: World,
    ) -> None:
        self.images_per_step = dataset.batch_size * accumulate_steps * world.size
        if len(images) < self.images_per_step:
            raise _too_few(len(images), self.images_per_step, largest=len(images) // (accumulate_steps * world.size))
        self.steps_per_epoch = len(images) * pseudo_epochs // self.images_per_step
        self._images, self._shuffle, self._batch_size = images, dataset.shuffle, dataset.batch_size
        self._augmentation, self._local_size = augmentation, known(augmentation.local_crop_size)
        self._seed, self._accumulate_steps, self._world = seed, accumulate_steps, world
        self._masking = masking
        self._grid = (augmentation.image_size // patch_size,) * 2
        self._orders: dict[tuple[int, int], NDArray[np.int64]] = {}
        self._at_least = _side_needed(augmentation, self._local_size)
        self._read: Callable[[int], Image] = self._decode
        if dataset.cache == "ram":
            cache = ImageCache.fill(images, max_bytes=int(_CACHE_SHARE * free_memory()), at_least=self._at_least)
            self._read = cache.read

    @property
    def bytes_per_step(self) -> int:
        """Size of one item, nearly."""
        return bytes_per_step(self._augmentation, self._batch_size * self._accumulate_steps)

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __getitem__(self, step: int) -> LoadedBatch:
        """The batches of global step `step`, which may lie in any epoch.

        Raises:
            DataError: a bad image, and twenty others tried in its place.
        """
        with one_thread():
            return self._build(step)

    def samples(self, step: int) -> list[Sample]:
        """The images of all processes in a step: rank r of W has the r-th of W parts of each of its batches."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        first = step_in_epoch * self.images_per_step
        places = (divmod(place, len(self._images)) for place in range(first, first + self.images_per_step))
        return [Sample(epoch, repeat, int(self._order(epoch, repeat)[place])) for repeat, place in places]

    def _order(self, epoch: int, repeat: int) -> NDArray[np.int64]:
        if not self._shuffle:
            epoch = repeat = 0
        if (epoch, repeat) not in self._orders:
            num_images = len(self._images)
            order = generator(self._seed, "order", epoch, repeat).permutation(num_images)
            kept = dict(list(self._orders.items())[-1:])  # a step can straddle two passes, never three
            self._orders = {**kept, (epoch, repeat): order if self._shuffle else np.arange(num_images)}
        return self._orders[epoch, repeat]

    def _build(self, step: int) -> LoadedBatch:
        crops, count, passes = self._augmentation, self._batch_size, self._accumulate_steps
        # one storage for each kind: a tensor a worker sends costs a file descriptor for each storage
        global_crops = torch.empty(passes, crops.num_global_crops * count, 3, crops.image_size, crops.image_size)
        local_crops = torch.empty(passes, known(crops.num_local_crops) * count, 3, self._local_size, self._local_size)
        masks = torch.empty(passes, crops.num_global_crops * count, math.prod(self._grid), dtype=torch.bool)
        indices, bad = [], list[tuple[str, str]]()
        samples = self.samples(step)
        for number in range(passes):
            mine = self._slice(number)
            for start in range(0, count, _GROUP):
                group = samples[mine][start : start + _GROUP]
                indices += self._fill(group, start, global_crops[number], local_crops[number], bad)
            masks[number] = self._masks(step, mine)
        batches = tuple(map(Batch, global_crops, local_crops, masks))
        return LoadedBatch(batches, torch.tensor(indices), tuple(bad))

    def _slice(self, number: int) -> slice:
        start = (number * self._world.size + self._world.rank) * self._batch_size
        return slice(start, start + self._batch_size)

    def _masks(self, step: int, mine: slice) -> Tensor:
        masks = draw_masks(self._seed, step, self.images_per_step, self._grid, masking=self._masking, images=mine)
        return torch.from_numpy(masks)

    def _fill(
        self, samples: list[Sample], start: int, global_crops: Tensor, local_crops: Tensor, bad: list[tuple[str, str]]
    ) -> list[int]:
        """Write the crops of a group of images, whose first is number `start` of its batch; return the images used."""
        indices, images = zip(*(self._usable(sample, bad) for sample in samples), strict=True)
        crops = self._augmentation
        num_crops = crops.num_global_crops + known(crops.num_local_crops)
        draws = [
            draw_uniforms(generator(self._seed, "crops", *sample), num_crops) for sample in samples
        ]  # of the sample, not of a replacement
        sizes_B2 = np.array([image.shape[:2] for image in images])
        drawn = draw_crops(np.stack(draws), sizes_B2, crops)
        self._apply(images, drawn.global_crops, start, global_crops)
        self._apply(images, drawn.local_crops, start, local_crops)
        return list(indices)

    def _apply(self, images: tuple[Image, ...], params: CropParameters, start: int, out: Tensor) -> None:
        mean, std = self._augmentation.mean, self._augmentation.std
        for crop in range(len(params.hue)):
            first = crop * self._batch_size + start
            rows = out[first : first + len(images)]
            apply_crops(images, params.at(crop), size=out.shape[-1], mean=mean, std=std, out=rows)

    def _decode(self, index: int) -> Image:
        return decode(self._images.path(index), at_least=self._at_least)

    def _usable(self, sample: Sample, bad: list[tuple[str, str]]) -> tuple[int, Image]:
        """The sample's image, or the first usable one of a fixed chain of others; bad ones are appended to `bad`."""
        tried = []
        for attempt in range(_REPLACEMENTS + 1):
            index = sample.image
            if attempt:
                index = fold_in(self._seed, "replacement", *sample, attempt) % len(self._images)
            try:
                image = self._read(index)
            except BadImage as error:
                tried.append((str(self._images.path(index)), error.reason))
                continue
            bad += tried
            return index, image
        path, reason = tried[0]
        raise DataError(
            f"{path}: {reason}; {_REPLACEMENTS} images tried in its place are bad too, the last {tried[-1][0]}: "
            f"{tried[-1][1]}; look at these files"
        )


def _side_needed(augmentation: AugmentationSettings, local_size: int) -> int:
    """How long a side an image needs so that its smallest crops are not enlarged: what `decode` may scale down to."""
    sides = (
        size / math.sqrt(scale[0] * 3 / 4)
        for size, scale in (
            (augmentation.image_size, augmentation.global_crop_scale), (local_size, augmentation.local_crop_scale)
        )
    )  # fmt: skip
    return math.ceil(max(sides))


def _too_few(num_images: int, images_per_step: int, *, largest: int) -> DataError:
    """Of fewer images than a step takes; `largest` is the largest batch that they make."""
    have = "1 image is" if num_images == 1 else f"{num_images:,} images are"
    if largest == 0:
        advice = "add images, or accumulate fewer steps"
    elif largest == 1:
        advice = "add images; a --batch-size of 1 needs --no-head-batch-norm too"
    else:
        advice = f"use --batch-size {largest}{' or less' if largest > 2 else ''}, or add images"
    return DataError(f"{have} fewer than the {images_per_step:,} of one step: {advice}")
