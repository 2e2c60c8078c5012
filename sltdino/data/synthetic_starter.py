"""The drawings that the starter weights learn from: hands and faces of every kind, from (seed, index) alone."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sltdino.data.synthetic_render import Floats
from sltdino.data.synthetic_surroundings import Drawn, frame_of_its_own
from sltdino.data.synthetic_varied_faces import FACE_PLACES, FACE_VALUES, draw_any_face
from sltdino.data.synthetic_varied_hands import HAND_PLACES, HAND_VALUES, draw_any_hand

SIZE = 72
"""Side of a drawing, in pixels."""


class Subject(NamedTuple):
    """What is drawn, who draws it, and the names of what is known about it."""

    draw: Callable[..., Drawn]
    values: tuple[str, ...]
    places: tuple[str, ...]


SUBJECTS: dict[str, Subject] = {
    "hand": Subject(draw_any_hand, HAND_VALUES, HAND_PLACES),
    "face": Subject(draw_any_face, FACE_VALUES, FACE_PLACES),
}


class Drawings(NamedTuple):
    """Many drawings of one subject."""

    images: NDArray[np.uint8]
    """`[N, SIZE, SIZE, 3]`."""
    plain: NDArray[np.uint8]
    """`[N, SIZE / 2, SIZE / 2, 3]`; see `Drawn`."""
    values: Floats
    """`[N, values]`."""
    places: Floats
    """`[N, places, 2]`."""

    def at(self, where: slice) -> "Drawings":
        """Some of them."""
        return Drawings(self.images[where], self.plain[where], self.values[where], self.places[where])


def draw_many(subject: str, *, first: int, count: int, seed: int) -> Drawings:
    """Drawings `first` to `first + count` of a subject."""
    frames = (frame_of_its_own(seed, index) for index in range(first, first + count))
    images, plain, values, places = zip(*(SUBJECTS[subject].draw(frame, size=SIZE) for frame in frames), strict=True)
    return Drawings(np.stack(images), np.stack(plain), np.stack(values), np.stack(places))
