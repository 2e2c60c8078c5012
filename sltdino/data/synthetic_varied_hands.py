"""Hands in any pose a hand can take, and what of it a network can be asked for."""

import numpy as np

from sltdino.data.synthetic_hand_shapes import HandShape
from sltdino.data.synthetic_hands import (
    THUMB_BONES,
    THUMB_ROOT,
    Hand,
    HandPose,
    cuff,
    finger_limbs,
    framing,
    hand_skin,
    turned_hand,
    upright_limbs,
)
from sltdino.data.synthetic_render import Canvas, Floats, Limb, f32
from sltdino.data.synthetic_scene import Frame, skin_color
from sltdino.data.synthetic_surroundings import (
    Drawn,
    any_background,
    any_camera,
    any_color,
    any_light,
    at_half_size,
    cast_shadow,
    fall_off,
)

FINGERS = ("index", "middle", "ring", "little")
TIPS = ("thumb", *FINGERS)
_LAST_BONES = (14, 2, 5, 8, 11)
"""Which of a hand's limbs are the tips, thumb first."""
_SIZE = 144

HAND_VALUES: tuple[str, ...] = (
    *(f"{finger} knuckle" for finger in FINGERS),
    *(f"{finger} curl" for finger in FINGERS),
    *(f"{tip} tip {axis}" for tip in TIPS for axis in ("sideways", "up", "out")),
    *(f"thumb near {finger}" for finger in FINGERS),
    *(f"{what} {axis}" for what in ("fingers point", "palm faces") for axis in ("right", "up", "near")),
    "left hand",
    *(f"{tip} seen" for tip in TIPS),
)
"""What is known about a drawn hand. Joints and tips are of the hand itself, as if it were a right one."""
HAND_PLACES = TIPS
"""Whose places in the picture are known."""


def any_pose(rng: np.random.Generator) -> HandPose:
    """Every finger on its own, any of the usual places of the thumb, mostly upright with the palm or back in sight."""
    kind = rng.random()
    if kind < 0.15:  # all fingers alike: fists, claws, flat and round hands
        first = _finger(rng)
        bends = [_shaken(first, rng) for _ in FINGERS]
    else:
        bends = [_finger(rng) for _ in FINGERS]
    pinched = int(rng.integers(4)) if rng.random() < 0.3 else None
    if pinched is not None:
        pinch = _shaken((rng.uniform(35, 72), rng.uniform(45, 80), rng.uniform(20, 45)), rng)
        bends = [pinch if finger == pinched or kind < 0.15 else bend for finger, bend in enumerate(bends)]
    apart = rng.uniform(-0.1, 1.1)
    spread = apart * np.array((17.0, 4.0, -10.0, -25.0)) + (1 - apart) * np.array((-1.0, 0.0, 1.0, 2.0))
    spread = spread + rng.normal(0, 2.5, 4)
    shape = HandShape(tuple(bends), tuple(float(v) for v in spread), ((45.0, 20.0), (45.0, 20.0), (45.0, 20.0)))
    proportions = f32(np.clip(rng.normal((1.0, 1.0, 1.0, 1.0), (0.09, 0.11, 0.08, 0.12)), 0.75, 1.3))
    shape = shape._replace(thumb=_thumb(shape, proportions, pinched, rng))
    return HandPose(shape, _view(rng), tuple(rng.normal(0, (12, 14), 2)), bool(rng.random() < 0.5), proportions)


def _finger(rng: np.random.Generator) -> tuple[float, ...]:
    kind = rng.random()
    if kind < 0.45:
        return _shaken((4.0, 7.0, 4.0), rng)
    if kind < 0.8:
        return _shaken((rng.uniform(55, 88), rng.uniform(92, 108), rng.uniform(35, 65)), rng)
    middle = rng.uniform(0, 105)
    return _shaken((rng.uniform(0, 85), middle, rng.uniform(0.3, 0.7) * middle), rng)


def _shaken(bend: tuple[float, ...], rng: np.random.Generator) -> tuple[float, ...]:
    return tuple(float(max(-8.0, angle + 5 * rng.normal())) for angle in bend)


def _view(rng: np.random.Generator) -> tuple[float, float, float]:
    """Degrees about the forearm, towards the viewer and in the picture."""
    if rng.random() < 0.04:
        return (float(rng.uniform(0, 360)), float(rng.uniform(-80, 80)), float(rng.uniform(-180, 180)))
    facing = rng.choice((0.0, 180.0, 90.0, -90.0), p=(0.68, 0.22, 0.05, 0.05))
    roll = rng.uniform(-90, 90) if rng.random() < 0.1 else rng.normal(0, 15)
    return (float(facing + rng.normal(0, 20)), float(rng.normal(0, 15)), float(roll))


def _thumb(
    shape: HandShape, proportions: Floats, pinched: int | None, rng: np.random.Generator
) -> tuple[tuple[float, float], ...]:
    """Angles of three bones that bring the thumb's tip to a fingertip, over or beside the fingers, or away."""
    fingers = finger_limbs(shape, proportions, _NO_SKIN)
    length, _, width, _ = (float(value) for value in proportions)
    if pinched is not None:
        tip = fingers[3 * pinched + 2]
        goal = tip.end + 0.13 * tip.palm_side
    else:
        finger = int(rng.integers(4))
        bone = fingers[3 * finger + 1]
        place = rng.choice(4, p=(0.34, 0.26, 0.2, 0.2))
        goal = (
            np.array((1.0, 0.75, 0.1)) + rng.normal(0, 0.2, 3),  # out
            f32(bone.start + rng.uniform(0, 1) * (bone.end - bone.start)) + np.array((0, 0, 0.22)),  # over a finger
            np.array((rng.uniform(-0.3, 0.25), rng.uniform(0.65, 0.95), rng.uniform(0.15, 0.3))),  # in the palm
            np.array((0.42, 1.05, 0.1)) + rng.normal(0, 0.08, 3),  # beside the index finger
        )[place]
        goal = goal * np.array((width, 1, 1))
    return reach(f32(np.array(THUMB_ROOT) * (width, 1, 1)), f32(goal), np.array(THUMB_BONES) * length, rng)


