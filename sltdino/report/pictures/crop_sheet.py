"""One picture of a batch's crops as the student saw them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sltdino.report.pictures.raster import RGB, denormalized, sheet, with_mask
from sltdino.types import Batch


class CropViews(NamedTuple):
    """The crops of one image in their true pixels."""

    global_crops: list[RGB]
    """As drawn: what the teacher sees."""
    masks: list[NDArray[np.bool_]]
    """`[N]` of each global crop: the patches hidden from the student."""
    local_crops: list[RGB]
    patch_size: int

    @property
    def student(self) -> list[RGB]:
        """Everything that the student sees: the global crops, striped where masked, then the local ones."""
        seen = zip(self.global_crops, self.masks, strict=True)
        return [*(with_mask(crop, mask, patch_size=self.patch_size) for crop, mask in seen), *self.local_crops]


def crop_views(
    batch: Batch, *, mean: Sequence[float], std: Sequence[float], patch_size: int, num_images: int
) -> list[CropViews]:
    """The crops of the first images of a batch, un-normalised."""
    batch_size = len(batch.global_crops) // 2

    def of_image(stack: Tensor, image: int) -> Tensor:
        return stack[image::batch_size]  # crop-major

    def pixels(stack: Tensor, image: int) -> list[RGB]:
        return list(denormalized(of_image(stack, image), mean=mean, std=std))

    return [
        CropViews(
            pixels(batch.global_crops, image),
            list(of_image(batch.masks_GN, image).cpu().numpy()),
            pixels(batch.local_crops, image),
            patch_size,
        )
        for image in range(min(num_images, batch_size))
    ]


def crop_sheet(
    batch: Batch, *, mean: Sequence[float], std: Sequence[float], patch_size: int, num_images: int = 8
) -> NDArray[np.uint8]:
    """The crops of the first images of a batch as one picture, for TensorBoard and its like.

    A row for each image: global 1, global 2, then the local crops, all in their true pixels, on white. Patches that the
    mask token hides from the student are striped.

    Args:
        batch: on any device, normalised as the network takes it.
        mean, std: of the normalisation, per channel, of values in 0..1.
        patch_size: of the backbone.
        num_images: rows, at most.

    Returns:
        uint8 `[H, W, 3]`.
    """
    views = crop_views(batch, mean=mean, std=std, patch_size=patch_size, num_images=num_images)
    return sheet([view.student for view in views])
