"""Draw round limbs with light and shadow: a small z-buffer renderer in numpy, for the demo crops.

Camera space has x to the right, y up and z towards the viewer, in pixels; the projection is parallel.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.floating[Any]]


class Light(NamedTuple):
    """Where the light comes from and how much there is."""

    direction: Floats
    """Unit vector towards the light, `[3]`."""
    color: Floats
    ambient: float


class Skin(NamedTuple):
    """Colours of a hand's two sides and its nails, RGB in 0..1."""

    back: Floats
    palm: Floats
    nail: Floats


class Limb(NamedTuple):
    """A tapered limb with round ends: a sphere swept from `start` to `end`."""

    start: Floats
    end: Floats
    radius: tuple[float, float]
    palm_side: Floats
    """Unit vector out of the palm side, `[3]`."""
    skin: Skin
    roundness: float = 1.0
    """How round its sides are shaded; less for the ribs that make a palm."""
    nail: bool = False


class Canvas:
    """Depth, normals and colours of the nearest surface in each pixel."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.depth: Floats = np.full((size, size), -np.inf, dtype=np.float32)
        self.normals: Floats = np.zeros((size, size, 3), dtype=np.float32)
        self.albedo: Floats = np.zeros((size, size, 3), dtype=np.float32)

    def draw(self, limb: Limb) -> None:
        """Add a limb; only what is nearer than the surfaces drawn before shows."""
        (ax, ay, az), axis = limb.start, limb.end - limb.start
        window = self._window(limb)
        x = np.arange(window[1].start, window[1].stop, dtype=np.float32)[None, :] - ax
        y = self.size - 1 - np.arange(window[0].start, window[0].stop, dtype=np.float32)[:, None] - ay
        flat = max(float(np.hypot(axis[0], axis[1])), 1e-3)
        along, across = (x * axis[0] + y * axis[1]) / flat, (y * axis[0] - x * axis[1]) / flat

        # where the ray through a pixel meets the cylinder, along the axis; beyond an end it is that end's sphere
        r0, r1 = limb.radius
        wall = np.sqrt(np.maximum((0.5 * (r0 + r1)) ** 2 - across**2, 0))
        slope = float(axis[2]) / float(np.linalg.norm(axis) + 1e-6)
        t = np.clip((along + wall * slope) / flat, 0, 1)
        radius = r0 + (r1 - r0) * t
        dx, dy = x - t * axis[0], y - t * axis[1]
        square = radius**2 - dx**2 - dy**2
        dz = np.sqrt(np.maximum(square, 0))
        depth = az + t * axis[2] + dz
        nearest = (square > 0) & (depth > self.depth[window])
        seen = np.nonzero(nearest)

        outward = np.stack((dx[seen], dy[seen], dz[seen]), axis=-1) / radius[seen][:, None]
        place = (seen[0] + window[0].start, seen[1] + window[1].start)
        self.depth[place] = depth[seen]
        self.normals[place] = outward if limb.roundness == 1 else _flattened(outward, axis, limb.roundness)
        self.albedo[place] = _colors(limb, outward, t[seen], across[seen] / radius[seen])

    def _window(self, limb: Limb) -> tuple[slice, slice]:
        reach = max(limb.radius) + 1
        low = np.minimum(limb.start, limb.end) - reach
        high = np.maximum(limb.start, limb.end) + reach
        rows = np.clip((self.size - 1 - high[1], self.size - low[1]), 0, self.size).astype(int)
        columns = np.clip((low[0], high[0] + 1), 0, self.size).astype(int)
        return slice(rows[0], rows[1]), slice(columns[0], columns[1])

    def compose(self, background: Floats, light: Light) -> Floats:
        """The lit surfaces over a background; both `[size, size, 3]` in 0..1."""
        solid = np.nonzero(np.isfinite(self.depth))
        normals = self.normals[solid]
        diffuse = np.maximum((normals @ light.direction + 0.25) / 1.25, 0)
        rim = 0.6 + 0.4 * np.sqrt(normals[:, 2])  # round things darken towards their outline: it separates the fingers
        shade = (light.ambient + (1 - light.ambient) * diffuse) * rim * (1 - 0.55 * self._occlusion()[solid])
        # what little light reaches the shadows of skin has passed through it, and is red
        tint = light.color * np.stack((shade**0.9, shade, shade**1.05), axis=-1)
        scene = background.copy()
        scene[solid] = np.clip(self.albedo[solid] * tint, 0, 1)
        return scene

    def _occlusion(self) -> Floats:
        """How much of a pixel's surroundings stands in front of it, 0..1; computed on every fourth pixel."""
        depth = np.where(np.isfinite(self.depth), self.depth, -1e4)[::4, ::4]
        reach = self.size / 14
        found = np.zeros_like(depth)
        for radius in (2, 4):
            padded = np.pad(depth, radius, constant_values=-1e4)
            for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
                moved = padded[
                    radius + dy * radius : radius + dy * radius + depth.shape[0],
                    radius + dx * radius : radius + dx * radius + depth.shape[1],
                ]
                found += np.clip((moved - depth) / reach - 0.3, 0, 1)
        picture = Image.fromarray(np.clip(found / 8, 0, 1).astype(np.float32))
        return np.asarray(picture.resize((self.size, self.size), Image.Resampling.BILINEAR))


def _flattened(normals: Floats, axis: Floats, roundness: float) -> Floats:
    side = np.array((axis[1], -axis[0], 0), dtype=np.float32) / np.float32(np.hypot(axis[0], axis[1]) + 1e-6)
    bent = normals - (1 - roundness) * (normals @ side)[:, None] * side
    return f32(bent / np.linalg.norm(bent, axis=1, keepdims=True))


def _colors(limb: Limb, normals: Floats, t: Floats, across: Floats) -> Floats:
    facing = normals @ limb.palm_side
    share = np.clip(0.5 + 1.2 * facing, 0, 1)[:, None]
    colors = limb.skin.back * (1 - share) + limb.skin.palm * share
    if limb.nail:
        colors[(facing < -0.35) & (t > 0.35) & (t < 0.98) & (np.abs(across) < 0.62)] = limb.skin.nail
    return f32(colors)


def f32(values: object) -> Floats:
    """As an array of float32."""
    return np.asarray(values, dtype=np.float32)
