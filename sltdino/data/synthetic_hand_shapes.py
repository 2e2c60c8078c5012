"""The shapes of the demo's hands: the angles of the joints for numbers and letters, in degrees."""

from typing import NamedTuple

Bend = tuple[float, ...]
"""How far the knuckle, the middle and the end joint of a finger close."""


class HandShape(NamedTuple):
    """Angles of the joints, and the side from which signers show the shape."""

    bends: tuple[Bend, ...]
    """Index to little finger."""
    spread: tuple[float, ...]
    """Index to little finger: sideways, towards the thumb."""
    thumb: tuple[tuple[float, float], ...]
    """Direction of each of three bones: from the fingers' direction towards the thumb side, and out of the palm."""
    view: tuple[float, float, float] = (0, 0, 0)
    """Turn about the forearm, tilt towards the viewer, and turn in the picture."""


_STRAIGHT, _CURLED = (4.0, 7.0, 4.0), (82.0, 102.0, 62.0)
_RELAXED, _APART, _TOGETHER = (5.0, 1.0, -3.0, -8.0), (17.0, 4.0, -10.0, -25.0), (-1.0, 0.0, 1.0, 2.0)
_THUMB_OUT = ((52.0, 12.0), (58.0, 6.0), (62.0, 2.0))
_THUMB_BESIDE = ((38.0, 18.0), (14.0, 10.0), (6.0, 4.0))
_THUMB_IN_PALM = ((30.0, 38.0), (-38.0, 24.0), (-55.0, 8.0))
_THUMB_OVER_FINGERS = ((34.0, 48.0), (-12.0, 48.0), (-72.0, 4.0))


def _raised(*fingers: int) -> tuple[Bend, ...]:
    """Straight fingers, 0 for the index to 3 for the little finger; the others are curled."""
    return tuple(_STRAIGHT if finger in fingers else _CURLED for finger in range(4))


HAND_SHAPES: dict[str, HandShape] = {
    "claw": HandShape(((22, 62, 42),) * 4, _APART, ((55, 30), (42, 28), (25, 26)), (20, 0, 0)),
    "fist": HandShape(_raised(), _TOGETHER, _THUMB_OVER_FINGERS),
    "five": HandShape(_raised(0, 1, 2, 3), _APART, _THUMB_OUT),
    "flat": HandShape(_raised(0, 1, 2, 3), _TOGETHER, _THUMB_BESIDE),
    "four": HandShape(_raised(0, 1, 2, 3), _APART, _THUMB_IN_PALM),
    "i-love-you": HandShape(_raised(0, 3), _RELAXED, _THUMB_OUT),
    "l": HandShape(_raised(0), _RELAXED, ((62, 10), (80, 4), (84, 0))),
    "one": HandShape(_raised(0), _RELAXED, _THUMB_OVER_FINGERS),
    "three": HandShape(_raised(0, 1), (14.0, -4.0, -3.0, -6.0), _THUMB_OUT),
    "thumb-up": HandShape(_raised(), _TOGETHER, ((62, 14), (82, 2), (88, -8)), (0, 0, 80)),
    "two": HandShape(_raised(0, 1), (13.0, -9.0, -3.0, -6.0), _THUMB_OVER_FINGERS),
    "y": HandShape(_raised(3), (2.0, 0.0, -2.0, -28.0), _THUMB_OUT),
    "zero": HandShape(
        ((52, 62, 40), (54, 62, 40), (56, 62, 40), (58, 62, 40)), _TOGETHER, ((34, 62), (16, 52), (4, 30)), (58, 0, 0)
    ),
}
"""The labels of the demo's hands. Thirteen: they take turns with the 20 signers."""
