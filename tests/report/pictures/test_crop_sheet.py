"""A batch's crops as one picture."""

from typing import Any

import numpy as np
import pytest
import torch

from sltdino.report.pictures.crop_sheet import crop_sheet, crop_views
from sltdino.types import Batch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HOW: dict[str, Any] = {"mean": MEAN, "std": STD, "patch_size": 4}


@pytest.fixture
def pixels() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "global": rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8),
        "local": rng.integers(0, 256, (9, 8, 8, 3), dtype=np.uint8),
    }


def batch_of(pixels: dict[str, np.ndarray], masked: tuple[int, ...] = (), *, local: bool = True) -> Batch:
    """3 images of 2 global and 3 local crops; the first patch of the global crops in `masked` is hidden."""

    def normalized(crops: np.ndarray) -> torch.Tensor:
        values = (crops / 255 - np.array(MEAN)) / np.array(STD)
        return torch.from_numpy(values.transpose(0, 3, 1, 2)).float()

    masks = torch.zeros(6, 16, dtype=torch.bool)
    masks[list(masked), 0] = True
    return Batch(normalized(pixels["global"]), normalized(pixels["local"])[: 9 if local else 0], masks)


def test_every_crop_is_where_its_row_and_column_say_in_its_true_pixels(pixels: dict[str, np.ndarray]) -> None:
    sheet = crop_sheet(batch_of(pixels), **HOW, num_images=2)
    assert sheet.shape == (16 + 4 + 16, 2 * 16 + 3 * 8 + 4 * 4, 3)
    assert sheet.dtype == np.uint8
    for image in range(2):
        top = 20 * image
        for crop in range(2):
            assert np.array_equal(sheet[top : top + 16, 20 * crop :][:, :16], pixels["global"][3 * crop + image])
        for crop in range(3):
            assert np.array_equal(sheet[top : top + 8, 40 + 12 * crop :][:, :8], pixels["local"][3 * crop + image])


def test_only_the_masked_patches_are_striped(pixels: dict[str, np.ndarray]) -> None:
    plain, masked = (crop_sheet(batch_of(pixels, hidden), **HOW) for hidden in ((), (4,)))
    changed = (plain != masked).any(axis=2)
    assert changed[20:24, 20:24].mean() > 0.9  # the second global crop of the second image, its first patch
    changed[20:24, 20:24] = False
    assert not changed.any()
    assert set(np.unique(masked[20:24, 20:24])) == {105, 150}


def test_the_teacher_s_view_has_no_stripes(pixels: dict[str, np.ndarray]) -> None:
    view = crop_views(batch_of(pixels, (1,)), **HOW, num_images=3)[1]
    assert np.array_equal(view.global_crops[0], pixels["global"][1])
    assert not np.array_equal(view.student[0], pixels["global"][1])


def test_without_local_crops_a_row_is_the_two_global_ones(pixels: dict[str, np.ndarray]) -> None:
    assert crop_sheet(batch_of(pixels, local=False), **HOW).shape == (3 * 16 + 2 * 4, 2 * 16 + 4, 3)
