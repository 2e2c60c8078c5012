"""The drawings that the starter weights learn from: they repeat, and what is said about them is what they show."""

import numpy as np
import pytest

from sltdino.data.synthetic_expressions import Expression
from sltdino.data.synthetic_hand_shapes import HandShape
from sltdino.data.synthetic_hands import THUMB_BONES, THUMB_ROOT, upright_limbs
from sltdino.data.synthetic_render import Skin, f32
from sltdino.data.synthetic_starter import SIZE, SUBJECTS, draw_many
from sltdino.data.synthetic_surroundings import frame_of_its_own
from sltdino.data.synthetic_varied_faces import FACE_PLACES, FACE_VALUES, any_expression
from sltdino.data.synthetic_varied_hands import HAND_PLACES, HAND_VALUES, any_pose, reach

GREY = Skin(f32((0.5, 0.5, 0.5)), f32((0.5, 0.5, 0.5)), f32((0.5, 0.5, 0.5)))


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_drawing_depends_on_seed_and_number_alone(subject: str) -> None:
    many, one = draw_many(subject, first=0, count=3, seed=5), draw_many(subject, first=2, count=1, seed=5)
    other = draw_many(subject, first=2, count=1, seed=6)
    for together, alone in zip(many, one, strict=True):
        assert np.array_equal(together[2], alone[0])
    assert not np.array_equal(one.images, other.images)
    assert not np.array_equal(one.values, other.values)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_there_is_a_number_for_each_name(subject: str) -> None:
    drawn, what = draw_many(subject, first=0, count=2, seed=0), SUBJECTS[subject]
    assert drawn.images.shape == (2, SIZE, SIZE, 3)
    assert drawn.plain.shape == (2, SIZE // 2, SIZE // 2, 3)
    assert drawn.values.shape == (2, len(set(what.values)))
    assert drawn.places.shape == (2, len(set(what.places)), 2)


def test_fingertips_and_features_of_the_face_are_where_the_drawing_is_solid() -> None:
    for subject in SUBJECTS:
        drawn = draw_many(subject, first=0, count=12, seed=1)
        seen = np.ones(drawn.places.shape[:2], dtype=bool)
        if subject == "hand":
            seen = drawn.values[:, [HAND_VALUES.index(f"{tip} seen") for tip in HAND_PLACES]] > 0.5
        columns, rows = np.clip((drawn.places * SIZE / 2).astype(int), 0, SIZE // 2 - 1).transpose(2, 0, 1)
        solid = drawn.plain[np.arange(12)[:, None], rows, columns, 0] > 60
        assert seen.sum() > 20
        assert solid[seen].mean() > 0.95


def test_left_and_right_hands_take_every_combination_of_raised_and_bent_fingers() -> None:
    found = set()
    for seed in range(300):
        pose = any_pose(rng(seed))
        raised = tuple(sum(bend) < 90 for bend in pose.shape.bends)
        found.add((raised, pose.left))
    assert len(found) == 2**4 * 2


def test_the_joints_of_a_finger_bend_only_as_far_as_they_can() -> None:
    bends = np.array([any_pose(rng(seed)).shape.bends for seed in range(100)])
    assert bends.min() >= -8
    assert (np.percentile(bends, 99, axis=(0, 1)) < (105, 125, 90)).all()
    assert (bends.reshape(-1, 3).max(axis=0) < 140).all()


def test_a_thumb_reaches_what_is_within_its_length_and_points_at_what_is_not() -> None:
    root, bones = np.array(THUMB_ROOT), np.array(THUMB_BONES)
    for seed in range(50):
        goal = root + rng(seed).uniform((0.0, 0.3, 0.1), (0.5, 0.6, 0.4))
        shape = HandShape(((0, 0, 0),) * 4, (0,) * 4, reach(f32(root), f32(goal), f32(bones), rng(seed)))
        thumb = upright_limbs(shape, np.ones(4, dtype=np.float32), GREY)[12:15]
        assert [float(np.linalg.norm(bone.end - bone.start)) for bone in thumb] == pytest.approx(THUMB_BONES, rel=1e-5)
        gap = np.linalg.norm(goal - thumb[0].end)
        if 0.35 < gap < 0.6:
            assert np.allclose(thumb[2].end, goal, atol=1e-5)
    far = np.array((3.0, 3.0, 0.0))
    angles = reach(f32(root), f32(far), f32(bones), rng(0))
    assert angles[1] == pytest.approx(angles[2], abs=12)


def test_expressions_reach_both_ends_and_neutral_is_between() -> None:
    values = np.array([any_expression(rng(seed)) for seed in range(500)])
    low, high = values.min(axis=0), values.max(axis=0)
    for number, name in enumerate(Expression._fields):
        assert high[number] > 0.7, name
        assert low[number] < (-0.6 if name != "jaw" else 0.05), name
        assert np.mean(np.abs(values[:, number]) < 0.15) > 0.1, name


def test_a_turned_face_has_its_nose_on_the_side_it_turns_to() -> None:
    drawn = draw_many("face", first=0, count=20, seed=2)
    turn = drawn.values[:, FACE_VALUES.index("turn")]
    places = dict(zip(FACE_PLACES, drawn.places.transpose(1, 0, 2), strict=True))
    eye_to_eye = places["right eye"] - places["left eye"]
    to_nose = places["nose"] - (places["left eye"] + places["right eye"]) / 2
    beside = (to_nose * eye_to_eye).sum(axis=1) / (eye_to_eye**2).sum(axis=1)  # upright, however the head tilts
    assert (np.sign(beside) == np.sign(turn))[np.abs(turn) > 0.2].all()
    assert (np.abs(turn) > 0.2).sum() > 4


def test_no_two_drawings_share_a_wall_or_a_lamp() -> None:
    frames = [frame_of_its_own(0, index) for index in range(50)]
    assert len({frame.of_pool("room", 3).random() for frame in frames}) == 50
    corners = draw_many("hand", first=0, count=6, seed=0).images[:, 0, 0]
    assert len(np.unique(corners, axis=0)) > 4
