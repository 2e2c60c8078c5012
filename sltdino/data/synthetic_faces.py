"""Faces for the demo: a head that turns, with the features that expressions move.

Face space has its origin between nose and eyes, x to the right of the picture, y up and z towards the viewer; half the
height of the head is 1. Features are points on an ellipsoid, so they move together when the head turns.
"""

import numpy as np
from PIL import Image, ImageDraw

from sltdino.data.synthetic_expressions import EXPRESSIONS, Expression
from sltdino.data.synthetic_render import Floats, Light, f32
from sltdino.data.synthetic_scene import (
    CROP_SIZE,
    Color,
    Frame,
    byte_color,
    cloth_color,
    light,
    photograph,
    room,
    shirt,
    skin_color,
)

Point = tuple[float, float]


_HAIR = ((28, 22, 20), (44, 30, 24), (120, 116, 112), (78, 54, 36), (104, 70, 42), (120, 52, 30), (176, 134, 84))
_EYES = ((52, 32, 20), (60, 38, 24), (84, 58, 34), (84, 112, 140), (70, 96, 70))
# from the colours that go with any skin to those that go with light skin only
_SIZE = 4 * CROP_SIZE
_HALF_WIDTH, _HALF_DEPTH = 0.74, 0.8


def draw_face(label: str, frame: Frame) -> Image.Image:
    """The crop of a face that shows a label's expression."""
    size = 2 * CROP_SIZE
    background = room(frame, size=size, chest=False)
    picture = Image.new("RGBA", (_SIZE, _SIZE))
    face = Face(picture, _moving(EXPRESSIONS[label], frame), frame)
    face.draw()
    drawn = np.asarray(picture.resize((size, size), Image.Resampling.BOX), dtype=np.float32) / 255
    solid = drawn[..., 3:]
    return photograph(background * (1 - solid) + lit(drawn[..., :3], face, light(frame)) * solid, frame)


def _moving(expression: Expression, frame: Frame) -> Expression:
    """Nobody holds an expression exactly: it swells and fades within a clip."""
    rng = frame.of_clip("expression")
    strength = rng.uniform(0.85, 1.1) * (1 - 0.15 * abs(2 * frame.moment - 1))
    values = np.array(expression) * strength
    values += rng.normal(0, (0.1, 0.06, 0.1, 0.03, 0.08, 0.08, 0.15, 0.25, 0.2))
    values += frame.of_frame("expression").normal(0, 0.04, len(values))
    return Expression(*(float(value) for value in values))


