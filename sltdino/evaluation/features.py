"""How an image becomes a network's input, and the features that its pixels alone are."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sltdino.data.decode import BadImage, decode

_PIXEL_SIDE = 32  # of the raw-pixel baseline: at 224 px, the largest bank would take 6 GB


class Pixels(NamedTuple):
    """How an image becomes a network's input."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def load(self, path: Path) -> Tensor:
        """The whole image, resized to `[3, size, size]` and normalised.

        Raises:
            BadImage: it cannot be decoded.
        """
        return self.prepare(decode(path))

    def prepare(self, pixels_HWC: NDArray[np.uint8]) -> Tensor:
        """`load` for an image that is decoded already, `[H, W, 3]`."""
        pixels = torch.from_numpy(pixels_HWC).permute(2, 0, 1)[None]
        resized = F.interpolate(pixels, size=(self.size, self.size), mode="bicubic", antialias=True)
        mean, std = torch.tensor(self.mean).view(3, 1, 1), torch.tensor(self.std).view(3, 1, 1)
        return (resized[0].float() / 255 - mean) / std


def raw_pixels(images: Tensor) -> Tensor:
    """The baseline's features of square images `[B, 3, S, S]`: their pixels, at 32 px a side at most."""
    return F.adaptive_avg_pool2d(images, min(images.shape[-1], _PIXEL_SIDE)).flatten(1)


def readable_batches(
    paths: Sequence[Path], pixels: Pixels, *, size: int, on_bad: Callable[[Path, str], None]
) -> Iterator[tuple[list[int], Tensor]]:
    """The images that can be read, `[B, 3, S, S]` with their places in `paths`, at most `size` at once.

    Args:
        on_bad: called with the path and reason of an image that cannot be read.
    """
    rows, images = list[int](), list[Tensor]()
    for row, path in enumerate(paths):
        try:
            images.append(pixels.load(path))
            rows.append(row)
        except BadImage as bad:
            on_bad(path, bad.reason)
        if len(rows) == size:
            yield rows, torch.stack(images)
            rows, images = [], []
    if rows:
        yield rows, torch.stack(images)
