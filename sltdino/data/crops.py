"""Draw the parameters of every crop of an image, apart from its pixels.

The draws are uniform numbers, the same count for every crop whatever the settings are, so a changed setting changes
only what it is about. `kernels` applies the parameters.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sltdino.core.settings import AugmentationSettings
from sltdino.core.settings_base import known

_TRIES = 10  # boxes drawn before the central fallback, as in torchvision's RandomResizedCrop
_LOG_ASPECT = math.log(4 / 3)
_SIGMA_AT_224 = (0.1, 2.0)  # DINO's Gaussian blur, in pixels of a 224-pixel run
_NUM_UNIFORMS = 2 * _TRIES + 12  # tries (area, aspect), top, left, then the ten of `_colour`
_FIRST_BITS = 26  # of a uniform number's 53: more than any threshold needs; the rest are as good as another draw

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class CropParameters(NamedTuple):
    """How crops are cut and coloured: arrays with the same leading shape, one entry per crop.

    A change that does not happen has its neutral value: factor 1; hue, sigma, light and rotation 0; False.
    """

    boxes: NDArray[np.int64]
    """`[..., 4]`: top, left, height, width in source pixels."""
    flip: Bools
    brightness: Floats
    contrast: Floats
    saturation: Floats
    hue: Floats
    """Shift as a share of the colour circle."""
    grayscale: Bools
    blur_sigma: Floats
    """Standard deviation in pixels of the finished crop."""
    solarize: Bools
    light: Floats
    """`[..., 3]`: slope to the right, slope downwards and curvature; see `kernels.light_factors`."""
    rotation: Floats
    """Degrees, counter-clockwise."""

    def at(self, where: Any) -> "CropParameters":
        """The entries at a numpy index of the leading shape."""
        return CropParameters(*(values[where] for values in self))


class ImageCrops(NamedTuple):
    """Parameters of both kinds of crops, each `[crops of the kind, images]`."""

    global_crops: CropParameters
    local_crops: CropParameters


def draw_uniforms(rng: np.random.Generator, num_crops: int) -> Floats:
    """Everything random about the crops of one image: `[num_crops, K]` numbers in [0, 1), globals first."""
    return rng.random((num_crops, _NUM_UNIFORMS))


def draw_crops(uniforms_BCK: Floats, sizes_B2: NDArray[np.int64], augmentation: AugmentationSettings) -> ImageCrops:
    """Turn uniform numbers into the crop parameters of B images.

    Args:
        uniforms_BCK: `draw_uniforms` of each image, its global crops first.
        sizes_B2: height and width of each image.

    The asymmetry (blur 1.0, 0.1 and 0.5, solarize on the second global crop only) is DINO's, Caron et al. 2021,
    appendix; a probability in the settings applies to all crops instead.
    """
    first_local = augmentation.num_global_crops
    num_local = uniforms_BCK.shape[1] - first_local
    blur, solarize = augmentation.gaussian_blur_prob, augmentation.solarize_prob
    blur_C = np.array((1.0, 0.1) + (0.5,) * num_local) if blur == "auto" else np.full(first_local + num_local, blur)
    solarize_C = np.array((0.0, 0.2) + (0.0,) * num_local) if solarize == "dino" else np.full(blur_C.shape, solarize)
    scales_C2 = np.array((augmentation.global_crop_scale,) * first_local + (augmentation.local_crop_scale,) * num_local)

    uniforms_KCB = uniforms_BCK.transpose(2, 1, 0)
    boxes = resized_crop_boxes(uniforms_KCB[: 2 * _TRIES + 2], sizes_B2, scales_C2)
    drawn = _colour(uniforms_KCB[2 * _TRIES + 2 :], augmentation, blur_C[:, None], solarize_C[:, None])
    crops = CropParameters(boxes, *drawn)
    return ImageCrops(crops.at(slice(first_local)), crops.at(slice(first_local, None)))


def resized_crop_boxes(uniforms_KCB: Floats, sizes_B2: NDArray[np.int64], scales_C2: Floats) -> NDArray[np.int64]:
    """Boxes `[C, B, 4]` of a share of the image's area drawn from `scales_C2`, aspect ratio log-uniform in 3/4..4/3.

    Ten tries, then the largest central box of a legal aspect ratio: torchvision's RandomResizedCrop.
    """
    heights, widths = sizes_B2[:, 0], sizes_B2[:, 1]
    areas_tries, aspect_tries = uniforms_KCB[:_TRIES], uniforms_KCB[_TRIES : 2 * _TRIES]
    low, high = scales_C2[:, 0, None], scales_C2[:, 1, None]
    areas = heights * widths * (low + (high - low) * areas_tries)
    aspects = np.exp(_LOG_ASPECT * (2 * aspect_tries - 1))
    tried_widths = np.rint(np.sqrt(areas * aspects)).astype(np.int64)
    tried_heights = np.rint(np.sqrt(areas / aspects)).astype(np.int64)
    fits = (tried_widths > 0) & (tried_widths <= widths) & (tried_heights > 0) & (tried_heights <= heights)

    first = fits.argmax(0)[None]
    found = fits.any(0)
    fallback_widths = np.minimum(widths, np.maximum(1, np.rint(heights * (4 / 3)))).astype(np.int64)
    fallback_heights = np.minimum(heights, np.maximum(1, np.rint(widths * (4 / 3)))).astype(np.int64)
    crop_widths = np.where(found, np.take_along_axis(tried_widths, first, 0)[0], fallback_widths)
    crop_heights = np.where(found, np.take_along_axis(tried_heights, first, 0)[0], fallback_heights)
    free_heights, free_widths = heights - crop_heights, widths - crop_widths
    tops = np.where(found, uniforms_KCB[-2] * (free_heights + 1), free_heights // 2).astype(np.int64)
    lefts = np.where(found, uniforms_KCB[-1] * (free_widths + 1), free_widths // 2).astype(np.int64)
    return np.stack((tops, lefts, crop_heights, crop_widths), axis=-1)


def _colour(
    uniforms_KCB: Floats, augmentation: AugmentationSettings, blur_C1: Floats, solarize_C1: Floats
) -> tuple[Bools, Floats, Floats, Floats, Floats, Bools, Floats, Bools, Floats, Floats]:
    """The fields of CropParameters after the box, in their order."""
    flip, jitter, brightness, contrast, saturation, hue, gray, blur, sigma, solarize = uniforms_KCB
    jittered = jitter < augmentation.color_jitter_prob

    def factor(uniform: Floats, strength: float) -> Floats:
        low, high = max(0.0, 1 - strength), 1 + strength
        return np.where(jittered, low + (high - low) * uniform, 1.0)

    # numbers that only a threshold reads have bits to spare: a generator of its own would take a fifth of the time of
    # two small crops, and more draws from this one would move those of every run
    light = np.stack((flip, gray, solarize), axis=-1) * 2**_FIRST_BITS % 1
    rotation = jitter * 2**_FIRST_BITS % 1
    low, high = (sigma_at_224 * augmentation.image_size / 224 for sigma_at_224 in _SIGMA_AT_224)
    return (
        flip < augmentation.hflip_prob,
        factor(brightness, augmentation.brightness),
        factor(contrast, augmentation.contrast),
        factor(saturation, augmentation.saturation),
        np.where(jittered, augmentation.hue * (2 * hue - 1), 0.0),
        gray < augmentation.grayscale_prob,
        np.where(blur < blur_C1, low + (high - low) * sigma, 0.0),
        solarize < solarize_C1,
        known(augmentation.light) * (2 * light - 1),
        known(augmentation.rotation) * (2 * rotation - 1),
    )
