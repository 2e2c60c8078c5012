"""Apply crop parameters to pixels on the CPU: a few microseconds of overhead and no torchvision.

Order: resample, turn, flip, blur, clamp; light; one affine colour transform; clamp; solarize; normalise. Everything is
per crop, so neither the batch nor the process a crop is made in changes its bits; `one_thread` takes the number of
threads out too.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sltdino.data.crops import CropParameters

Image = NDArray[np.uint8] | Tensor
"""`[H, W, 3]` uint8 RGB."""

_GREY = np.array((0.299, 0.587, 0.114))  # ITU-R BT.601, as Pillow's "L" and the Y of YIQ
_TO_YIQ = np.array((_GREY, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)))  # NTSC; its rows I and Y sum to 0
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
_SOLARIZE_FROM = 0.5  # Pillow's default threshold, 128 of 255
_CHUNK_BYTES = 2**22  # float32 pixels worked on together: about 7 crops of 224 pixels
_LARGE_PLANE = 128 * 128  # pixels; three of them at once leave the cache and are mapped anew every time


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: bits do not depend on how many there are, and a loader worker has one anyway."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def apply_crops(
    images: Sequence[Image],
    params: CropParameters,
    *,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    out: Tensor | None = None,
) -> Tensor:
    """Cut, resample, blur, colour and normalise one crop of each image.

    Args:
        images: n images; the same one may appear several times.
        params: n crops, one of each image.
        size: side of the crops.
        mean, std: per channel, of values in 0..1.
        out: contiguous float32 `[n, 3, size, size]` to write to.

    Returns:
        float32 `[n, 3, size, size]`: `out`, or a new tensor.
    """
    crops = torch.empty(len(images), 3, size, size) if out is None else out
    chunk = max(1, _CHUNK_BYTES // (12 * size * size))
    for start in range(0, len(images), chunk):
        rows = slice(start, start + chunk)
        _apply(images[rows], params.at(rows), crops[rows], mean, std)
    return crops


def _apply(
    images: Sequence[Image], params: CropParameters, out: Tensor, mean: Sequence[float], std: Sequence[float]
) -> None:
    pixels = resample(images, params.boxes, out.shape[-1]).float()
    if len(rows := np.flatnonzero(params.rotation)):
        pixels[rows] = turned(pixels[rows], params.rotation[rows])
    for row in np.flatnonzero(params.flip):
        pixels[row] = pixels[row].flip(-1)
    for row in np.flatnonzero(params.blur_sigma):
        pixels[row] = torch.from_numpy(gaussian_blur(pixels[row].numpy(), float(params.blur_sigma[row])))
    if params.light.any():
        pixels *= light_factors(params.light, out.shape[-1])[:, None]

    flat = pixels.flatten(2)
    transforms = torch.from_numpy(colour_transforms(params, flat.mean(2).numpy() / 255))
    matrices, offsets = (transforms[:, :, :3] / 255).float(), transforms[:, :, 3:].float()
    coloured = out.view(len(images), 3, -1)
    torch.baddbmm(offsets, matrices, flat, out=coloured)
    coloured.clamp_(0, 1)
    for row in np.flatnonzero(params.solarize):
        coloured[row] = torch.where(coloured[row] < _SOLARIZE_FROM, coloured[row], 1 - coloured[row])
    for channel in range(3):  # a scalar each: broadcasting over a dimension of 3 is not vectorised
        coloured[:, channel].sub_(mean[channel]).div_(std[channel])


def resample(images: Sequence[Image], boxes_N4: NDArray[np.int64], size: int) -> Tensor:
    """Cut each box and scale it to `size`: uint8 `[n, 3, size, size]`, bicubic and antialiased, as Pillow's
    `crop(box).resize((size, size), BICUBIC)` within 2/255."""
    resampled = torch.empty(len(images), 3, size, size, dtype=torch.uint8)
    for row, (image, (top, left, height, width)) in enumerate(zip(images, boxes_N4.tolist(), strict=True)):
        pixels = image if isinstance(image, Tensor) else torch.from_numpy(image)
        box = pixels[top : top + height, left : left + width].permute(2, 0, 1)[None]
        resampled[row] = functional.interpolate(box, (size, size), mode="bicubic", antialias=True)[0]
    return resampled


def turned(pixels_N3SS: Tensor, degrees_N: NDArray[np.float64]) -> Tensor:
    """Square crops, each turned counter-clockwise about its middle, bilinear, mirrored at its edges."""
    angles = np.radians(degrees_N)
    cos, sin, zero = np.cos(angles), np.sin(angles), np.zeros_like(angles)
    # from places in the turned crop, across and down, to those they come from
    turns_N23 = torch.from_numpy(np.stack((cos, -sin, zero, sin, cos, zero), axis=1).reshape(-1, 2, 3)).float()
    grid_NSS2 = functional.affine_grid(turns_N23, list(pixels_N3SS.shape), align_corners=False)
    return functional.grid_sample(pixels_N3SS, grid_NSS2, padding_mode="reflection", align_corners=False)


def gaussian_blur(pixels_3HW: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Blur with a Gaussian of `sigma` pixels cut at 3 sigma; the edges are repeated outwards.

    Shifted sums over whole planes, transposed between the two passes so that both run along contiguous memory: with
    these radii faster on one core than torch's convolution (3 times) and than band matrices.
    """
    if len(pixels_3HW) > 1 and pixels_3HW[0].size > _LARGE_PLANE:
        return np.concatenate([gaussian_blur(plane, sigma) for plane in np.split(pixels_3HW, len(pixels_3HW))])
    radius = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    weights = (weights / (2 * weights.sum() - weights[0])).astype(np.float32)
    pixels = pixels_3HW
    for _ in range(2):
        channels, height, width = pixels.shape
        padded = np.empty((channels, height + 2 * radius, width), np.float32)
        padded[:, radius : radius + height] = pixels
        padded[:, :radius] = pixels[:, :1]
        padded[:, radius + height :] = pixels[:, -1:]
        blurred = padded[:, radius : radius + height] * weights[0]
        pair = np.empty_like(blurred)
        for shift in range(1, radius + 1):
            before = padded[:, radius - shift : radius - shift + height]
            np.add(before, padded[:, radius + shift : radius + shift + height], out=pair)
            pair *= weights[shift]
            blurred += pair
        pixels = blurred.transpose(0, 2, 1)
    return pixels


