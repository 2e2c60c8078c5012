"""The perceptual hash: another library's cosine transform gives the same bits, and near-copies stay near."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.fft import dctn

from sltdino.data.checking.near_pairs import MAX_BITS
from sltdino.data.checking.perceptual_hash import num_different_bits, perceptual_hash
from sltdino.data.checking.quality import measure
from sltdino.data.synthetic import write_demo_crops


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """36 drawn crops of hands."""
    folder = tmp_path_factory.mktemp("crops")
    write_demo_crops("hands", folder, count=36, seed=0)
    return sorted(folder.rglob("*.jpg"))


def test_the_bits_are_signs_of_the_lowest_frequencies_of_scipys_transform() -> None:
    thumbs = np.random.default_rng(0).integers(0, 256, (5, 32, 32), dtype=np.uint8)
    for thumb, found in zip(thumbs, perceptual_hash(thumbs).tolist(), strict=True):
        spectrum = dctn(thumb.astype(float), norm="ortho")
        lowest = sorted(
            ((row, column) for row in range(32) for column in range(32) if row + column),
            key=lambda place: (place[0] + place[1], place[0]),
        )[:64]
        values = [spectrum[place] for place in lowest]
        assert found == sum(1 << bit for bit, value in enumerate(values) if value > np.median(values))


def test_distance_is_the_number_of_different_bits() -> None:
    one, other = np.random.default_rng(1).integers(0, 1 << 63, (2, 100), dtype=np.uint64)
    expected = [(a ^ b).bit_count() for a, b in zip(one.tolist(), other.tolist(), strict=True)]
    assert num_different_bits(one, other).tolist() == expected


def _jpeg(image: Image.Image) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=40)
    return Image.open(content)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG": _jpeg,
    "size": lambda image: image.resize((image.width * 4 // 5, image.height * 4 // 5), Image.Resampling.LANCZOS),
    "light": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_stays_near(change: str, crops: list[Path], tmp_path: Path) -> None:
    for path in crops[:12]:
        CHANGES[change](Image.open(path).convert("RGB")).save(tmp_path / path.with_suffix(".png").name)
    originals, copies = measure(crops[:12]), measure(sorted(tmp_path.iterdir()))
    assert num_different_bits(originals.images["hash"], copies.images["hash"]).max() <= MAX_BITS


def test_a_mirrored_picture_is_another_one(crops: list[Path], tmp_path: Path) -> None:
    for path in crops[:12]:
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / path.name)
    originals, mirrored = measure(crops[:12]), measure(sorted(tmp_path.iterdir()))
    assert num_different_bits(originals.images["hash"], mirrored.images["hash"]).min() > 2 * MAX_BITS
