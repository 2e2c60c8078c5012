"""Faces for the demo: the brows, eyes, mouths and turns of the head that sign languages use as grammar.

Face space has its origin between nose and eyes, x to the right of the picture, y up and z towards the viewer; half the
height of the head is 1. Features are points on an ellipsoid, so they move together when the head turns.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from sltdino.data.synthetic_render import Floats, f32
from sltdino.data.synthetic_scene import (
    CROP_SIZE,
    Color,
    Frame,
    byte_color,
    cloth_color,
    light,
    photograph,
    room,
    skin_color,
)

Point = tuple[float, float]


class Expression(NamedTuple):
    """What a face does; all zero is neutral."""

    brows: float = 0
    """-1 drawn together and down to 1 raised."""
    lids: float = 0
    """-1 closed to 1 wide open."""
    gaze: float = 0
    """-1 left in the picture to 1 right."""
    jaw: float = 0
    """0 closed to 1 wide open."""
    lips: float = 0
    """-1 pursed to 1 spread."""
    smile: float = 0
    """-1 corners down to 1 corners up."""
    turn: float = 0
    """-1 left in the picture to 1 right."""


EXPRESSIONS: dict[str, Expression] = {
    "brows-down": Expression(brows=-1, lids=-0.3),
    "brows-up": Expression(brows=1, lids=0.6),
    "eyes-closed": Expression(lids=-1),
    "look-left": Expression(gaze=-1),
    "look-right": Expression(gaze=1),
    "mouth-open": Expression(jaw=1),
    "mouth-round": Expression(jaw=0.45, lips=-1),
    "neutral": Expression(),
    "smile": Expression(smile=1, lips=0.8, jaw=0.2),
    "turn-left": Expression(turn=-1),
    "turn-right": Expression(turn=1),
}
"""The labels of the demo's faces; left and right are the picture's. Eleven: they take turns with the 20 signers."""

_HAIR = ((28, 22, 20), (58, 40, 28), (104, 70, 42), (176, 134, 84), (120, 116, 112), (120, 52, 30))
_EYES = ((60, 38, 24), (84, 58, 34), (70, 96, 70), (84, 112, 140))
_SIZE = 4 * CROP_SIZE
_HALF_WIDTH, _HALF_DEPTH = 0.74, 0.8


def draw_face(label: str, frame: Frame) -> Image.Image:
    """The crop of a face that shows a label's expression."""
    size = 2 * CROP_SIZE
    backdrop = Image.fromarray((255 * room(frame, size=_SIZE)).astype(np.uint8))
    face = _Face(backdrop, _moving(EXPRESSIONS[label], frame), frame)
    face.draw()
    scene = np.asarray(backdrop.resize((size, size), Image.Resampling.BOX), dtype=np.float32) / 255
    return photograph(_lit(scene, face, frame), frame)


def _moving(expression: Expression, frame: Frame) -> Expression:
    """Nobody holds an expression exactly: it swells and fades within a clip."""
    rng = frame.of_clip("expression")
    strength = rng.uniform(0.75, 1.1) * (1 - 0.25 * abs(2 * frame.moment - 1))
    values = np.array(expression) * strength
    values += rng.normal(0, (0.1, 0.07, 0.12, 0.04, 0.1, 0.1, 0.18)) + frame.of_frame("expression").normal(0, 0.04, 7)
    return Expression(*(float(value) for value in values))


