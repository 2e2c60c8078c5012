"""A few frames of many clips, well apart in time: what retrieval by clip is measured on."""

import os
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sltdino.core.rng import generator
from sltdino.data.image_folder import ImageFolder
from sltdino.evaluation.clips import frame_of

MAX_CLIPS, FRAMES = 100, 5
MIN_GAP = 10
"""Frames from one to the next, at the least: 0.4 s at 25 a second, in which a signing hand goes elsewhere."""
_TRIES = 1_000  # images looked at, to find clips
_MAX_LENGTH = 500  # images of a clip looked at, to each side of the one that was met


class ClipSample(NamedTuple):
    """Frames of clips; none where names carry no clips, or fewer than two."""

    paths: tuple[Path, ...]
    clips_N: Tensor
    """The number of each frame's clip."""

    @property
    def num_clips(self) -> int:
        """Clips that it has frames of."""
        return len(set(self.clips_N.tolist()))


def sample_clips(images: ImageFolder) -> ClipSample:
    """Up to five frames of each of up to a hundred clips, the same in every run over these images.

    A clip is what `<video>_f<number>` names in one folder, as in `clips`; other images are left out. Clips with no two
    frames far enough apart are too.
    """
    draws = generator(0, "clips").permutation(len(images))[:_TRIES].tolist()
    clips, seen = dict[tuple[str, str], list[int]](), set[tuple[str, str]]()
    for index in draws:
        clip = _clip(images, index)
        if clip is None or clip in seen:
            continue
        seen.add(clip)
        if len(picked := _spread(_frames(images, index, clip))) > 1:
            clips[clip] = picked
        if len(clips) == MAX_CLIPS:
            break
    if len(clips) < 2:
        return ClipSample((), torch.empty(0, dtype=torch.long))
    rows = [(index, number) for number, picked in enumerate(clips.values()) for index in picked]
    return ClipSample(tuple(images.path(index) for index, _ in rows), torch.tensor([number for _, number in rows]))


def _clip(images: ImageFolder, index: int) -> tuple[str, str] | None:
    folder, name = os.path.split(images.path(index))
    frame = frame_of(name)
    return None if frame is None else (folder, frame.clip)


def _frames(images: ImageFolder, index: int, clip: tuple[str, str]) -> list[tuple[int, int]]:
    """Frame number and index of the images of a clip, in the order of time. They lie side by side in a scan."""
    start, end = index, index + 1
    while start > max(0, index - _MAX_LENGTH) and _clip(images, start - 1) == clip:
        start -= 1
    while end < min(len(images), index + _MAX_LENGTH) and _clip(images, end) == clip:
        end += 1
    found = []
    for place in range(start, end):
        frame = frame_of(images.path(place).name)
        assert frame is not None
        found.append((frame.number, place))
    return sorted(found)


def _spread(frames: list[tuple[int, int]]) -> list[int]:
    """The images of up to `FRAMES` frames, evenly over the clip and never closer than `MIN_GAP`."""
    apart = max(MIN_GAP, (frames[-1][0] - frames[0][0]) / (FRAMES - 1))
    picked, number_after = list[int](), float("-inf")
    for number, index in frames:
        if number >= number_after and len(picked) < FRAMES:
            picked.append(index)
            number_after = number + apart
    return picked
