"""Block-wise masks: exact counts, the promised mean, blocks and not confetti."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from sltdino.core.rng import generator
from sltdino.data.masking import Masking, block_mask, draw_masks


@pytest.mark.parametrize("grid", [(14, 14), (7, 7), (3, 3), (2, 2), (1, 1), (4, 9)])
def test_exactly_as_many_patches_as_asked(grid: tuple[int, int]) -> None:
    for count in range(grid[0] * grid[1] + 1):
        mask = block_mask(generator(0, count), *grid, count)
        assert mask.shape == grid
        assert mask.sum() == count


def test_masks_are_blocks() -> None:
    """Masked patches have far more masked neighbours than the same number of patches at random."""

    def neighbours(mask: np.ndarray) -> float:
        padded = np.pad(mask, 1)
        around = padded[:-2, 1:-1].astype(int) + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
        return float(around[mask].mean())

    rng = np.random.default_rng(0)
    ours, random = [], []
    for seed in range(200):
        mask = block_mask(generator(seed), 14, 14, 59)
        ours.append(neighbours(mask))
        random.append(neighbours(rng.permutation(mask.reshape(-1)).reshape(14, 14)))
    assert np.mean(random) < 1.4
    assert np.mean(ours) > 2.5


def test_a_block_has_about_as_many_patches_as_asked_at_least() -> None:
    """Of 16 patches in blocks of at least 16, nearly all make one rectangle; rounding its sides costs up to four."""

    def largest(seed: int, *, block: int) -> int:
        mask = block_mask(generator(seed), 14, 14, 16, block=block)
        sides = [(down, across) for down in range(1, 9) for across in range(1, 9) if down * across <= 16]
        fit = [down * across for down, across in sides if sliding_window_view(mask, (down, across)).all((2, 3)).any()]
        return max(fit)

    assert min(largest(seed, block=16) for seed in range(40)) >= 12
    assert min(largest(seed, block=4) for seed in range(40)) < 10


def test_every_place_is_masked_about_as_often() -> None:
    share = np.mean([block_mask(generator(seed), 8, 8, 20) for seed in range(3000)], axis=0)
    assert abs(share.mean() - 20 / 64) < 1e-9
    assert share.min() > 0.07  # corners less than the middle, as with any blocks
    np.testing.assert_allclose(share, share[::-1], atol=0.06)
    np.testing.assert_allclose(share, share.T, atol=0.06)


@pytest.mark.parametrize("probability", [0.5, 0.25, 1.0, 0.33])
def test_exactly_the_share_of_crops_is_masked(probability: float) -> None:
    for step in range(5):
        masks = draw_masks(0, step, 16, (7, 7), masking=Masking(0.3, probability))
        assert masks.shape == (32, 49)
        assert (masks.any(axis=1)).sum() == round(probability * 32)


@pytest.mark.parametrize(
    ("ratio", "low", "high"), [(0.3, 0.1, 0.5), (0.5, 0.3, 0.7), (0.15, 0.05, 0.25), (0.9, 0.85, 0.95)]
)
def test_shares_are_around_the_ratio_with_it_as_their_mean(ratio: float, low: float, high: float) -> None:
    masks = np.concatenate([draw_masks(1, step, 8, (14, 14), masking=Masking(ratio, 0.5)) for step in range(60)])
    shares = masks.mean(axis=1)
    shares = shares[shares > 0]
    assert abs(shares.mean() - ratio) < 0.005
    half_patch = 0.5 / 196
    assert low - half_patch <= shares.min() < low + 0.02
    assert high - 0.02 < shares.max() <= high + half_patch


@pytest.mark.parametrize("ratio", [0.01, 0.3, 0.99])
@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (2, 2), (3, 3)])
def test_a_masked_crop_has_a_masked_patch_and_one_that_is_not(grid: tuple[int, int], ratio: float) -> None:
    counts = draw_masks(2, 0, 10, grid, masking=Masking(ratio, 1.0)).sum(axis=1)
    assert counts.min() >= 1
    assert counts.max() <= max(1, grid[0] * grid[1] - 1)


def test_probability_0_masks_nothing() -> None:
    assert not draw_masks(3, 0, 6, (7, 7), masking=Masking(0.3, 0.0)).any()


def test_rows_are_crop_major_and_do_not_depend_on_which_are_wanted() -> None:
    whole = draw_masks(4, 7, 12, (7, 7), masking=Masking(0.3, 0.5))
    part = draw_masks(4, 7, 12, (7, 7), masking=Masking(0.3, 0.5), images=slice(3, 8))
    np.testing.assert_array_equal(part, np.concatenate((whole[3:8], whole[15:20])))


def test_masks_follow_the_seed_and_the_step() -> None:
    draws = [draw_masks(seed, step, 4, (7, 7), masking=Masking(0.3, 0.5)) for seed, step in ((0, 0), (0, 1), (1, 0))]
    assert not np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
