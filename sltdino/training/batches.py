"""What makes the batches of a run."""

from typing import NamedTuple

from sltdino.core.distributed import World
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_base import known
from sltdino.data.batches import BatchBuilder
from sltdino.data.image_folder import ImageFolder
from sltdino.data.masking import Masking
from sltdino.errors import DataError
from sltdino.objectives.algorithms import masks_patches
from sltdino.types import Batch


class CroppedImage(NamedTuple):
    """One image of a step."""

    number: int
    """Of the image in its folder's list; of its replacement where it cannot be read."""
    batch: Batch
    """The crops and masks of this image alone."""


def build_batches(settings: PretrainSettings, images: ImageFolder, world: World) -> BatchBuilder:
    """What makes the batches of a run whose settings are settled.

    Raises:
        DataError, ResourceError: as `BatchBuilder`.
    """
    return BatchBuilder(
        images,
        settings.dataset,
        settings.augmentation,
        seed=settings.seed,
        patch_size=known(settings.vit.patch_size),
        masking=Masking(
            settings.loss.patch_mask_ratio,
            settings.loss.patch_mask_prob if masks_patches(settings.algorithm) else 0.0,
            settings.loss.patch_mask_block,
        ),
        pseudo_epochs=settings.pseudo_epochs,
        accumulate_steps=settings.optimizer.accumulate_steps,
        world=world,
    )


def first_crops(settings: PretrainSettings, images: ImageFolder, *, count: int) -> list[CroppedImage]:
    """The first images of the first step of a run in one process, without making its other images.

    Image number n of a step is what process n would make if every process had a batch of one.

    Raises:
        DataError: fewer images than one step needs, or hardly any that can be read.
    """
    images_per_step = settings.dataset.batch_size * settings.optimizer.accumulate_steps
    if len(images) < images_per_step:
        where = ", ".join(map(str, settings.train_dir))
        raise DataError(f"{where}: {len(images):,} images, and a step of the run takes {images_per_step:,}; add images")
    alone = settings.model_copy(
        update={
            "dataset": settings.dataset.model_copy(update={"batch_size": 1, "cache": "none"}),
            "optimizer": settings.optimizer.model_copy(update={"accumulate_steps": 1}),
        }
    )
    cropped = []
    for number in range(min(count, images_per_step)):
        loaded = build_batches(alone, images, World(rank=number, size=images_per_step))[0]
        cropped.append(CroppedImage(int(loaded.indices[0]), loaded.batches[0]))
    return cropped
