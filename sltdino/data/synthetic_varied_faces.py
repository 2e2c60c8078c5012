"""Faces with any expression, and what of it a network can be asked for."""

import numpy as np
from PIL import Image

from sltdino.data.synthetic_expressions import Expression
from sltdino.data.synthetic_faces import Face, lit
from sltdino.data.synthetic_render import f32
from sltdino.data.synthetic_scene import Frame, byte_color
from sltdino.data.synthetic_surroundings import (
    Drawn,
    any_background,
    any_camera,
    any_color,
    any_light,
    at_half_size,
    fall_off,
)

_PLACES = {
    "left eye": (-0.3, 0.08, 0.0),
    "right eye": (0.3, 0.08, 0.0),
    "nose": (0.0, -0.24, 0.16),
    "mouth": (0.0, -0.56, 0.03),
}
"""In face space, as `Face.at` takes them."""
FACE_VALUES: tuple[str, ...] = (*Expression._fields, "frown", "folds")
"""What is known about a drawn face; left and right are the picture's."""
FACE_PLACES = tuple(_PLACES)
"""Whose places in the picture are known."""
_SIZE = 192


def any_expression(rng: np.random.Generator) -> Expression:
    """Every part of the face on its own, often at rest, with the head turned any way it goes."""
    low = np.array((-1.2, -1.1, -1, 0, -1, -1, -1, -1, -1))
    high = np.array((1.2, 1.1, 1, 1.2, 1, 1.2, 1, 1, 1))
    values = rng.uniform(low, high) * (rng.random(9) < (0.65, 0.5, 0.5, 0.6, 0.55, 0.65, 0.8, 0.8, 0.8))
    turned = np.array((1, 1, 1, 1, 1, 1, 1.3 * rng.uniform(), 1.2 * rng.uniform(), rng.uniform()))
    return Expression(*(float(value) for value in values * turned + rng.normal(0, 0.05, 9)))


def draw_any_face(frame: Frame, *, size: int) -> Drawn:
    """A face with any expression before any background, and its `FACE_VALUES`."""
    rng, lamp = frame.of_frame("varied"), any_light(frame.of_frame("light"))
    picture = Image.new("RGBA", (_SIZE, _SIZE))
    face = Face(picture, any_expression(rng), frame)
    face.skin = f32(np.clip(face.skin * rng.normal(1, 0.06, 3), 0.03, 1))
    face.scale = _SIZE * rng.uniform(0.42, 0.7)
    face.center = _SIZE * (np.array((0.5, 0.5)) + rng.normal(0, 0.05, 2))
    if rng.random() < 0.25:
        face.hair = byte_color(any_color(rng))
    face.brow_weight = max(0.4, face.brow_weight * rng.uniform(0.6, 1.6))
    frown, folds = _wrinkles(face, rng)
    face.draw()
    _aged(face, frown, folds)
    for add, share in ((_glasses, 0.2), (_beard, 0.25)):
        if rng.random() < share:
            add(face, rng)
    half = _SIZE // 2
    drawn = np.asarray(picture.resize((half, half), Image.Resampling.BOX), dtype=np.float32) / 255
    solid = drawn[..., 3:]
    background = any_background(rng, half)
    scene = background * (1 - solid) + lit(drawn[..., :3], face, lamp) * solid
    image = any_camera(scene * fall_off(rng, half), frame.of_frame("camera"), size=size, grey=0.5)
    places = np.array([face.at(*place) for place in _PLACES.values()]) / _SIZE
    features = 0.5 + 0.5 * (drawn[..., :3] - face.skin) * solid  # darker or lighter than the skin, and redder
    plain = np.concatenate((solid, features[..., 1:2], 0.5 + features[..., :1] - features[..., 1:2]), axis=2)
    return Drawn(image, at_half_size(plain, size=size), f32((*face.now, frown, folds)), f32(places))


def _wrinkles(face: Face, rng: np.random.Generator) -> tuple[float, float]:
    """How deep are the furrows between drawn brows, and the folds from the nose to the corners of the mouth."""
    frown = max(0.0, -face.now.brows) * rng.uniform(0.3, 1)
    folds = max(abs(face.now.smile), 0.5 * max(0.0, face.now.lips)) * rng.uniform(0.2, 1)
    return float(frown), float(folds)


def _aged(face: Face, frown: float, folds: float) -> None:
    for side in (-1, 1):
        if folds > 0.15:
            corner = 0.27 * (1 + 0.3 * face.now.lips)
            points = [(0.11, -0.25), (0.19, -0.35), (corner, -0.5 + 0.05 * face.now.smile)]
            face.line([face.at(side * x, y, 0.02) for x, y in points], 0.02, face.tone(1 - 0.35 * folds))
        if frown > 0.15:
            face.line([face.at(0.06 * side, 0.34), face.at(0.05 * side, 0.2)], 0.02, face.tone(1 - 0.4 * frown))


def _glasses(face: Face, rng: np.random.Generator) -> None:
    rim, dark, squareness = byte_color(any_color(rng) * 0.5), rng.random() < 0.15, rng.uniform(0.6, 1)
    for side in (-1, 1):
        ring = []
        for angle in np.linspace(0, 2 * np.pi, 21):
            x, y = (np.sign(turn) * abs(turn) ** squareness for turn in (np.cos(angle), np.sin(angle)))
            ring.append(face.at(0.3 * side + 0.24 * x, 0.06 + 0.17 * y, 0.06))
        if dark:
            face.polygon(ring, (20, 20, 22))
        face.line(ring, 0.025, rim)
    face.line([face.at(-0.06, 0.1, 0.1), face.at(0.06, 0.1, 0.1)], 0.025, rim)


def _beard(face: Face, rng: np.random.Generator) -> None:
    """A moustache, a beard below the mouth, or both."""
    hair = byte_color(np.clip(f32(face.hair) / 255 * 0.5 + face.skin * 0.5, 0, 1))
    if rng.random() < 0.7:
        face.line([face.at(x, -0.43 - 0.25 * x * x, 0.05) for x in np.linspace(-0.24, 0.24, 9)], 0.07, hair)
    if rng.random() < 0.5:
        drop, half_turn = 0.12 * max(0.0, face.now.jaw), np.linspace(0, np.pi, 15)
        outer = [face.at(0.5 * np.cos(angle), -0.45 - drop - 0.42 * np.sin(angle)) for angle in half_turn]
        inner = [face.at(0.32 * np.cos(angle), -0.6 - drop - 0.12 * np.sin(angle)) for angle in half_turn[::-1]]
        face.polygon(outer + inner, hair)
