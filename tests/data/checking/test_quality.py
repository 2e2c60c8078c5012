"""Measures of one image, against numpy on the pixels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.ndimage import laplace

from sltdino.data.checking import quality
from sltdino.data.checking.quality import BLACK_LEVEL, measure, sharpness
from sltdino.data.decode import FORMATS


def saved(path: Path, pixels: object) -> Path:
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)
    return path


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_size_light_and_spread_are_those_of_the_pixels(tmp_path: Path) -> None:
    pixels = noise(0, 20, 30)
    pixels[..., 0] //= 4
    row = measure([saved(tmp_path / "a.png", pixels)]).images[0]
    assert (row["width"], row["height"], FORMATS[row["format"]], row["mode"]) == (30, 20, "PNG", b"RGB")
    np.testing.assert_allclose(row["mean"], pixels.reshape(-1, 3).mean(axis=0) / 255, atol=1e-6)
    np.testing.assert_allclose(row["std"], pixels.reshape(-1, 3).std(axis=0) / 255, atol=1e-6)
    assert row["spread"] == np.ptp(pixels[..., 1:], axis=(0, 1)).max()


def test_black_leaves_room_for_a_few_bright_pixels(tmp_path: Path) -> None:
    pixels = np.full((40, 50, 3), BLACK_LEVEL)
    for bright, is_black in ((10, True), (11, False)):  # of 2,000: 0.5 %
        pixels.reshape(-1, 3)[:bright] = 255
        row = measure([saved(tmp_path / "a.png", pixels)]).images[0]
        assert (row["bright"] <= BLACK_LEVEL) == is_black


def test_equal_pixels_have_equal_digests_in_whatever_file_and_others_not(tmp_path: Path) -> None:
    pixels = noise(1, 8, 12)
    other = pixels.copy()
    other[3, 4, 1] ^= 1
    paths = [
        saved(tmp_path / "a.png", pixels), saved(tmp_path / "a.bmp", pixels), saved(tmp_path / "b.png", other),
        saved(tmp_path / "c.png", pixels.reshape(12, 8, 3)),
    ]  # fmt: skip
    a, same, changed, reshaped = (tuple(digest) for digest in measure(paths).images["digest"].tolist())
    assert a == same
    assert len({a, changed, reshaped}) == 3


def test_sharpness_is_the_variance_of_scipys_laplacian_over_the_variance() -> None:
    grey = noise(2, 64, 64)[..., 0]
    inner = laplace(grey.astype(float))[1:-1, 1:-1]
    assert sharpness(grey) == pytest.approx(inner.var() / grey.astype(float).var(), rel=1e-4)


def test_blur_lowers_the_sharpness_and_size_or_contrast_hardly_change_it(tmp_path: Path) -> None:
    image = Image.fromarray(np.kron(noise(3, 20, 20), np.ones((12, 12, 1), dtype=np.uint8)))
    for name, changed in (
        ("a", image),
        ("half", image.resize((120, 120), Image.Resampling.BOX)),
        ("grey", image.point(lambda level: 100 + level // 4)),
        ("blurred", image.filter(ImageFilter.GaussianBlur(12))),
    ):
        changed.save(tmp_path / f"{name}.png")
    names = ("a", "half", "grey", "blurred")
    measured = measure([tmp_path / f"{name}.png" for name in names]).images["sharpness"]
    of = dict(zip(names, measured.tolist(), strict=True))
    assert of["half"] == pytest.approx(of["a"], rel=0.1)
    assert of["grey"] == pytest.approx(of["a"], rel=0.1)
    assert of["blurred"] < of["a"] / 10
    assert of["blurred"] < quality.BLURRED_BELOW < of["a"]


def test_what_cannot_be_read_is_marked_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    saved(tmp_path / "b.png", noise(4, 8, 8))
    content = (tmp_path / "b.png").read_bytes()
    (tmp_path / "c.png").write_bytes(content[: len(content) // 2])
    found = measure([tmp_path / name for name in ("a.png", "b.png", "c.png", "gone.png")])
    assert found.images["bad"].tolist() == [True, False, True, True]
    assert found.reasons[0] == "empty file"
    assert found.reasons[3] == "No such file or directory"
    assert sorted(found.reasons) == [0, 2, 3]
