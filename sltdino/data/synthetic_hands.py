"""Hands for the demo: a skeleton whose fingers bend and hide each other, seen from any side.

Hand space has the wrist at the origin, y towards the fingertips, z out of the palm and x towards the thumb (of a right
hand; a left hand is its mirror image). The palm is 1 long. Angles are in degrees.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from sltdino.data.synthetic_hand_shapes import HAND_SHAPES, HandShape
from sltdino.data.synthetic_render import Canvas, Floats, Limb, Skin, f32
from sltdino.data.synthetic_scene import (
    CROP_SIZE,
    SUPERSAMPLE,
    Frame,
    cloth_color,
    light,
    photograph,
    room,
    shirt,
    skin_color,
)

_KNUCKLES = ((0.31, 0.96, 0.0), (0.09, 1.0, -0.02), (-0.13, 0.95, -0.01), (-0.33, 0.84, 0.02))
_BONES = ((0.47, 0.28, 0.21), (0.52, 0.32, 0.22), (0.48, 0.30, 0.22), (0.37, 0.22, 0.19))
_THICKNESS = (0.118, 0.121, 0.114, 0.1)
THUMB_ROOT, THUMB_BONES, _THUMB_THICKNESS = (0.24, 0.2, 0.06), (0.42, 0.36, 0.28), (0.17, 0.122, 0.112, 0.082)


class HandPose(NamedTuple):
    """One hand in one frame."""

    shape: HandShape
    view: tuple[float, float, float]
    wrist: tuple[float, float]
    """How far the hand bends sideways and towards the palm from the forearm."""
    left: bool
    proportions: Floats
    """The signer's hand: length of the fingers, thickness of the fingers, width of the palm, thickness of the arm."""


class Hand(NamedTuple):
    """Limbs in units of the palm, turned towards the viewer; the arm is apart because crops are centred on the hand."""

    limbs: list[Limb]
    arm: list[Limb]


def draw_hand(label: str, frame: Frame) -> Image.Image:
    """The crop of a hand that shows a label's shape."""
    hand = build_hand(_pose(label, frame), hand_skin(skin_color(frame)))
    size, rng = CROP_SIZE * SUPERSAMPLE, frame.of_frame("framing")
    place = framing(hand.limbs, rng, size, fill=(0.68, 0.9), off_centre=0.03)
    canvas = Canvas(size)
    for limb in [*hand.limbs, *hand.arm, *_sleeve(hand.arm, shirt(frame))]:
        canvas.draw(place(limb))
    return photograph(canvas.compose(room(frame, size=size, chest=True), light(frame)), frame)


def build_hand(pose: HandPose, skin: Skin) -> Hand:
    """The limbs of a hand in a pose."""
    return turned_hand(upright_limbs(pose.shape, pose.proportions, skin), pose, skin)


def upright_limbs(shape: HandShape, proportions: Floats, skin: Skin) -> list[Limb]:
    """A right hand in hand space: three bones of each finger from the index on, three of the thumb, palm and web."""
    length, thickness, width, _ = (float(value) for value in proportions)
    wide = np.array((width, 1.0, 1.0))
    limbs = finger_limbs(shape, proportions, skin)
    limbs += _chain(
        np.array(THUMB_ROOT) * wide,
        [_direction(sideways, out) for sideways, out in shape.thumb],
        np.array(THUMB_BONES) * length,
        np.array(_THUMB_THICKNESS) * thickness,
        skin,
    )
    return [*limbs, *_palm(width, skin), *_web(limbs[12], np.array(_KNUCKLES[0]) * wide, skin)]


def finger_limbs(shape: HandShape, proportions: Floats, skin: Skin) -> list[Limb]:
    """The fingers of `upright_limbs` alone."""
    length, thickness, width, _ = (float(value) for value in proportions)
    limbs: list[Limb] = []
    wide = np.array((width, 1.0, 1.0))
    for knuckle, bones, radius, bend, spread in zip(
        _KNUCKLES, _BONES, _THICKNESS, shape.bends, shape.spread, strict=True
    ):
        angles = np.cumsum(bend)
        radii = radius * thickness * np.array((1.08, 0.98, 0.88, 0.7))
        directions = [_direction(spread * np.cos(np.radians(angle / 2)), angle) for angle in angles]
        limbs += _chain(np.array(knuckle) * wide, directions, np.array(bones) * length, radii, skin)
    return limbs


