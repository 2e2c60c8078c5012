"""What surrounds a drawn hand or face: whose it is, which frame of which clip, the room, the light and the camera."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from sltdino.core.rng import generator
from sltdino.data.synthetic_render import Floats, Light, f32

CROP_SIZE = 128
SUPERSAMPLE = 2

Color = tuple[int, int, int]

_SKIN = ((250, 214, 190), (236, 188, 156), (214, 160, 122), (182, 124, 88), (136, 90, 62), (94, 62, 44))


class Frame(NamedTuple):
    """One frame of a clip in which a signer shows one label."""

    seed: int
    number: int
    signer: int
    clip: int
    moment: float
    """When in the clip, from 0 to 1."""

    def of_signer(self, *what: str) -> np.random.Generator:
        """Random numbers that every frame of the signer shares."""
        return generator(self.seed, "signer", self.signer, *what)

    def of_clip(self, *what: str) -> np.random.Generator:
        """Random numbers that every frame of the clip shares."""
        return generator(self.seed, "clip", self.signer, self.clip, *what)

    def of_frame(self, *what: str) -> np.random.Generator:
        """Random numbers of this frame alone."""
        return generator(self.seed, "frame", self.number, *what)


def skin_color(frame: Frame) -> Floats:
    """The signer's skin, RGB in 0..1."""
    rng = frame.of_signer("skin")
    place = rng.uniform(0, len(_SKIN) - 1.001)
    tones = np.array(_SKIN, dtype=np.float32) / 255
    share = np.float32(place % 1)
    color = tones[int(place)] * (1 - share) + tones[int(place) + 1] * share
    return f32(np.clip(color * rng.uniform(0.95, 1.05, 3), 0, 1))


def cloth_color(rng: np.random.Generator) -> Floats:
    """A colour of clothes or walls, RGB in 0..1: seldom bright, seldom saturated."""
    grey, saturation = rng.uniform(0.08, 0.85), rng.uniform(0, 0.4) ** 1.5
    return f32(np.clip(grey + saturation * rng.uniform(-1, 1, 3), 0.03, 0.95))


def light(frame: Frame) -> Light:
    """The lamp of a clip: from above, from any side, warm or cold, hard or soft."""
    rng = frame.of_clip("light")
    direction = np.array((rng.uniform(-0.9, 0.9), rng.uniform(0.1, 1.0), rng.uniform(0.7, 1.3)))
    warmth = rng.uniform(-0.07, 0.07)
    color = rng.uniform(0.95, 1.3) * np.array((1 + warmth, 1.0, 1 - warmth))
    return Light(f32(direction / np.linalg.norm(direction)), f32(color), ambient=float(rng.uniform(0.25, 0.55)))


def room(frame: Frame, *, size: int) -> Floats:
    """A cluttered background out of focus, or the signer's clothes: `[size, size, 3]` in 0..1."""
    rng = frame.of_clip("room")
    wall = cloth_color(frame.of_signer("wall"))
    picture = Image.new("RGB", (56, 56), byte_color(wall))
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(2, 9)):
        x, y = rng.uniform(-12, 56, 2)
        shape = draw.rectangle if rng.random() < 0.6 else draw.ellipse
        shape((x, y, x + rng.uniform(4, 34), y + rng.uniform(4, 34)), fill=byte_color(cloth_color(rng)))
    if rng.random() < 0.5:  # the chest behind the hand
        neck = (rng.uniform(5, 51), rng.uniform(-8, 12))
        chest = [(0, 56), (0, rng.uniform(4, 36)), neck, (56, rng.uniform(4, 36)), (56, 56)]
        draw.polygon(chest, fill=byte_color(cloth_color(frame.of_signer("shirt"))))
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 2.0)))
    left, top = 4 + frame.of_frame("drift").uniform(-1.5, 1.5, 2)
    picture = picture.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + 48, top + 48))
    pixels = np.asarray(picture, dtype=np.float32) / 255
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    slope = rng.uniform(-0.25, 0.25, 2).astype(np.float32)
    return f32(np.clip(pixels * (1 + slope[0] * ramp[None, :, None] + slope[1] * ramp[:, None, None]), 0, 1))


def photograph(scene: Floats, frame: Frame) -> Image.Image:
    """What a video camera makes of a scene `[size, size, 3]`: motion blur, exposure, noise, and `CROP_SIZE` pixels."""
    rng = frame.of_frame("camera")
    picture = Image.fromarray((np.clip(scene, 0, 1) * 255).astype(np.uint8))
    pixels = np.asarray(picture.resize((CROP_SIZE, CROP_SIZE), Image.Resampling.BOX), dtype=np.float32)
    if rng.random() < 0.35:
        pixels = _motion_blurred(pixels, length=rng.uniform(1.5, 7), angle=rng.uniform(0, np.pi))
    exposure, contrast = rng.normal(1, 0.05), rng.normal(1, 0.06)
    pixels = (pixels * exposure - 128) * contrast + 128
    noise = rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(1.0, 5.0))
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def _motion_blurred(pixels: Floats, *, length: float, angle: float) -> Floats:
    places = np.linspace(-length / 2, length / 2, 5)
    moves = {(round(place * np.sin(angle)), round(place * np.cos(angle))) for place in places}
    padded = np.pad(pixels, ((4, 4), (4, 4), (0, 0)), mode="edge")
    total = np.zeros_like(pixels)
    for dy, dx in sorted(moves):
        total += padded[4 + dy : 4 + dy + pixels.shape[0], 4 + dx : 4 + dx + pixels.shape[1]]
    return f32(total / len(moves))


def byte_color(color: Floats) -> Color:
    """RGB in 0..1 as Pillow takes it."""
    red, green, blue = (int(255 * value) for value in color)
    return red, green, blue
