"""The drawn hands: left and right are what anatomy says, seen from either side."""

import numpy as np
import pytest

from sltdino.data.synthetic_hand_shapes import HAND_SHAPES
from sltdino.data.synthetic_hands import HandPose, build_hand
from sltdino.data.synthetic_render import Skin

BACK, PALM, NAIL = np.array((0.1, 0.1, 0.1)), np.array((0.9, 0.9, 0.9)), np.array((1.0, 0.0, 0.0))


def built(*, left: bool, view: tuple[float, float, float]) -> dict[str, np.ndarray]:
    pose = HandPose(HAND_SHAPES["five"], view=view, wrist=(0, 0), left=left, proportions=np.ones(4))
    limbs = build_hand(pose, Skin(BACK, PALM, NAIL)).limbs
    return {
        "middle": limbs[5].end - limbs[3].start,
        "thumb": limbs[14].end - limbs[12].start,
        "palm": limbs[3].palm_side,
    }


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("view", [(0, 0, 0), (180, 0, 0), (40, 20, -70), (200, -30, 100)])
def test_a_left_hand_is_a_left_hand_from_every_side(left: bool, view: tuple[float, float, float]) -> None:
    """Fingers × thumb comes out of the back of a right hand, and out of the palm of a left one."""
    hand = built(left=left, view=view)
    handedness = np.cross(hand["middle"], hand["thumb"]) @ hand["palm"]
    assert (handedness > 0) == left


def test_the_thumb_of_a_right_palm_is_on_the_right_of_the_picture_and_of_its_back_on_the_left() -> None:
    palm, back = (built(left=False, view=view) for view in ((0, 0, 0), (180, 0, 0)))
    assert palm["palm"][2] > 0.9 > -0.9 > back["palm"][2]
    assert palm["thumb"][0] > 0 > back["thumb"][0]
