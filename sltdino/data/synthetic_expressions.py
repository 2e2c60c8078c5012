"""What the demo's faces do: the brows, eyes, mouths and movements of the head that sign languages use as grammar."""

from typing import NamedTuple


class Expression(NamedTuple):
    """What a face does; all zero is neutral. Left and right are the picture's."""

    brows: float = 0
    """-1 drawn together and down to 1 raised."""
    lids: float = 0
    """-1 closed to 1 wide open."""
    gaze: float = 0
    """-1 left to 1 right."""
    jaw: float = 0
    """0 closed to 1 wide open."""
    lips: float = 0
    """-1 pursed to 1 spread."""
    smile: float = 0
    """-1 corners down to 1 corners up."""
    turn: float = 0
    """-1 towards the left to 1 towards the right."""
    tilt: float = 0
    """-1 the crown to the left to 1 to the right."""
    nod: float = 0
    """-1 chin down to 1 chin up."""


EXPRESSIONS: dict[str, Expression] = {
    "brows-down": Expression(brows=-1, lids=-0.25),
    "brows-up": Expression(brows=1, lids=0.7),
    "chin-down": Expression(nod=-1),
    "chin-up": Expression(nod=1),
    "eyes-closed": Expression(lids=-1),
    "look-left": Expression(gaze=-1),
    "look-right": Expression(gaze=1),
    "mouth-open": Expression(jaw=1),
    "mouth-round": Expression(jaw=0.5, lips=-1),
    "neutral": Expression(),
    "smile": Expression(smile=1, lips=0.8, jaw=0.25),
    "tilt-left": Expression(tilt=-1),
    "tilt-right": Expression(tilt=1),
    "turn-left": Expression(turn=-1),
    "turn-right": Expression(turn=1),
}
"""The labels of the demo's faces."""