def turned_hand(upright: list[Limb], pose: HandPose, skin: Skin) -> Hand:
    """The left or right hand of upright limbs as the viewer sees it, on its forearm."""
    turn = _rotation(*pose.view) @ np.diag((-1.0 if pose.left else 1.0, 1.0, 1.0))
    arm = [_turned(limb, turn) for limb in _forearm(pose.wrist, float(pose.proportions[3]), skin)]
    return Hand([_turned(limb, turn) for limb in upright], arm)


def _forearm(wrist: tuple[float, float], thickness: float, skin: Skin) -> list[Limb]:
    # two bones side by side: a wrist is wider than it is deep
    far = -_direction(*wrist) * 4
    radius, out = (0.185 * thickness, 0.3 * thickness), f32((0, 0, 1))
    return [
        Limb(f32((x, 0.02, 0)), f32((far[0] + 2.2 * x, far[1], far[2])), radius, out, skin, 0.6)
        for x in (-0.09, 0.0, 0.09)
    ]


def _pose(label: str, frame: Frame) -> HandPose:
    """The hand moves through a clip from one way of showing the shape to another."""
    clip, shape = frame.of_clip("pose"), HAND_SHAPES[label]
    left = bool(frame.of_signer("side").random() < 0.15)
    # signers show a shape to the other person or, seldom, to themselves
    away = 180.0 if clip.random() < 0.25 else 0.0
    start, end = (clip.normal(0, 1, 24) for _ in range(2))
    noise = start * (1 - frame.moment) + end * frame.moment + frame.of_frame("pose").normal(0, 0.15, 24)
    bends = tuple(
        tuple(max(-8.0, angle + 6 * n) for angle, n in zip(bend, noise[3 * f : 3 * f + 3], strict=True))
        for f, bend in enumerate(shape.bends)
    )
    spread = tuple(angle + 2.5 * n for angle, n in zip(shape.spread, noise[12:16], strict=True))
    thumb = tuple((a + 5 * noise[16], b + 5 * noise[17]) for a, b in shape.thumb)
    yaw, pitch, roll = (v + s * n for v, s, n in zip(shape.view, (14, 10, 9), noise[18:21], strict=True))
    proportions = frame.of_signer("hand").normal((1.0, 1.0, 1.0, 1.0), (0.06, 0.07, 0.05, 0.07))
    mirrored = left != bool(away)  # what is up stays up on the mirror image and from behind
    return HandPose(
        shape._replace(bends=bends, spread=spread, thumb=thumb),
        view=(yaw + away, pitch, -roll if mirrored else roll),
        wrist=(10 * noise[21], 14 * noise[22]),
        left=left,
        proportions=f32(proportions),
    )


def hand_skin(back: Floats) -> Skin:
    """The colours of a hand whose back has one, RGB in 0..1."""
    # palms and nails are lighter, the more so the darker the skin
    darkness = 1 - float(back.mean())
    palm = back + (np.array((0.93, 0.70, 0.60)) - back) * (0.15 + 0.6 * darkness)
    nail = back + (np.array((0.96, 0.80, 0.76)) - back) * 0.45
    return Skin(back, f32(palm), f32(nail))


def _sleeve(arm: list[Limb], rng: np.random.Generator) -> list[Limb]:
    color, bare = cloth_color(rng), rng.random() < 0.3
    return [] if bare else cuff(arm, color, begin=rng.uniform(0.04, 0.13), wide=rng.uniform(1.25, 1.6))


def cuff(arm: list[Limb], color: Floats, *, begin: float, wide: float, end: float = 1.0) -> list[Limb]:
    """Cloth about a share of the forearm, so many times as wide."""
    cloth = Skin(color, color, color)
    return [
        bone._replace(
            start=f32(bone.start + begin * (bone.end - bone.start)),
            end=bone.end if end == 1 else f32(bone.start + end * (bone.end - bone.start)),
            radius=(bone.radius[0] * wide * 1.15, bone.radius[1] * wide),
            skin=cloth,
        )
        for bone in arm
    ]


