"""What the names of the images of a data set say: clips and frames, sides, signers."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sltdino.data.frame_names import frame_name
from sltdino.data.groups import group_name
from sltdino.data.image_folder import ImageFolder

SIDES = ("", "left", "right")
_TOKEN = r"(?:^|[^a-z]){}(?:$|[^a-z])"
_SIDE_NAMES = tuple(
    re.compile("|".join(_TOKEN.format(name) for name in (word, f"{letter}[-_. ]?hands?", f"hands?[-_. ]?{letter}")))
    for word, letter in (("left", "l"), ("right", "r"))
)
"""`hand_l`, `left`, `r-hand`; a folder `l` alone may be a letter of the finger alphabet."""


class Names(NamedTuple):
    """Facts of every image, by its place in the list of all."""

    clip_of: NDArray[np.int64]
    """Number of its clip; an image of none has a number of its own."""
    frame_of: NDArray[np.int64]
    """Frame number, -1 for an image of no clip."""
    clips: tuple[str, ...]
    """Names of the clips, by number, without their folders; numbers beyond are of single images."""
    side_of: NDArray[np.uint8]
    """Place in `SIDES`, by the names of its folders."""
    signer_of: NDArray[np.int64]
    """Number of its signer, -1 for none."""
    signers: tuple[str, ...]


def read_names(folders: Sequence[ImageFolder], roots: Sequence[Path], *, group: re.Pattern[str] | None = None) -> Names:
    """Read the names of the images of several folders, one folder after the other.

    Args:
        roots: for each of `folders` what its images' paths are relative to.
        group: captures the signer in a file name; images whose names do not match have none.
    """
    total = sum(map(len, folders))
    clip_of, frame_of = np.empty(total, dtype=np.int64), np.full(total, -1, dtype=np.int64)
    side_of, signer_of = np.zeros(total, dtype=np.uint8), np.full(total, -1, dtype=np.int64)
    clips: dict[tuple[int, str, str], int] = {}
    signers: dict[str, int] = {}
    sides: dict[str, int] = {}
    folders_below: dict[str, str] = {}
    place = 0
    for number, (images, root) in enumerate(zip(folders, roots, strict=True)):
        for index in range(len(images)):
            where, name = os.path.split(images.path(index))
            if where not in folders_below:  # a million images lie in few folders
                folders_below[where] = os.path.relpath(where, root)
            folder = folders_below[where]
            clip, frame = frame_name(name)
            if clip:
                clip_of[place] = clips.setdefault((number, folder, clip), len(clips))
                frame_of[place] = frame
            else:
                clip_of[place] = -1
            if folder not in sides:
                sides[folder] = _side(folder)
            side_of[place] = sides[folder]
            if group is not None and (signer := group_name(name, group)):
                signer_of[place] = signers.setdefault(signer, len(signers))
            place += 1
    alone = np.flatnonzero(clip_of < 0)
    clip_of[alone] = len(clips) + np.arange(len(alone))
    return Names(clip_of, frame_of, tuple(clip for _, _, clip in clips), side_of, signer_of, tuple(signers))


def _side(folder: str) -> int:
    """By the deepest folder that names one side."""
    for name in reversed(folder.lower().split(os.sep)):
        found = [side for side, pattern in enumerate(_SIDE_NAMES, 1) if pattern.search(name)]
        if len(found) == 1:
            return found[0]
    return 0
