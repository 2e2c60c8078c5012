"""Any wall, any lamp and any camera: what the starter's drawings vary, so that features learn to ignore it.

Unlike `synthetic_scene`, whose few studios tell nothing apart, nothing here is shared between two drawings.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from sltdino.core.rng import fold_in
from sltdino.data.synthetic_render import Floats, Light, f32
from sltdino.data.synthetic_scene import Frame, byte_color

_COARSE = 36
"""Side in pixels of the pictures that backgrounds and light are made of, before they are enlarged."""
_GREY = np.array((0.299, 0.587, 0.114), dtype=np.float32)


class Drawn(NamedTuple):
    """A drawing, and what it is of."""

    image: NDArray[np.uint8]
    """RGB, `[size, size, 3]`."""
    plain: NDArray[np.uint8]
    """The same without wall, light and skin, at half the size: what is solid in the first channel, its form in two."""
    values: Floats
    """What is known about it wherever it stands in the picture, a number for each name of the stream."""
    places: Floats
    """Where its parts are, `[parts, 2]`: from the left and from the top, as shares of the side."""


def frame_of_its_own(seed: int, index: int) -> Frame:
    """A frame that shares its signer, room, shirt and lamp with no other."""
    return Frame(seed=fold_in(seed, "starter", index), number=0, signer=0, clip=0, moment=0.5)


def any_color(rng: np.random.Generator) -> Floats:
    """RGB in 0..1 from black to white, mostly grey, now and then as bright as paint."""
    saturation = rng.uniform(0, 1) ** 4
    return f32(np.clip(rng.uniform(0.02, 1.0) + 0.5 * saturation * rng.uniform(-1, 1, 3), 0, 1))


def any_light(rng: np.random.Generator) -> Light:
    """A lamp in front of the scene, from the camera's own flash to one far to the side, of any warmth."""
    sideways = 0.35 if rng.random() < 0.4 else 1.6
    direction = np.array((sideways * rng.normal(), 0.25 + sideways * rng.normal(), 1.0))
    warmth = rng.normal(0, 0.06, 2)
    color = rng.uniform(0.75, 1.4) * np.array((1 + warmth[0], 1.0, 1 - warmth[0] + warmth[1]))
    return Light(f32(direction / np.linalg.norm(direction)), f32(color), ambient=float(rng.uniform(0.15, 0.75)))


def any_background(rng: np.random.Generator, size: int) -> Floats:
    """What is behind: a plain wall, one with an edge, blurred things, or cloth; `[size, size, 3]` in 0..1."""
    wall = any_color(rng)
    kind = rng.choice(4, p=(0.6, 0.15, 0.2, 0.05))
    picture = Image.new("RGB", (_COARSE, _COARSE), byte_color(wall))
    if kind == 1:
        _edge(picture, rng, any_color(rng))
    elif kind == 2:
        for _ in range(rng.integers(2, 9)):
            _thing(picture, rng, any_color(rng) * 0.7 + wall * 0.3)
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 3)))
    large = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32) / 255
    if kind == 3 or rng.random() < 0.1:
        large = large + _texture(rng, size) * rng.uniform(0.01, 0.08)
    return np.clip(large, 0, 1)


def _edge(picture: Image.Image, rng: np.random.Generator, color: Floats) -> None:
    """Another wall, a table or a shoulder: all beyond a line."""
    angle, middle = rng.uniform(0, 2 * np.pi), _COARSE * (0.5 + rng.uniform(-0.35, 0.35, 2))
    along = 2 * _COARSE * np.array((np.cos(angle), np.sin(angle)))
    beyond = 2 * _COARSE * np.array((-np.sin(angle), np.cos(angle)))
    corners = (middle - along, middle + along, middle + along + beyond, middle - along + beyond)
    ImageDraw.Draw(picture).polygon([(float(x), float(y)) for x, y in corners], fill=byte_color(color))