def framing(
    limbs: list[Limb], rng: np.random.Generator, size: int, *, fill: tuple[float, float], off_centre: float
) -> Callable[[Limb], Limb]:
    """From palm units to pixels, as a detector would crop: the hand fills most of the picture, not quite centred."""
    ends = np.array([(limb.start, limb.end) for limb in limbs])[..., :2].reshape(-1, 2)
    low, high = ends.min(axis=0) - 0.1, ends.max(axis=0) + 0.1
    scale = size * rng.uniform(*fill) / float((high - low).max())
    shift = size * (0.5 + rng.normal(0, off_centre, 2)) - scale * (low + high) / 2
    move = f32((*shift, 0))

    def place(limb: Limb) -> Limb:
        near, far = limb.radius
        return limb._replace(
            start=limb.start * scale + move, end=limb.end * scale + move, radius=(near * scale, far * scale)
        )

    return place


def _direction(sideways: float, out: float) -> Floats:
    """Unit vector, `sideways` from the fingers' direction to the thumb's side and `out` of the palm, in degrees."""
    side, lift = np.radians(sideways), np.radians(out)
    return f32((np.sin(side) * np.cos(lift), np.cos(side) * np.cos(lift), np.sin(lift)))


def _chain(root: Floats, directions: list[Floats], lengths: Floats, radii: Floats, skin: Skin) -> list[Limb]:
    """Bones in a row; `radii` has one entry more than there are bones."""
    limbs: list[Limb] = []
    start = f32(root)
    for number, (direction, length) in enumerate(zip(directions, lengths, strict=True)):
        end = f32(start + direction * length)
        side = np.array((0.0, -direction[2], direction[1]))  # x × direction: the palm side turns as a finger bends
        palm_side = f32(side / (np.linalg.norm(side) + 1e-6))
        is_tip = number == len(directions) - 1
        limbs.append(Limb(start, end, (float(radii[number]), float(radii[number + 1])), palm_side, skin, nail=is_tip))
        start = end
    return limbs


def _palm(width: float, skin: Skin) -> list[Limb]:
    # more ribs than bones: side by side they make a surface without grooves
    out = f32((0, 0, 1))
    limbs: list[Limb] = []
    for share in np.linspace(0, 3, 7):
        number = min(int(share), 2)
        top = np.array(_KNUCKLES[number]) * (1 - (share - number)) + np.array(_KNUCKLES[number + 1]) * (share - number)
        root = np.array((0.19 - 0.125 * share, 0.06, 0.0))
        roundness = 1.0 if share in (0, 3) else 0.2
        limbs.append(Limb(f32(root * (width, 1, 1)), f32(top * (width, 1, 1)), (0.17, 0.125), out, skin, roundness))
    heel = Limb(f32((-0.17 * width, 0.16, 0.04)), f32((-0.28 * width, 0.6, 0.02)), (0.17, 0.13), out, skin, 0.7)
    ball = Limb(f32((0.17 * width, 0.2, 0.06)), f32((0.31 * width, 0.75, 0.01)), (0.18, 0.125), out, skin, 0.7)
    return [*limbs, heel, ball]


def _web(metacarpal: Limb, knuckle: Floats, skin: Skin) -> list[Limb]:
    """The skin between the thumb's first bone and the index finger's knuckle."""
    root, bone = metacarpal.start, metacarpal.end - metacarpal.start
    out = f32((0, 0, 1))
    return [
        Limb(f32(root + along * bone), f32(root + up * (knuckle - root)), (0.12, 0.1), out, skin, 0.5)
        for along, up in ((0.45, 0.4), (0.7, 0.6), (0.95, 0.75))
    ]


def _rotation(yaw: float, pitch: float, roll: float) -> Floats:
    (sy, sp, sr), (cy, cp, cr) = np.sin(np.radians((yaw, pitch, roll))), np.cos(np.radians((yaw, pitch, roll)))
    about_y = np.array(((cy, 0, sy), (0, 1, 0), (-sy, 0, cy)))
    about_x = np.array(((1, 0, 0), (0, cp, -sp), (0, sp, cp)))
    about_z = np.array(((cr, -sr, 0), (sr, cr, 0), (0, 0, 1)))
    return f32(about_z @ about_x @ about_y)


def _turned(limb: Limb, turn: Floats) -> Limb:
    return limb._replace(start=f32(turn @ limb.start), end=f32(turn @ limb.end), palm_side=f32(turn @ limb.palm_side))