class _Face:
    """The brush: one signer's face in one frame, from the back to the front."""

    def __init__(self, picture: Image.Image, expression: Expression, frame: Frame) -> None:
        self.brush = ImageDraw.Draw(picture)
        self.now = expression
        signer, pose = frame.of_signer("face"), frame.of_frame("pose")
        self.wide, self.eye_gap, self.low_mouth, self.nose, self.full_lips, self.brow_weight = signer.normal(
            (1, 1, 1, 1, 1, 1), (0.06, 0.06, 0.06, 0.12, 0.18, 0.25)
        )
        self.skin = skin_color(frame)
        self.hair, self.iris = _HAIR[signer.integers(len(_HAIR))], _EYES[signer.integers(len(_EYES))]
        self.long_hair, self.hairline = signer.random() < 0.45, float(signer.uniform(0.5, 0.72))
        self.shirt = byte_color(cloth_color(frame.of_signer("shirt")))
        self.yaw = 0.55 * expression.turn
        self.pitch, self.roll = pose.normal(0, 0.05), pose.normal(0, 0.07)
        self.scale = _SIZE * pose.uniform(0.40, 0.46)
        self.center = _SIZE * (np.array((0.5, 0.52)) + pose.normal(0, 0.02, 2))

    def at(self, x: float, y: float, out: float = 0.0) -> Point:
        """Where a point of the face is in the picture; `out` lifts it off the ellipsoid."""
        x *= self.wide
        bulge = 1 - (x / _HALF_WIDTH) ** 2 - (y / 1.05) ** 2
        z = _HALF_DEPTH * np.sqrt(max(bulge, 0.0)) + out
        x, z = x * np.cos(self.yaw) + z * np.sin(self.yaw), z * np.cos(self.yaw) - x * np.sin(self.yaw)
        y = y * np.cos(self.pitch) + (z - 0.4) * np.sin(self.pitch)
        x, y = x * np.cos(self.roll) - y * np.sin(self.roll), x * np.sin(self.roll) + y * np.cos(self.roll)
        return float(self.center[0] + self.scale * x), float(self.center[1] - self.scale * y)

    def draw(self) -> None:
        """Everything, back to front."""
        self._behind()
        self._polygon([self._rim(angle, 1.0) for angle in np.linspace(0, 2 * np.pi, 60)], self.tone(1.0))
        self._fringe()
        for side in (-1, 1):
            self._eye(side)
        self._nose()
        self._mouth()

    def tone(self, brightness: float, red: float = 0.0) -> Color:
        """The skin, lighter or darker, or redder."""
        return byte_color(np.clip(self.skin * brightness + red * np.array((0.6, -0.1, -0.05)), 0, 1))

    def _rim(self, angle: float, grow: float) -> Point:
        # an egg: the jaw is narrower than the temples
        x, y = np.cos(angle), np.sin(angle)
        narrow = 1 - 0.16 * max(0.0, -y) ** 1.5 - 0.05 * max(0.0, y)
        jaw = -0.1 * max(0.0, self.now.jaw) * max(0.0, -y)
        flat = _HALF_WIDTH * self.wide * x * narrow * grow
        return self._flat(flat + 0.05 * np.sin(self.yaw), y * grow + jaw)

    def _flat(self, x: float, y: float) -> Point:
        """A point of the outline, which does not turn with the head."""
        x, y = x * np.cos(self.roll) - y * np.sin(self.roll), x * np.sin(self.roll) + y * np.cos(self.roll)
        return float(self.center[0] + self.scale * x), float(self.center[1] - self.scale * y)

    def _behind(self) -> None:
        shift = -0.18 * np.sin(self.yaw)
        if self.long_hair:
            sides = [(-0.86, 0.5), (-0.95, -1.3), (0.95, -1.3), (0.86, 0.5)]
            self._polygon([self._flat(x + shift, y) for x, y in sides], self.hair)
        self._polygon([self._rim(angle, 1.12) for angle in np.linspace(0.05, np.pi - 0.05, 40)], self.hair)
        self._polygon(
            [self._flat(x, y) for x, y in ((-0.36, -0.6), (-0.4, -1.6), (0.4, -1.6), (0.36, -0.6))], self.tone(0.78)
        )
        self._polygon(
            [
                self._flat(x, y)
                for x, y in ((-0.42, -1.15), (-1.6, -1.45), (-1.6, -2), (1.6, -2), (1.6, -1.45), (0.42, -1.15))
            ],
            self.shirt,
        )
        for side in (-1, 1):
            if side * self.yaw < 0.2 and not self.long_hair:
                x = side * _HALF_WIDTH * self.wide + 0.35 * shift
                self._blob(self._flat(x, 0.02), 0.1, 0.19, self.tone(0.9))

    def _fringe(self) -> None:
        line = self.hairline
        rim = [self._rim(angle, 1.08) for angle in np.linspace(0.14, np.pi - 0.14, 40)]
        edge = [self.at(x, line + 0.14 * (1 - (x / 0.7) ** 2), -0.1) for x in np.linspace(-0.7, 0.7, 12)]
        self._polygon(rim + edge, self.hair)

    def _eye(self, side: int) -> None:
        x, y = 0.3 * side * self.eye_gap, 0.08
        opening = max(0.0, 0.085 * (1 + 0.55 * self.now.lids if self.now.lids > 0 else 1 + 1.15 * self.now.lids))
        half = 0.155
        span = np.linspace(-1, 1, 15)
        upper = [self.at(x + half * u, y + opening * (1 - u * u)) for u in span]
        lower = [self.at(x + half * u, y - 0.7 * opening * (1 - u * u)) for u in span]
        socket = [self.at(x + 1.35 * half * u, y + 0.02 + 0.13 * (1 - u * u)) for u in span]
        self._polygon(
            socket + [self.at(x + 1.35 * half * u, y - 0.11 * (1 - u * u)) for u in span[::-1]], self.tone(0.88)
        )
        if opening > 0.015:
            self._polygon(upper + lower[::-1], (236, 232, 228))
            center = self.at(x + 0.085 * self.now.gaze, y + 0.01)
            self._blob(center, 0.074, 0.074, self.iris)
            self._blob(center, 0.036, 0.036, (12, 10, 10))
            self._blob((center[0] - 0.02 * self.scale, center[1] - 0.025 * self.scale), 0.014, 0.014, (250, 250, 250))
            # lids cover what of the iris stands out above and below
            self._polygon(upper + [self.at(x + half * u, y + 0.13) for u in span[::-1]], self.tone(0.92))
            self._polygon(lower + [self.at(x + half * u, y - 0.12) for u in span[::-1]], self.tone(0.95))
        self._line(upper if opening > 0.015 else lower, 0.028, self.tone(0.3))
        self._brow(side, x, y)

    def _brow(self, side: int, x: float, y: float) -> None:
        lift, frown = 0.12 * self.now.brows, max(0.0, -self.now.brows)
        points = []
        for u in np.linspace(-1, 1, 9):
            inner = 0.5 - 0.5 * u * side  # 1 next to the nose
            arch = 0.045 * (1 - u * u) * (1 + max(0.0, self.now.brows))
            points.append(self.at(x + 0.2 * u - side * 0.03 * frown, y + 0.235 + lift + arch - 0.09 * frown * inner))
        self._line(points, 0.05 * self.brow_weight, byte_color(f32(self.hair) * (0.75 / 255)))

    def _nose(self) -> None:
        shadow = self.tone(0.72)
        side = -0.07 if self.yaw > 0 else 0.07
        self._line(
            [self.at(side * 0.6, 0.06, 0.03), self.at(side, -0.15, 0.1), self.at(side * 1.3, -0.27, 0.1)], 0.022, shadow
        )
        self._blob(self.at(0, -0.24, 0.16), 0.085 * self.nose, 0.065, self.tone(1.06))
        for nostril in (-0.06, 0.06):
            self._blob(self.at(nostril * self.nose, -0.305, 0.1), 0.026, 0.015, self.tone(0.4))

    def _mouth(self) -> None:
        y = -0.56 * self.low_mouth
        half = 0.225 * (1 + (0.3 if self.now.lips > 0 else 0.5) * self.now.lips)
        gap, thick = 0.15 * max(0.0, self.now.jaw), 0.055 * self.full_lips * (1.35 if self.now.lips < -0.4 else 1)
        corner = 0.085 * self.now.smile
        span = np.linspace(-1, 1, 17)
        curve = corner * span**2
        top, bottom = y + curve + 0.35 * gap * (1 - span**2), y + curve - gap * (1 - span**2)
        upper, lower = top + thick * (1 - span**2) * (0.8 + 0.35 * np.abs(span)), bottom - 1.15 * thick * (1 - span**2)
        lips = self.tone(0.8, red=0.1)
        self._polygon(self._row(half * span, upper) + self._row(half * span, lower)[::-1], lips)
        if gap > 0.012:
            self._polygon(self._row(half * span, top) + self._row(half * span, bottom)[::-1], (52, 18, 18))
            if self.now.smile > 0.3 or gap > 0.08:
                teeth = np.maximum(top - 0.05, bottom)
                self._polygon(
                    self._row(0.88 * half * span, top) + self._row(0.88 * half * span, teeth)[::-1], (232, 228, 218)
                )
        else:
            self._line(self._row(half * span, top), 0.02, self.tone(0.42, red=0.05))

    def _row(self, xs: Floats, ys: Floats) -> list[Point]:
        return [self.at(float(x), float(y), 0.03) for x, y in zip(xs, ys, strict=True)]

    def _polygon(self, points: list[Point], color: Color) -> None:
        self.brush.polygon(points, fill=color)

    def _line(self, points: list[Point], width: float, color: Color) -> None:
        self.brush.line(points, fill=color, width=max(1, round(width * self.scale)), joint="curve")

    def _blob(self, center: Point, half_width: float, half_height: float, color: Color) -> None:
        (x, y), dx, dy = center, half_width * self.scale, half_height * self.scale
        self.brush.ellipse((x - dx, y - dy, x + dx, y + dy), fill=color)


def _lit(scene: Floats, face: _Face, frame: Frame) -> Floats:
    """Shade the ellipsoid of the head; what lies beyond it is lit flat."""
    lamp, half = light(frame), scene.shape[0] / _SIZE
    rows, columns = np.indices(scene.shape[:2], dtype=np.float32)
    x = (columns - face.center[0] * half) / (face.scale * half * 0.85)
    y = (face.center[1] * half - rows) / (face.scale * half * 1.15)
    z = np.sqrt(np.maximum(1 - x * x - y * y, 0.02))
    length = np.sqrt(x * x + y * y + z * z)
    diffuse = np.maximum((x * lamp.direction[0] + y * lamp.direction[1] + z * lamp.direction[2]) / length, 0)
    shade = lamp.ambient + 0.15 + (0.85 - lamp.ambient) * diffuse
    return f32(np.clip(scene * (shade[..., None] * lamp.color), 0, 1))
