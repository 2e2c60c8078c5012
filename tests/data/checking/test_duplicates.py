"""Copies: same pixels, near-copies across clips, repeats within one; what is empty or mirrored is none."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from sltdino.data.checking.duplicates import Duplicates, find_duplicates
from sltdino.data.checking.likeness import difference, standardized
from sltdino.data.checking.quality import measure


def picture(seed: int, *, side: int = 64) -> Image.Image:
    """Smooth colour fields."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)


class Set:
    """Images with their clips and frames, to look through."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths: list[Path] = []
        self.clips: list[int] = []
        self.frames: list[int] = []

    def add(self, image: Image.Image, *, clip: int, frame: int = -1) -> int:
        path = self.folder / f"{len(self.paths)}.png"
        image.save(path)
        self.paths.append(path)
        self.clips.append(clip)
        self.frames.append(frame)
        return len(self.paths) - 1

    def find(self, has_content: NDArray[np.bool_] | None = None) -> Duplicates:
        content = np.ones(len(self.paths), dtype=np.bool_) if has_content is None else has_content
        return find_duplicates(measure(self.paths), content, np.array(self.clips), np.array(self.frames))


@pytest.fixture
def images(tmp_path: Path) -> Set:
    return Set(tmp_path)


def as_lists(groups: tuple[NDArray[np.int64], ...]) -> list[list[int]]:
    return [group.tolist() for group in groups]


def test_images_with_the_same_pixels_are_a_group(images: Set) -> None:
    for number, seed in enumerate((1, 2, 1, 3, 2, 1)):
        images.add(picture(seed), clip=number)
    found = images.find()
    assert as_lists(found.same) == [[0, 2, 5], [1, 4]]
    assert found.near == ()


def test_near_copies_across_clips_are_a_group_and_chains_are_joined(images: Set) -> None:
    for number in range(8):
        images.add(picture(number), clip=number)
    first = images.add(ImageEnhance.Brightness(picture(3)).enhance(0.8), clip=8)
    second = images.add(picture(3).resize((50, 50), Image.Resampling.LANCZOS), clip=9)
    assert as_lists(images.find().near) == [[3, first, second]]


def test_a_mirrored_image_is_no_copy(images: Set) -> None:
    images.add(picture(1), clip=0)
    images.add(picture(1).transpose(Image.Transpose.FLIP_LEFT_RIGHT), clip=1)
    assert images.find()[:2] == ((), ())


def test_near_frames_of_one_clip_are_repeats_and_no_near_copies(images: Set) -> None:
    for frame, factor in ((5, 1.0), (6, 0.95), (9, 0.9)):
        images.add(ImageEnhance.Brightness(picture(1)).enhance(factor), clip=0, frame=frame)
    images.add(picture(2), clip=0, frame=7)
    images.add(ImageEnhance.Brightness(picture(2)).enhance(0.9), clip=1, frame=8)  # after it, in another clip
    found = images.find()
    assert found.repeats.tolist() == [1]  # frame 9 comes after 7
    assert as_lists(found.near) == [[3, 4]]


def test_images_without_content_are_no_copies(images: Set) -> None:
    for number in range(4):
        images.add(Image.new("RGB", (64, 64)), clip=number, frame=0)
    assert images.find(np.zeros(4, dtype=np.bool_))[:2] == ((), ())


def test_difference_is_that_of_a_correlation() -> None:
    one, other = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    expected = [np.sqrt(2 - 2 * np.corrcoef(a.ravel(), b.ravel())[0, 1]) for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(difference(standardized(one), standardized(other)), expected, rtol=1e-5)


def test_a_close_hash_of_another_picture_is_no_copy(images: Set) -> None:
    """What the hash takes for a copy, the pixels decide."""
    for number in range(2):
        images.add(picture(number), clip=number)
    measured = measure(images.paths)
    measured.images["hash"] = 7
    everything = np.ones(2, dtype=np.bool_)
    assert find_duplicates(measured, everything, np.arange(2), np.full(2, -1)).near == ()
