"""What surrounds a drawn hand or face: whose it is, which frame of which clip, the room, the light and the camera."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from sltdino.core.rng import generator
from sltdino.data.synthetic_render import Floats, Light, f32

CROP_SIZE = 128
SUPERSAMPLE = 2

Color = tuple[int, int, int]

_NUM_ROOMS, _NUM_SHIRTS, _NUM_LAMPS = 3, 3, 2  # few and shared: they tell neither signers nor clips apart

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

    def of_pool(self, what: str, size: int) -> np.random.Generator:
        """Random numbers of one of `size` things that all signers share; a clip keeps to one."""
        return generator(self.seed, what, int(self.of_clip(what).integers(size)))

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


def shirt(frame: Frame) -> np.random.Generator:
    """Random numbers of what the signer wears in a clip; the first ones make its `cloth_color`."""
    return frame.of_pool("shirt", _NUM_SHIRTS)


def light(frame: Frame) -> Light:
    """The lamp of a clip: from above, from any side, warm or cold; signers turn in it a little."""
    rng = frame.of_pool("lamp", _NUM_LAMPS)
    direction = np.array((rng.uniform(-0.7, 0.7), rng.uniform(0.2, 0.9), rng.uniform(0.8, 1.3)))
    direction += frame.of_frame("lamp").normal(0, 0.15, 3)
    warmth = rng.uniform(-0.07, 0.07)
    color = rng.uniform(0.95, 1.3) * np.array((1 + warmth, 1.0, 1 - warmth))
    return Light(f32(direction / np.linalg.norm(direction)), f32(color), ambient=float(rng.uniform(0.35, 0.55)))


def room(frame: Frame, *, size: int, chest: bool) -> Floats:
    """The plain wall of a studio, perhaps behind the signer's chest: `[size, size, 3]` in 0..1.

    Plain and evenly lit, so that nothing in it is of one image alone.
    """
    rng, seen = frame.of_pool("room", _NUM_ROOMS), frame.of_frame("room")
    picture = Image.new("RGB", (56, 56), byte_color(np.clip(rng.uniform(0.15, 0.9) + rng.normal(0, 0.04, 3), 0, 1)))
    if chest and seen.random() < 0.2:
        edge = seen.uniform(-60, 36, 2)  # seldom where the crop shows it: hands sign before the chest or beside it
        outline = [(0, 56), (0, edge[0]), (56, edge[1]), (56, 56)]
        ImageDraw.Draw(picture).polygon(outline, fill=byte_color(cloth_color(shirt(frame))))
    picture = picture.filter(ImageFilter.GaussianBlur(1)).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.float32) / 255


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
