"""What one look at an image file tells: size, light, sharpness, and hashes by which copies are found."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sltdino.data.checking.perceptual_hash import SIDE, perceptual_hash
from sltdino.data.decode import FORMATS, BadImage, Picture, read_loudly

CONSTANT_SPREAD = 8
"""An image is constant when no channel spans more than this many of 255 levels: that much is JPEG's noise. `embed`
gives no features to the same images."""
BLACK_LEVEL = 16
"""An image is black when 99.5 % of its pixels are at most this bright (of 255)."""
BLURRED_BELOW = 0.03
"""An image is blurred when its sharpness is below this. Photographs of hands have 0.15 and more, of faces 0.05 and more
but for those enlarged from about 40 px, which have 0.01 to 0.05. Gaussian blur of 1.5 % of the width leaves 0.02 to
0.13, of 3 % 0.004 to 0.026: the measure depends on what is shown, so the limit finds what is blurred for sure."""

_SHARPNESS_SIDE = 2 * SIDE
_NOT_BLACK = 0.005  # share of the pixels
_LEAST_VARIANCE = 1.0  # of grey levels; below it there is nothing to be sharp

IMAGE = np.dtype(
    [
        ("bad", np.bool_),
        ("width", np.int32),
        ("height", np.int32),
        ("format", np.uint8),
        ("mode", "S8"),
        ("mean", np.float32, (3,)),
        ("std", np.float32, (3,)),
        ("spread", np.uint8),
        ("bright", np.uint8),
        ("sharpness", np.float32),
        ("digest", np.uint64, (2,)),
        ("hash", np.uint64),
    ]
)
"""What is kept of an image, 72 bytes. `format` counts in `FORMATS`; `mean` and `std` are of each channel, in 0..1;
`spread` is the widest range of a channel and `bright` the level that 99.5 % of the pixels do not exceed, of 255;
`digest` is of the RGB pixels and their shape, so that two files of equal pixels have the same."""


class Measured(NamedTuple):
    """Some images measured."""

    images: NDArray[np.void]
    """`[N]` of `IMAGE`."""
    thumbs_NHW: NDArray[np.uint8]
    """Grey, `[N, 32, 32]`."""
    reasons: dict[int, str]
    """Why the bad ones cannot be read, by place."""


def measure(paths: Sequence[Path]) -> Measured:
    """Decode each image once and measure it. For several threads or processes at a time, inside `decode.quiet`.

    Raises:
        ResourceError: the machine is out of memory or file handles.
    """
    images = np.zeros(len(paths), dtype=IMAGE)
    thumbs = np.zeros((len(paths), SIDE, SIDE), dtype=np.uint8)
    reasons: dict[int, str] = {}
    for place, path in enumerate(paths):
        try:
            picture = read_loudly(path)
        except BadImage as error:
            images[place]["bad"] = True
            reasons[place] = error.reason
            continue
        thumbs[place] = _look(picture, images[place])
    images["hash"] = perceptual_hash(thumbs)
    return Measured(images, thumbs, reasons)


def sharpness(grey_HW: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian over the variance of the grey levels, of an image `[64, 64]`.

    The variance of the Laplacian is the focus measure of J. Pech-Pacheco et al., "Diatom autofocusing in brightfield
    microscopy" (ICPR 2000), LAP4 of S. Pertuz et al. (Pattern Recognition 46, 2013). One size for all, so that it
    tells how much detail a crop has, not how many pixels; over the variance, so that low contrast is not blur.
    """
    grey = grey_HW.astype(np.float32)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * grey[1:-1, 1:-1]).var() / max(grey.var(), _LEAST_VARIANCE))


def _look(picture: Picture, row: np.void) -> NDArray[np.uint8]:
    """Fill the row of one image; its thumbnail."""
    pixels = picture.pixels_HWC
    row["height"], row["width"] = pixels.shape[:2]
    row["format"], row["mode"] = FORMATS.index(picture.format), picture.mode.encode()[:8]
    row["digest"] = _digest(pixels)
    image = Image.fromarray(pixels)
    counts_CV = np.array(image.histogram(), dtype=np.float64).reshape(3, 256) / (pixels.shape[0] * pixels.shape[1])
    levels = np.arange(256) / 255
    mean = counts_CV @ levels
    row["mean"], row["std"] = mean, np.sqrt(np.maximum(counts_CV @ levels**2 - mean**2, 0))
    present = counts_CV > 0
    lowest, highest = present.argmax(axis=1), 255 - present[:, ::-1].argmax(axis=1)
    row["spread"] = (highest - lowest).max()
    row["bright"] = (counts_CV.cumsum(axis=1) >= 1 - _NOT_BLACK).argmax(axis=1).max()
    grey = image.convert("L").resize((_SHARPNESS_SIDE, _SHARPNESS_SIDE), Image.Resampling.BILINEAR)
    row["sharpness"] = sharpness(np.asarray(grey))
    return np.asarray(grey.reduce(_SHARPNESS_SIDE // SIDE))


def _digest(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.uint64]:
    digest = hashlib.blake2b(b"%d %d " % pixels_HWC.shape[:2], digest_size=16)
    digest.update(np.ascontiguousarray(pixels_HWC).data)
    return np.frombuffer(digest.digest(), dtype=np.uint64)