def light_factors(light_N3: NDArray[np.float64], size: int) -> Tensor:
    """What uneven light multiplies the pixels of each crop by: float32 `[n, size, size]`, 1 where there is no light.

    `1 + a·x + b·y + c·(x² + y² - 2/3)` with the pixel's middle at x, y in -1..1: 2/3 is the mean of x² + y², so that
    the mean light stays. It is above 0 for a, b and c within ±0.3; the corners have 1 ± a ± b + 4/3 c. A scene is lit
    before a camera changes its colours, so contrast turns about the mean of the lit crop.
    """
    places = (2 * np.arange(size) + 1) / size - 1
    across, down, curvature = light_N3.T[:, :, None]
    rows = 1 + down * places + curvature * (places**2 - 2 / 3)
    columns = across * places + curvature * places**2
    return torch.from_numpy(rows).float()[:, :, None] + torch.from_numpy(columns).float()[:, None, :]


def colour_transforms(params: CropParameters, means_N3: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compose brightness, contrast, saturation, grayscale and hue into one affine map per crop: `[n, 3, 4]`.

    Values are in 0..1 and `means_N3` are the crop's own channel means, about whose grey contrast turns. Hue is a
    rotation in YIQ: it keeps grey levels and is linear, unlike Pillow's in HSV.
    """
    num_crops = len(params.hue)
    brightness, contrast = params.brightness, params.contrast
    saturation = np.where(params.grayscale, 0.0, params.saturation)[:, None, None]
    angle = 2 * np.pi * params.hue
    rotation = np.zeros((num_crops, 3, 3))
    rotation[:, 0, 0] = 1
    rotation[:, 1, 1] = rotation[:, 2, 2] = np.cos(angle)
    rotation[:, 1, 2], rotation[:, 2, 1] = -np.sin(angle), np.sin(angle)

    colour = saturation * np.eye(3) + (1 - saturation) * np.tile(_GREY, (3, 1))
    linear = (_FROM_YIQ @ rotation @ _TO_YIQ) @ colour
    transforms = np.empty((num_crops, 3, 4))
    transforms[:, :, :3] = (brightness * contrast)[:, None, None] * linear
    transforms[:, :, 3] = ((1 - contrast) * brightness * (means_N3 @ _GREY))[:, None]
    untouched = (brightness == 1) & (contrast == 1) & (params.hue == 0) & (saturation[:, 0, 0] == 1)
    transforms[untouched] = np.eye(3, 4)  # exactly: not through a matrix and its inverse
    return transforms
