"""Likeness: what all pictures of a data set have in common makes no two of them the same."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sltdino.data.checking.likeness import MAX_DIFFERENCE, Likeness, difference, standardized
from sltdino.data.checking.near_pairs import MAX_BITS
from sltdino.data.checking.perceptual_hash import num_different_bits
from sltdino.data.checking.quality import Measured, measure

NUMBER = 160


def masked(seed: int) -> Image.Image:
    """Grey outside eyes and mouth, as faces are for privacy; what shows is dark in half of them, and its own."""
    rng = np.random.default_rng(seed)
    own = Image.fromarray(rng.integers(0, 60, (12, 12), dtype=np.uint8)).resize((160, 160), Image.Resampling.BICUBIC)
    face = np.asarray(own) + (10 if seed % 2 else 170)
    pixels = np.full((160, 160), 128, dtype=np.uint8)
    pixels[45:80, 25:135], pixels[100:140, 50:110] = face[45:80, 25:135], face[100:140, 50:110]
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """160 greyed faces, the last one a poorer copy of the first."""
    folder = tmp_path_factory.mktemp("faces")
    for seed in range(NUMBER - 1):
        masked(seed).save(folder / f"{seed:03d}.png")
    content = io.BytesIO()
    masked(0).save(content, "JPEG", quality=40)
    Image.open(content).resize((120, 120), Image.Resampling.LANCZOS).save(folder / "999.png")
    return measure(sorted(folder.iterdir()))


def test_greyed_faces_are_not_alike_for_their_mask_and_a_poorer_copy_is(faces: Measured) -> None:
    pairs = np.stack(np.triu_indices(NUMBER, 1), axis=1)
    hashes, thumbs = faces.images["hash"], faces.thumbs_NHW
    close = pairs[num_different_bits(hashes[pairs[:, 0]], hashes[pairs[:, 1]]) <= MAX_BITS]
    one, other = (standardized(thumbs[close[:, side]]) for side in (0, 1))
    close = close[difference(one, other) <= MAX_DIFFERENCE]
    assert len(close) > 20  # hash and difference alone would take these for copies
    alike = Likeness.of(faces, np.arange(NUMBER)).alike(thumbs, close)
    assert close[alike].tolist() == [[0, NUMBER - 1]]


def test_a_long_still_clip_is_not_what_all_have_in_common(tmp_path: Path) -> None:
    """Else copies of its picture would differ in noise alone, and not be found."""
    rng = np.random.default_rng(0)
    for number in range(120):
        still = Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 8), dtype=np.uint8))
        other = Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8))
        image = (still if number < 100 else other).resize((64, 64), Image.Resampling.BICUBIC)
        noisy = np.asarray(image) + rng.normal(0, 14, (64, 64))
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(tmp_path / f"{number:03d}.png")
    found = measure(sorted(tmp_path.iterdir()))
    pairs = np.stack([np.arange(99), np.arange(1, 100)], axis=1)
    assert Likeness.of(found, np.arange(120)).alike(found.thumbs_NHW, pairs).all()
