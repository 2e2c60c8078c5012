"""Pixels of the report: from network inputs to uint8, masks drawn in, laid side by side, scaled and encoded."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sltdino.report.web.html import Html, element, image

RGB = NDArray[np.uint8]
"""`[H, W, 3]` RGB."""

_WHITE = 255
_HATCH_LIGHT, _HATCH_DARK, _HATCH_STEP = 150, 105, 4  # grey levels and pixels of the stripes on a masked patch
_JPEG_QUALITY = 88
_DENSITY = 1.5  # pixels kept for each CSS pixel: screens and printers show more than one


class Encoded(NamedTuple):
    """A picture as a file's bytes."""

    data: bytes
    media_type: str


def denormalized(crops: Tensor, *, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.uint8]:
    """Network inputs `[n, 3, H, W]` as the pixels `[n, H, W, 3]` that they were before mean and std."""
    scale, offset = (torch.tensor(list(values)).view(3, 1, 1) for values in (std, mean))
    pixels = (crops.detach().float().cpu() * scale + offset).mul(255).round().clamp(0, 255)
    return pixels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def with_mask(pixels: RGB, mask_N: NDArray[np.bool_], *, patch_size: int) -> RGB:
    """A copy with the masked patches striped in grey: flat grey could be part of a photo."""
    height, width = pixels.shape[:2]
    mask_RC = mask_N.reshape(height // patch_size, width // patch_size)
    hidden_HW = mask_RC.repeat(patch_size, axis=0).repeat(patch_size, axis=1)
    rows, columns = np.indices((height, width))
    stripes = np.where((rows + columns) // _HATCH_STEP % 2, _HATCH_LIGHT, _HATCH_DARK).astype(np.uint8)
    return np.where(hidden_HW[..., None], stripes[..., None], pixels)


def sheet(rows: Sequence[Sequence[RGB]], *, gap: int = 4) -> RGB:
    """Pictures of any sizes in rows on white, each column as wide as its widest, tops aligned."""
    heights = [max((picture.shape[0] for picture in row), default=0) for row in rows]
    num_columns = max((len(row) for row in rows), default=0)
    widths = [max(row[i].shape[1] for row in rows if i < len(row)) for i in range(num_columns)]
    tops = np.cumsum([0, *(height + gap for height in heights)])
    lefts = np.cumsum([0, *(width + gap for width in widths)])
    whole = np.full((max(1, int(tops[-1]) - gap), max(1, int(lefts[-1]) - gap), 3), _WHITE, dtype=np.uint8)
    for top, row in zip(tops, rows, strict=False):
        for left, picture in zip(lefts, row, strict=False):
            whole[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return whole


def shrunk(pixels: RGB, side: int) -> RGB:
    """The picture with its longer side brought down to `side`; never enlarged."""
    height, width = pixels.shape[:2]
    if max(height, width) <= side:
        return pixels
    size = [max(1, round(length * side / max(height, width))) for length in (height, width)]
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    return F.interpolate(planes, size, mode="bicubic", antialias=True)[0].permute(1, 2, 0).contiguous().numpy()


def repeated(pixels: RGB, side: int) -> RGB:
    """A picture of one pixel a patch, each a block of whole pixels, at least `side` high: nothing is interpolated."""
    factor = max(1, -(-side // pixels.shape[0]))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def encoded(pixels: RGB) -> Encoded:
    """The picture as PNG or JPEG, whichever is smaller; its few colours stay exact where that is PNG."""
    image = Image.fromarray(pixels)
    png, jpeg = io.BytesIO(), io.BytesIO()
    image.save(png, format="PNG", optimize=True)
    image.save(jpeg, format="JPEG", quality=_JPEG_QUALITY)
    if len(png.getvalue()) <= len(jpeg.getvalue()):
        return Encoded(png.getvalue(), "image/png")
    return Encoded(jpeg.getvalue(), "image/jpeg")


def picture(pixels: RGB, *, alt: str, side: int) -> Html:
    """A picture on the page, its longer side `side` CSS pixels, with no more data than that needs."""
    height, width = (max(1, round(length * side / max(pixels.shape[:2]))) for length in pixels.shape[:2])
    data, media_type = encoded(shrunk(pixels, round(_DENSITY * side)))
    shown = image(data, alt=alt, width=width, height=height, media_type=media_type)
    return element("div", shown, style=f"width:{width}px")  # else a full table squeezes it