def _thing(picture: Image.Image, rng: np.random.Generator, color: Floats) -> None:
    (x, y), (wide, high) = rng.uniform(0, _COARSE, 2), rng.uniform(2, 18, 2)
    brush = ImageDraw.Draw(picture)
    draw = brush.ellipse if rng.random() < 0.5 else brush.rectangle
    draw((x - wide, y - high, x + wide, y + high), fill=byte_color(color))


def _texture(rng: np.random.Generator, size: int) -> Floats:
    """Smooth noise of one grain, drawn out in one direction or none, of standard deviation about 1."""
    grain = rng.uniform(4, 40, 2).astype(int)
    noise = Image.fromarray(rng.standard_normal((grain[0], grain[1]), dtype=np.float32))
    return np.asarray(noise.resize((size, size), Image.Resampling.BILINEAR))[..., None]


def fall_off(rng: np.random.Generator, size: int) -> Floats:
    """How much of the light reaches each place: brighter towards one side, darker towards the corners or about a
    spot; `[size, size, 1]`."""
    y, x = np.mgrid[-1 : 1 : _COARSE * 1j, -1 : 1 : _COARSE * 1j].astype(np.float32)
    angle, slope = rng.uniform(0, 2 * np.pi), min(0.7, abs(rng.normal(0, 0.25)))
    light = 1 + slope * (np.cos(angle) * x + np.sin(angle) * y)
    if rng.random() < 0.6:
        center, depth = rng.normal(0, 0.35, 2), rng.uniform(0, 0.35)
        light = light * (1.1 - depth * ((x - center[0]) ** 2 + (y - center[1]) ** 2))
    coarse = Image.fromarray(f32(np.clip(light, 0.1, 1.8)))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BILINEAR))[..., None]


def cast_shadow(background: Floats, solid: Floats, light: Light, rng: np.random.Generator) -> Floats:
    """The background under the shadow of what is before it, `solid` `[size, size]` in 0..1."""
    size = solid.shape[0]
    distance, softness = rng.uniform(0.01, 0.16) * size, rng.uniform(0.2, 2.5)
    dx, dy = -light.direction[:2] / light.direction[2] * distance
    picture = Image.fromarray((255 * solid).astype(np.uint8)).resize((size // 4, size // 4), Image.Resampling.BOX)
    moved = picture.transform(picture.size, Image.Transform.AFFINE, (1, 0, -dx / 4, 0, 1, dy / 4), 2)
    shadow = np.asarray(moved.filter(ImageFilter.GaussianBlur(softness)).resize((size, size), 2), dtype=np.float32)
    return f32(background * (1 - rng.uniform(0.1, 0.7) * shadow[..., None] / 255))


def any_camera(scene: Floats, rng: np.random.Generator, *, size: int, grey: float) -> NDArray[np.uint8]:
    """What a good, bad or dim camera makes of a scene: uint8 `[size, size, 3]`, grey with that probability."""
    picture = Image.fromarray((np.clip(scene, 0, 1) * 255).astype(np.uint8))
    if rng.random() < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.0) ** 2 * 2.2 * scene.shape[0] / 144))
    pixels = np.asarray(picture.resize((size, size), Image.Resampling.BOX), dtype=np.float32) / 255
    pixels = pixels ** np.float32(np.exp(rng.normal(0, 0.2)))
    pixels = pixels * f32(1 + rng.normal(0, 0.05, 3))
    exposure, contrast = np.exp(rng.normal(0, 0.15)), np.exp(rng.normal(-0.05, 0.2))
    pixels = (pixels * exposure - 0.5) * contrast + 0.5 + rng.normal(0, 0.04)
    if rng.random() < grey:
        pixels = np.repeat((pixels @ _GREY)[..., None], 3, axis=2)
    noise = rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(0, 1) ** 3 * 0.04)
    return (np.clip(pixels + noise, 0, 1) * 255).astype(np.uint8)


def at_half_size(plain: Floats, *, size: int) -> NDArray[np.uint8]:
    """`Drawn.plain` of values in 0..1, for an image of `size`."""
    picture = Image.fromarray((np.clip(plain, 0, 1) * 255).astype(np.uint8))
    return np.asarray(picture.resize((size // 2, size // 2), Image.Resampling.BOX))
