"""The drawn faces: each label moves what it names, and left is not right."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter

from sltdino.data.synthetic_faces import draw_face
from sltdino.data.synthetic_scene import Frame

FRAMES = [Frame(seed=1, number=number, signer=number, clip=number // 4, moment=0.5) for number in range(8)]
Move = Callable[[Image.Image], Image.Image]


def shifted(right: int, down: int) -> Move:
    return lambda image: image.transform(image.size, Image.Transform.AFFINE, (1, 0, -right, 0, 1, -down))


def rotated(degrees: float) -> Move:
    return lambda image: image.rotate(degrees, Image.Resampling.BILINEAR)


def features(image: Image.Image, box: tuple[int, int, int, int]) -> np.ndarray:
    """Brows, eyes, nose and mouth without the shading: what differs from its surroundings."""
    grey = image.convert("L")
    smooth = grey.filter(ImageFilter.GaussianBlur(4))
    return (np.asarray(grey, dtype=np.float32) - np.asarray(smooth, dtype=np.float32))[box[1] : box[3], box[0] : box[2]]


def likeness(image: Image.Image, other: Image.Image, box: tuple[int, int, int, int]) -> float:
    return float(np.corrcoef(features(image, box).ravel(), features(other, box).ravel())[0, 1])


@pytest.mark.parametrize(
    ("label", "its_way", "the_other_way"),
    [
        ("turn-left", shifted(-12, 0), shifted(12, 0)),
        ("turn-right", shifted(12, 0), shifted(-12, 0)),
        ("chin-up", shifted(0, -8), shifted(0, 8)),
        ("chin-down", shifted(0, 8), shifted(0, -8)),
        ("tilt-left", rotated(15), rotated(-15)),  # Pillow turns counter-clockwise: the crown goes to the left
        ("tilt-right", rotated(-15), rotated(15)),
    ],
)
def test_a_head_goes_where_its_label_says(label: str, its_way: Move, the_other_way: Move) -> None:
    # two eyes are alike, and as far apart as a head turns: nose and mouth tell
    inside = (40, 70, 88, 104) if "turn" in label else (44, 44, 84, 100)
    better = []
    for frame in FRAMES:
        neutral, moved = draw_face("neutral", frame), draw_face(label, frame)
        better.append(likeness(its_way(neutral), moved, inside) - likeness(the_other_way(neutral), moved, inside))
    assert np.mean(better) > 0.1


@pytest.mark.parametrize(("label", "sign"), [("look-left", -1), ("look-right", 1)])
def test_the_irises_go_where_the_label_says(label: str, sign: int) -> None:
    """What is darker than with a straight gaze lies on the side of the gaze, next to what is brighter."""
    found = []
    for frame in FRAMES:
        straight, looking = (
            np.asarray(draw_face(name, frame).convert("L").crop((30, 46, 98, 74)), dtype=np.float32)
            for name in ("neutral", label)
        )
        change = np.where(np.abs(looking - straight) > 12, looking - straight, 0)
        columns = np.arange(change.shape[1])
        darker, brighter = (
            np.maximum(s * change, 0).sum(axis=0) @ columns / np.maximum(s * change, 0).sum() for s in (-1, 1)
        )
        found.append(sign * (darker - brighter) > 0)
    assert np.mean(found) > 0.8


def test_closed_eyes_show_no_white() -> None:
    for frame in FRAMES:
        opened, closed = (
            np.asarray(draw_face(name, frame).convert("L").crop((34, 50, 94, 72)), dtype=np.float32)
            for name in ("brows-up", "eyes-closed")
        )
        assert np.percentile(closed, 99) < np.percentile(opened, 99)