class Face:
    """The brush: one signer's face in one frame, from the back to the front."""

    def __init__(self, picture: Image.Image, expression: Expression, frame: Frame) -> None:
        self.brush = ImageDraw.Draw(picture)
        self.picture_size = picture.width
        self.now = expression
        signer, pose = frame.of_signer("face"), frame.of_frame("pose")
        self.wide, self.eye_gap, self.low_mouth, self.nose, self.full_lips, self.brow_weight = signer.normal(
            (1, 1, 1, 1, 1, 1), (0.06, 0.06, 0.06, 0.12, 0.18, 0.25)
        )
        self.skin = skin_color(frame)
        light_skin = float(self.skin.mean()) ** 2
        self.hair, self.iris = (colors[int(len(colors) * light_skin * signer.random())] for colors in (_HAIR, _EYES))
        self.long_hair, self.hairline = signer.random() < 0.45, float(signer.uniform(0.58, 0.8))
        self.volume, self.strands = signer.uniform(1.07, 1.2), signer.normal(1, 0.1, 40)
        self.shirt = byte_color(cloth_color(shirt(frame)))
        self.yaw, self.pitch, self.roll = 0.5 * expression.turn, 0.5 * expression.nod, -0.3 * expression.tilt
        self.scale = picture.width * pose.uniform(0.40, 0.46)
        self.center = picture.width * (np.array((0.5, 0.52)) + pose.normal(0, 0.02, 2))

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
        self.polygon([self._rim(angle) for angle in np.linspace(0, 2 * np.pi, 60)], self.tone(1.0))
        self._fringe()
        for side in (-1, 1):
            self._eye(side)
        self._nose()
        self._mouth()

    def tone(self, brightness: float, red: float = 0.0) -> Color:
        """The skin, lighter or darker, or redder."""
        return byte_color(np.clip(self.skin * brightness + red * np.array((0.6, -0.1, -0.05)), 0, 1))

    def _rim(self, angle: float, grow: float = 1.0) -> Point:
        # the jaw is narrower than the temples, and neither is an ellipse
        x, y = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.85, np.sin(angle)
        narrow = 1 - 0.17 * max(0.0, -y) ** 1.5
        jaw = -0.1 * max(0.0, self.now.jaw) * max(0.0, -y)
        return self._flat(_HALF_WIDTH * self.wide * x * narrow * grow + 0.05 * np.sin(self.yaw), y * grow + jaw)

    def _flat(self, x: float, y: float) -> Point:
        """A point of the outline, which does not turn with the head."""
        x, y = x * np.cos(self.roll) - y * np.sin(self.roll), x * np.sin(self.roll) + y * np.cos(self.roll)
        return float(self.center[0] + self.scale * x), float(self.center[1] - self.scale * y)

    def _behind(self) -> None:
        shift = -0.18 * np.sin(self.yaw)
        if self.long_hair:
            crown = [self._rim(angle, 1.1) for angle in np.linspace(-0.1, np.pi + 0.1, 40)]
            ends = [self._flat(x + shift, -1.35 + 0.25 * x * x) for x in np.linspace(0.95, -0.95, 40)]
            self._comb(crown, ends)
        neck, shoulders = ((-0.36, -0.5), (-0.42, -1.6)), ((-0.42, -1.15), (-1.6, -1.45), (-1.6, -2.2))
        for corners, color in ((neck, self.tone(0.75)), (shoulders, self.shirt)):
            mirrored = [(-x, y) for x, y in corners[::-1]]
            self.polygon([self._body(x, y) for x, y in (*corners, *mirrored)], color)
        for side in (-1, 1):
            if side * self.yaw < 0.2 and not self.long_hair:
                x = side * 1.02 * _HALF_WIDTH * self.wide + 0.35 * shift
                for size, brightness in ((1.0, 0.88), (0.55, 0.7)):
                    self.blob(self._flat(x, -0.45 * np.sin(self.pitch)), 0.1 * size, 0.19 * size, self.tone(brightness))

    def _body(self, x: float, y: float) -> Point:
        """A point below the head, which hardly follows it."""
        return float(self.center[0] + self.scale * x), float(self.center[1] - self.scale * y)

    def _fringe(self) -> None:
        angles = np.linspace(-0.06, np.pi + 0.06, 40)
        edge = [self.at(0.69 * np.cos(a), self.hairline * min(1.0, 1.6 * max(0.0, np.sin(a)))) for a in angles]
        self._comb([self._rim(a, 1.03 + (self.volume - 1.03) * max(0.0, np.sin(a))) for a in angles], edge)

    def _comb(self, roots: list[Point], ends: list[Point]) -> None:
        """Strands of hair from one curve to another."""
        for number in range(len(roots) - 1):
            strand = byte_color(np.clip(f32(self.hair) / 255 * self.strands[number], 0, 1))
            self.polygon([roots[number], roots[number + 1], ends[number + 1], ends[number]], strand)

    def _eye(self, side: int) -> None:
        x, y = 0.3 * side * self.eye_gap, 0.08
        opening = max(0.0, 0.085 * (1 + (0.55 if self.now.lids > 0 else 1.6) * self.now.lids))
        half = 0.155
        span = np.linspace(-1, 1, 15)
        upper = [self.at(x + half * u, y + opening * (1 - u * u)) for u in span]
        lower = [self.at(x + half * u, y - 0.7 * opening * (1 - u * u)) for u in span]
        socket = [self.at(x + 1.35 * half * u, y + 0.02 + 0.13 * (1 - u * u)) for u in span]
        self.polygon(
            socket + [self.at(x + 1.35 * half * u, y - 0.11 * (1 - u * u)) for u in span[::-1]], self.tone(0.88)
        )
        if opening > 0:
            self.polygon(upper + lower[::-1], (236, 232, 228))
            center = self.at(x + 0.085 * self.now.gaze, y + 0.01)
            self.blob(center, 0.074, 0.074, self.iris)
            self.blob(center, 0.036, 0.036, (12, 10, 10))
            self.blob((center[0] - 0.02 * self.scale, center[1] - 0.025 * self.scale), 0.014, 0.014, (250, 250, 250))
            # lids cover what of the iris stands out above and below
            self.polygon(upper + [self.at(x + half * u, y + 0.13) for u in span[::-1]], self.tone(0.92))
            self.polygon(lower + [self.at(x + half * u, y - 0.12) for u in span[::-1]], self.tone(0.95))
            self.line(upper, 0.028, self.tone(0.3))
        else:  # the lashes of closed eyes hang
            self.line([self.at(x + half * u, y - 0.035 - 0.035 * (1 - u * u)) for u in span], 0.036, self.tone(0.3))
        self._brow(side, x, y)

    def _brow(self, side: int, x: float, y: float) -> None:
        lift, frown = 0.12 * self.now.brows, max(0.0, -self.now.brows)
        points = []
        for u in np.linspace(-1, 1, 9):
            inner = 0.5 - 0.5 * u * side  # 1 next to the nose
            arch = 0.045 * (1 - u * u) * (1 + max(0.0, self.now.brows))
            points.append(self.at(x + 0.2 * u - side * 0.03 * frown, y + 0.235 + lift + arch - 0.09 * frown * inner))
        self.line(points, 0.05 * self.brow_weight, byte_color(f32(self.hair) * (0.75 / 255)))

    def _nose(self) -> None:
        shadow = self.tone(0.72)
        side = -0.07 if self.yaw > 0 else 0.07
        self.line(
            [self.at(side * 0.6, 0.06, 0.03), self.at(side, -0.15, 0.1), self.at(side * 1.3, -0.27, 0.1)], 0.022, shadow
        )
        self.blob(self.at(0, -0.24, 0.16), 0.085 * self.nose, 0.065, self.tone(1.06))
        for nostril in (-0.06, 0.06):
            self.blob(self.at(nostril * self.nose, -0.305, 0.1), 0.026, 0.015, self.tone(0.4))

    def _mouth(self) -> None:
        y = -0.56 * self.low_mouth
        half = 0.225 * (1 + (0.3 if self.now.lips > 0 else 0.5) * self.now.lips)
        gap, thick = 0.19 * max(0.0, self.now.jaw), 0.055 * self.full_lips * (1.35 if self.now.lips < -0.4 else 1)
        corner = 0.085 * self.now.smile
        span = np.linspace(-1, 1, 17)
        curve = corner * span**2
        top, bottom = y + curve + 0.35 * gap * (1 - span**2), y + curve - gap * (1 - span**2)
        upper, lower = top + thick * (1 - span**2) * (0.8 + 0.35 * np.abs(span)), bottom - 1.15 * thick * (1 - span**2)
        lips = self.tone(0.8, red=0.1)
        self.polygon(self._row(half * span, upper) + self._row(half * span, lower)[::-1], lips)
        if gap > 0.012:
            self.polygon(self._row(half * span, top) + self._row(half * span, bottom)[::-1], (52, 18, 18))
            if self.now.smile > 0.3 or gap > 0.08:
                teeth = np.maximum(top - 0.05, bottom)
                self.polygon(
                    self._row(0.88 * half * span, top) + self._row(0.88 * half * span, teeth)[::-1], (232, 228, 218)
                )
        else:
            self.line(self._row(half * span, top), 0.02, self.tone(0.42, red=0.05))

    def _row(self, xs: Floats, ys: Floats) -> list[Point]:
        return [self.at(float(x), float(y), 0.03) for x, y in zip(xs, ys, strict=True)]

    def polygon(self, points: list[Point], color: Color) -> None:
        self.brush.polygon(points, fill=color)

    def line(self, points: list[Point], width: float, color: Color) -> None:
        self.brush.line(points, fill=color, width=max(1, round(width * self.scale)), joint="curve")

    def blob(self, center: Point, half_width: float, half_height: float, color: Color) -> None:
        (x, y), dx, dy = center, half_width * self.scale, half_height * self.scale
        self.brush.ellipse((x - dx, y - dy, x + dx, y + dy), fill=color)


def lit(scene: Floats, face: Face, lamp: Light) -> Floats:
    """Shade the ellipsoid of the head; hair, neck and shoulders beyond it are lit as its outline."""
    half = scene.shape[0] / face.picture_size
    rows, columns = np.indices(scene.shape[:2], dtype=np.float32)
    x = (columns - face.center[0] * half) / (face.scale * half * 0.85)
    y = (face.center[1] * half - rows) / (face.scale * half * 1.15)
    z = np.sqrt(np.maximum(1 - x * x - y * y, 0.02))
    length = np.sqrt(x * x + y * y + z * z)
    diffuse = np.maximum((x * lamp.direction[0] + y * lamp.direction[1] + z * lamp.direction[2]) / length, 0)
    shade = lamp.ambient + 0.15 + (0.85 - lamp.ambient) * diffuse
    return f32(np.clip(scene * (shade[..., None] * lamp.color), 0, 1))
