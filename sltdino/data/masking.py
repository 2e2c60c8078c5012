"""Block-wise masks of BEiT (Bao et al. 2022) and iBOT (Zhou et al. 2022), a function of the step."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sltdino.core.rng import generator

_LOG_ASPECT = math.log(1 / 0.3)
_FAILURES = 10  # blocks in a row that do not fit, before single patches fill up
_SPREAD = 0.2  # DINOv2's 0.1 to 0.5 around 0.3
_LEAST, _MOST = 0.05, 0.95


class Masking(NamedTuple):
    """How much is masked, and in what."""

    ratio: float
    """Mean share of masked patches in a masked crop."""
    probability: float
    """Share of the global crops that are masked; 0 masks none."""
    block: int = 4
    """Fewest patches of a block; BEiT and iBOT use 16 of 196, DINOv2 4."""


def block_mask(
    rng: np.random.Generator, grid_h: int, grid_w: int, num_masked: int, *, block: int = 4
) -> NDArray[np.bool_]:
    """A mask `[grid_h, grid_w]` of exactly `num_masked` patches in blocks of at least `block`, aspect 0.3 to 1/0.3.

    The last block may be smaller, and single patches fill up where no block fits.
    """
    mask = np.zeros((grid_h, grid_w), dtype=np.bool_)
    remaining, failures = num_masked, 0
    while remaining > 0 and failures < _FAILURES:
        area_draw, aspect_draw, top_draw, left_draw = rng.random(4).tolist()
        smallest = min(block, remaining)
        area = smallest + (remaining - smallest) * area_draw
        aspect = math.exp(_LOG_ASPECT * (2 * aspect_draw - 1))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        failures += 1
        if not (0 < height <= grid_h and 0 < width <= grid_w):
            continue
        top, left = int(top_draw * (grid_h - height + 1)), int(left_draw * (grid_w - width + 1))
        place = mask[top : top + height, left : left + width]
        added = height * width - int(place.sum())
        if 0 < added <= remaining:
            place[:] = True
            remaining -= added
            failures = 0
    if remaining:
        free = np.flatnonzero(~mask)
        mask.flat[rng.choice(free, remaining, replace=False)] = True
    return mask


def draw_masks(
    seed: int,
    step: int,
    num_images: int,
    grid: tuple[int, int],
    *,
    masking: Masking,
    images: slice = slice(None),
) -> NDArray[np.bool_]:
    """Masks of the two global crops of each image of a step, crop-major: `[2B, N]` for the B images in `images`.

    Exactly `round(probability * 2 * num_images)` crops of the step are masked, each in at least one patch and, where
    there are two, not in all. Their shares are spread evenly (stratified, as in DINOv2) over `ratio` ± 0.2, less where
    that would leave 0.05..0.95, so their mean is `ratio`.

    Args:
        num_images: images of the whole step, over all processes and micro-batches.
        grid: patches down and across.
        images: the rows wanted; a crop's mask does not depend on it.
    """
    ratio, probability, block = masking
    num_patches = grid[0] * grid[1]
    num_crops = 2 * num_images
    num_masked_crops = round(probability * num_crops)
    rng = generator(seed, "masks", step)
    rank_of_crop = rng.permutation(num_crops)
    jitter = rng.random(num_crops)
    spread = max(0.0, min(_SPREAD, ratio - _LEAST, _MOST - ratio))

    wanted = np.arange(num_crops).reshape(2, num_images)[:, images].reshape(-1)
    masks_GN = np.zeros((len(wanted), num_patches), dtype=np.bool_)
    for row, crop in enumerate(wanted.tolist()):
        rank = int(rank_of_crop[crop])
        if rank >= num_masked_crops:
            continue
        share = ratio + spread * (2 * (rank + jitter[crop]) / num_masked_crops - 1)
        count = min(max(1, round(share * num_patches)), max(1, num_patches - 1))
        masks_GN[row] = block_mask(generator(seed, "mask", step, crop), *grid, count, block=block).reshape(-1)
    return masks_GN