def reach(root: Floats, goal: Floats, bones: Floats, rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
    """Directions of three bones, in degrees, that end as near to `goal` as a thumb can."""
    usual = np.array((0.62, 0.62, 0.48)) + rng.normal(0, 0.1, 3)
    first = _unit(usual + 0.7 * _unit(goal - root))
    joint = root + bones[0] * first
    rest = goal - joint
    nearest, farthest = abs(bones[1] - bones[2]) + 0.25, 0.995 * (bones[1] + bones[2])
    distance = float(np.clip(np.linalg.norm(rest), nearest, farthest))
    ahead = _unit(rest)
    bulge = _unit(first - (first @ ahead) * ahead)  # the last joint bends on, the way the first did
    cosine = (bones[1] ** 2 + distance**2 - bones[2] ** 2) / (2 * bones[1] * distance)
    second = cosine * ahead + np.sqrt(max(0.0, 1 - cosine**2)) * bulge
    third = _unit(distance * ahead - bones[1] * second)
    return tuple(_angles(direction) for direction in (first, second, third))


def _unit(vector: Floats) -> Floats:
    return vector / (np.linalg.norm(vector) + 1e-9)


def _angles(direction: Floats) -> tuple[float, float]:
    x, y, z = direction
    return float(np.degrees(np.arctan2(x, y))), float(np.degrees(np.arcsin(np.clip(z, -1, 1))))


_NO_SKIN = hand_skin(f32((0.5, 0.5, 0.5)))


def draw_any_hand(frame: Frame, *, size: int) -> Drawn:
    """A hand in any pose before any wall, and its `HAND_VALUES`."""
    pose = any_pose(frame.of_frame("pose"))
    tint = frame.of_frame("tint")
    skin = hand_skin(f32(np.clip(skin_color(frame) * tint.normal(1, 0.06, 3), 0.03, 1)))
    upright = upright_limbs(pose.shape, pose.proportions, skin)
    hand = turned_hand(upright, pose, skin)
    place = framing(hand.limbs, frame.of_frame("framing"), _SIZE, fill=(0.6, 0.95), off_centre=0.05)
    canvas = Canvas(_SIZE)
    for limb in [*hand.limbs, *hand.arm, *_worn(hand, tint)]:
        canvas.draw(place(limb))
    light, rng = any_light(frame.of_frame("light")), frame.of_frame("background")
    background = any_background(rng, _SIZE)
    if rng.random() < 0.6:
        background = cast_shadow(background, np.isfinite(canvas.depth).astype(np.float32), light, rng)
    scene = canvas.compose(background, light) * fall_off(rng, _SIZE)
    image = any_camera(scene, frame.of_frame("camera"), size=size, grey=0.25)
    tips = [place(hand.limbs[number]) for number in _LAST_BONES]
    seen = [float(_is_seen(tip, canvas)) for tip in tips]
    places = np.array([(tip.end[0], _SIZE - tip.end[1]) for tip in tips]) / _SIZE
    solid = np.isfinite(canvas.depth)[..., None]
    plain = np.concatenate((solid, 0.5 + 0.5 * canvas.normals[..., :2] * solid), axis=2)
    return Drawn(image, at_half_size(plain, size=size), f32((*_known(pose, upright, hand), *seen)), f32(places))


def _worn(hand: Hand, rng: np.random.Generator) -> list[Limb]:
    """A sleeve, a bracelet or nothing."""
    kind = rng.random()
    if kind < 0.45:
        return []
    if kind < 0.6:
        begin = rng.uniform(0.03, 0.1)
        return cuff(hand.arm, any_color(rng), begin=begin, end=begin + rng.uniform(0.015, 0.04), wide=1.12)
    return cuff(hand.arm, any_color(rng), begin=rng.uniform(0.03, 0.2), wide=rng.uniform(1.1, 1.6))


def _known(pose: HandPose, upright: list[Limb], hand: Hand) -> list[float]:
    """`HAND_VALUES` but the last: what can be seen takes the picture."""
    bends = np.radians(pose.shape.bends)
    ends = np.array([upright[number].end for number in _LAST_BONES])
    gaps = np.linalg.norm(ends[1:] - ends[0], axis=1)
    middle = hand.limbs[18]  # of the ribs that make the palm
    turned = (*_unit(middle.end - middle.start), *middle.palm_side)
    side = 1.0 if pose.left else -1.0
    near = np.exp(-((gaps / 0.35) ** 2))
    return [*np.sin(bends[:, 0]), *np.cos(0.9 * bends[:, 1:].sum(1)), *ends.ravel(), *near, *turned, side]


def _is_seen(tip: Limb, canvas: Canvas) -> bool:
    column, row = round(float(tip.end[0])), canvas.size - 1 - round(float(tip.end[1]))
    if not (0 <= column < canvas.size and 0 <= row < canvas.size):
        return False
    return bool(canvas.depth[row, column] < tip.end[2] + 1.6 * tip.radius[1])
