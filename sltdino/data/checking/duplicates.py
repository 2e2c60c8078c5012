"""Which images are copies of others: the same pixels, nearly the same picture, a frame like the frame before it."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sltdino.data.checking.likeness import Likeness
from sltdino.data.checking.near_pairs import MAX_BITS, close_pairs
from sltdino.data.checking.perceptual_hash import num_different_bits
from sltdino.data.checking.quality import Measured


class Duplicates(NamedTuple):
    """Copies, by the places of the images in the list that was measured. Images without content are no copies."""

    same: tuple[NDArray[np.int64], ...]
    """Groups of images with the same pixels, each in order."""
    near: tuple[NDArray[np.int64], ...]
    """Groups of images of different clips that are nearly the same, each in order. Of images with the same pixels only
    the first takes part."""
    repeats: NDArray[np.int64]
    """Frames of clips that are nearly the same as, or have the same pixels as, the one before them."""
    left_out: int
    """Pairs that were not compared, because too many images look alike."""


def find_duplicates(
    measured: Measured,
    has_content: NDArray[np.bool_],
    clip_of: NDArray[np.int64],
    frame_of: NDArray[np.int64],
    *,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> Duplicates:
    """Find all copies.

    Near-duplicates have hashes that differ in at most 8 of 64 bits, all such pairs being found (`close_pairs`), and
    thumbnails that are alike (`Likeness`); groups are what is connected by them. A mirrored picture is
    no copy: left and right mean something in signing.

    Args:
        has_content: images to compare; black and constant ones are all alike and say nothing.
        clip_of: the clip of every image, a number of its own for one that is of none; 0 or more.
        frame_of: the frame number of every image of a clip, else -1.
    """
    places = np.flatnonzero(has_content)
    same = _same_pixels(measured.images["digest"], places)
    likeness = Likeness.of(measured, places)
    repeats = _repeats(measured, likeness, places, clip_of, frame_of)
    is_first = has_content.copy()
    for group in same:
        is_first[group[1:]] = False
    firsts = np.flatnonzero(is_first)
    joined, left_out = _Joined(len(clip_of)), 0
    for close in close_pairs(measured.images["hash"][firsts], clip_of[firsts], on_progress=on_progress):
        left_out += close.left_out
        pairs = firsts[close.pairs_M2]
        pairs = pairs[joined.apart(pairs)]
        joined.join(pairs[likeness.alike(measured.thumbs_NHW, pairs)])
    return Duplicates(same, tuple(joined.groups()), repeats, left_out)


def _same_pixels(digests_N2: NDArray[np.uint64], places: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    digests = digests_N2[places]
    order = np.lexsort((places, digests[:, 1], digests[:, 0]))
    edges = np.flatnonzero((digests[order[1:]] != digests[order[:-1]]).any(axis=1)) + 1
    groups = [group for group in np.split(places[order], edges) if len(group) > 1]
    return tuple(sorted(groups, key=lambda group: int(group[0])))


def _repeats(
    measured: Measured,
    likeness: Likeness,
    places: NDArray[np.int64],
    clip_of: NDArray[np.int64],
    frame_of: NDArray[np.int64],
) -> NDArray[np.int64]:
    numbered = places[frame_of[places] >= 0]
    in_time = numbered[np.lexsort((frame_of[numbered], clip_of[numbered]))]
    pairs = np.stack([in_time[:-1], in_time[1:]], axis=1)
    pairs = pairs[clip_of[pairs[:, 0]] == clip_of[pairs[:, 1]]]
    hashes = measured.images["hash"]
    pairs = pairs[num_different_bits(hashes[pairs[:, 0]], hashes[pairs[:, 1]]) <= MAX_BITS]
    return np.sort(pairs[likeness.alike(measured.thumbs_NHW, pairs)][:, 1])


class _Joined:
    """Groups of things that were joined pair by pair (union-find)."""

    def __init__(self, number: int) -> None:
        self._parent = np.arange(number)

    def apart(self, pairs_M2: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which pairs are not in one group yet."""
        while True:
            upper = self._parent[self._parent]
            if np.array_equal(upper, self._parent):
                break
            self._parent = upper
        is_apart: NDArray[np.bool_] = self._parent[pairs_M2[:, 0]] != self._parent[pairs_M2[:, 1]]
        return is_apart

    def join(self, pairs_M2: NDArray[np.int64]) -> None:
        """Make one group of those of each pair, led by its smallest member."""
        for one, other in pairs_M2.tolist():
            low, high = sorted((self._top(one), self._top(other)))
            self._parent[high] = low

    def groups(self) -> Iterator[NDArray[np.int64]]:
        """Those of at least two, in order."""
        self.apart(np.empty((0, 2), dtype=np.int64))
        members = np.flatnonzero(np.bincount(self._parent, minlength=len(self._parent))[self._parent] > 1)
        order = members[np.argsort(self._parent[members], kind="stable")]
        if len(order):
            yield from np.split(order, np.flatnonzero(np.diff(self._parent[order])) + 1)

    def _top(self, member: int) -> int:
        parent = self._parent
        while parent[member] != member:
            parent[member] = parent[parent[member]]
            member = int(parent[member])
        return member
