"""The pixel cache: what decode gives, within the memory allowed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sltdino.data.cache import ImageCache, free_memory
from sltdino.data.decode import BadImage, decode
from sltdino.data.image_folder import scan
from sltdino.errors import ResourceError


def test_it_holds_what_decode_gives(picture_folder: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("jpg", "tiff"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 700, 3), dtype=np.uint8)).save(
            tmp_path / f"turned.{suffix}", exif=exif
        )
    images = scan([picture_folder, tmp_path])
    cache = ImageCache.fill(images, max_bytes=2**28, at_least=200)
    assert cache.bad == {}
    for index in range(len(images)):
        np.testing.assert_array_equal(cache.read(index).numpy(), decode(images.path(index), at_least=200))
    assert cache.read(len(images) - 2).shape == (350, 450, 3)


def test_bad_images_keep_their_reason(picture_folder: Path, tmp_path: Path) -> None:
    whole = (picture_folder / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole)
    (tmp_path / "2.png").write_bytes(whole[:300])
    (tmp_path / "3.png").write_bytes(b"")
    images = scan([tmp_path])
    cache = ImageCache.fill(images, max_bytes=2**20)
    assert set(cache.bad) == {1, 2}
    assert cache.bad[2] == "empty file"
    for index in (1, 2):
        with pytest.raises(BadImage) as caught:
            cache.read(index)
        with pytest.raises(BadImage) as expected:
            decode(images.path(index))
        assert caught.value.reason == expected.value.reason
    assert cache.read(0).shape == (41, 59, 3)


def test_what_does_not_fit_says_how_much_is_needed(picture_folder: Path) -> None:
    with pytest.raises(ResourceError, match=r"need 0\.00 GiB and 0\.00 GiB .* --dataset-cache none"):
        ImageCache.fill(scan([picture_folder]), max_bytes=1000)


def test_free_memory_is_a_plausible_number() -> None:
    assert 2**26 < free_memory() < 2**50
