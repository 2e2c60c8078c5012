"""Group crops into clips by their names, each with its frames in order."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sltdino.core.json_files import text
from sltdino.data.frame_names import frame_name
from sltdino.data.image_folder import ImageFolder
from sltdino.data.scanner import natural_key
from sltdino.errors import DataError

_FREE_ROWS, _ROWS_AN_IMAGE, _MOST_ROWS = 10_000, 100, 1_000_000


class Clip(NamedTuple):
    """The images of one video, in the order of their frames."""

    file: str
    """Where its features go, relative to the output folder and without a suffix: `hand_l/video7`."""
    images: NDArray[np.int64]
    """Indices of its images."""
    frames: NDArray[np.int64]
    """Their frame numbers, which increase strictly but may have gaps."""
    numbered: bool
    """Whether the numbers come from the file names; if not they count the images of a folder from 0."""

    @property
    def first(self) -> int:
        """The frame number of row 0."""
        return int(self.frames[0])

    @property
    def num_rows(self) -> int:
        """One for every frame from the first to the last, whether there is an image of it or not."""
        return int(self.frames[-1]) - self.first + 1


def group_clips(images: ImageFolder, root: Path) -> tuple[Clip, ...]:
    """Sort images into clips.

    Crops named `<video>_f<number>` in one folder are the clip `<video>` of that folder, whatever lies in others. The
    images of a folder that are named otherwise are one clip named after the folder: frame 0, 1, … in natural order.

    Raises:
        DataError: two images are one frame of a clip; two clips would have one file; the numbers in a clip are so far
            apart that they cannot be frame numbers.
    """
    clip_of, frame_of = np.empty(len(images), dtype=np.int64), np.zeros(len(images), dtype=np.int64)
    numbers: dict[tuple[str, str], int] = {}  # of (folder, clip), without a name for the clip that a folder is
    for index in range(len(images)):
        folder, name = os.path.split(images.path(index))
        clip, frame_of[index] = frame_name(name)
        clip_of[index] = numbers.setdefault((folder, clip), len(numbers))
    order = np.lexsort((frame_of, clip_of))
    starts = np.searchsorted(clip_of[order], np.arange(len(numbers) + 1))
    clips = []
    for (folder, name), start, end in zip(numbers, starts[:-1], starts[1:], strict=True):
        members = order[start:end]
        relative = os.path.relpath(folder, root)
        if name:
            clips.append(Clip(os.path.normpath(os.path.join(relative, name)), members, frame_of[members], True))
        else:
            members = np.array(sorted(members, key=lambda index: natural_key(os.fsencode(images.path(index)))))
            file = (root.name or "images") if relative == "." else relative
            clips.append(Clip(file, members, np.arange(len(members)), False))
    _check(clips, images)
    return tuple(clips)


def _check(clips: Sequence[Clip], images: ImageFolder) -> None:
    seen: dict[str, Clip] = {}
    for clip in clips:
        other = seen.setdefault(text(clip.file), clip)
        if other is not clip:
            raise DataError(
                f"{images.path(int(other.images[0]))} and {images.path(int(clip.images[0]))} belong to two clips, and "
                f"the features of both would be {clip.file}; rename one, or embed the two folders apart"
            )
        same = np.flatnonzero(np.diff(clip.frames) == 0)
        if len(same):
            one, two = (images.path(int(clip.images[same[0] + i])) for i in (0, 1))
            raise DataError(f"{one} and {two.name} are both frame {clip.frames[same[0]]} of one clip; keep one of them")
        most = min(_FREE_ROWS + _ROWS_AN_IMAGE * len(clip.images), _MOST_ROWS)
        if clip.num_rows > most:
            raise DataError(
                f"{images.path(int(clip.images[-1]))}: frames {clip.first} to {clip.frames[-1]} of {len(clip.images)} "
                f"images would take {clip.num_rows:,} rows (at most {most:,}); is the number after _f a frame number?"
            )
