"""Features of clips, batch by batch: images decoded ahead, batches that cross clips, clips completed in order."""

import functools
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sltdino.core.ahead import ahead
from sltdino.data.checking.quality import CONSTANT_SPREAD
from sltdino.data.decode import BadImage, decode_loudly, quiet
from sltdino.data.image_folder import ImageFolder
from sltdino.errors import CheckpointError, ResourceError
from sltdino.evaluation.clips import Clip
from sltdino.evaluation.features import Pixels
from sltdino.models.vit import Features, VisionTransformer

TOKENS = {"cls": ("cls",), "mean": ("mean",), "both": ("cls", "mean")}
"""The arrays that each choice gives: the CLS token, the mean of the patch tokens."""
_TOKEN: dict[str, Callable[[Features], Tensor]] = {
    "cls": lambda features: features.cls_BD,
    "mean": lambda features: features.patches_BND.mean(dim=1),
}


class Status(IntEnum):
    """What row t of a clip is; only OK rows hold features, the others zeros."""

    OK = 0
    MISSING = 1
    """No image has this frame number."""
    BLACK = 2
    """The image is constant: nothing was detected."""
    BAD = 3
    """The image cannot be read."""


class BadFrame(NamedTuple):
    """An image that cannot be read, and why."""

    path: Path
    reason: str


class ClipFeatures:
    """The rows of a clip, filled as its batches come."""

    def __init__(self, clip: Clip, *, width: int, tokens: Sequence[str], dtype: str) -> None:
        self.clip = clip
        self.status = np.full(clip.num_rows, Status.MISSING, dtype=np.uint8)
        self.bad: list[BadFrame] = []
        self.waiting = len(clip.images)
        """Images whose rows are not filled yet."""
        self._width, self._tokens, self._dtype = width, tokens, dtype
        self._rows: dict[str, NDArray[Any]] = {}

    def fill(self, row: int, status: Status, features: dict[str, NDArray[Any]]) -> None:
        """Take the features of one image, or none of an image that has none."""
        self.status[row] = status
        self.waiting -= 1
        for name, feature in features.items():
            self._token(name)[row] = feature

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a file of the clip holds, by name."""
        first = self.clip.first
        return {
            **{name: self._token(name) for name in self._tokens},
            "frames": np.arange(first, first + self.clip.num_rows, dtype=np.int64),
            "status": self.status,
            "valid": self.status == Status.OK,
        }

    def _token(self, name: str) -> NDArray[Any]:
        if name not in self._rows:  # only now: clips whose images are still being decoded take no memory
            self._rows[name] = np.zeros((self.clip.num_rows, self._width), dtype=self._dtype)
        return self._rows[name]


class Step(NamedTuple):
    """A batch further."""

    num_images: int
    """Looked at so far, those without features included."""
    completed: tuple[ClipFeatures, ...]


class _Frame(NamedTuple):
    clip: ClipFeatures
    row: int
    path: Path


class _Loaded(NamedTuple):
    frame: _Frame
    status: Status
    image: Tensor | None = None
    reason: str = ""


def is_black(pixels_HWC: NDArray[np.uint8]) -> bool:
    """Whether an image is constant within CONSTANT_SPREAD levels a channel."""
    flat = pixels_HWC.reshape(-1, 3)
    return bool((flat.max(axis=0).astype(int) - flat.min(axis=0) <= CONSTANT_SPREAD).all())


def clip_features(
    network: VisionTransformer,
    images: ImageFolder,
    clips: Sequence[Clip],
    pixels: Pixels,
    *,
    tokens: str,
    dtype: str,
    batch_size: int,
    num_workers: int,
) -> Generator[Step, None, None]:
    """Embed the clips in order and yield after every batch, with the clips that it completed.

    Memory: the rows of the clips in a batch (a clip of 100,000 frames of width 384 takes 154 MB in float32), and the
    decoded images of about three batches.

    Args:
        network: in evaluation mode, on the device to compute on.
        batch_size: images in a batch, of as many clips as it takes; those without features leave their places empty.
        num_workers: threads that decode ahead; with 0 each image is decoded when its turn comes.

    Raises:
        CheckpointError: a feature is not finite. ResourceError: out of memory or file handles.
    """
    frames = (
        _Frame(rows, int(number - clip.first), images.path(int(index)))
        for clip in clips
        for rows in [ClipFeatures(clip, width=network.embed_dim, tokens=TOKENS[tokens], dtype=dtype)]
        for index, number in zip(clip.images, clip.frames, strict=True)
    )
    pool = ThreadPoolExecutor(max(1, num_workers))  # Pillow and the resampling work without Python's lock
    done = 0
    try:
        with quiet():
            load = functools.partial(_load, pixels=pixels)
            loaded = ahead(pool if num_workers else None, load, frames, most=2 * batch_size)
            while chunk := list(itertools.islice(loaded, batch_size)):
                done += len(chunk)
                yield Step(done, tuple(_fill(network, chunk, TOKENS[tokens], dtype)))
    finally:
        pool.shutdown(cancel_futures=True)


def _load(frame: _Frame, pixels: Pixels) -> _Loaded:
    try:
        decoded = decode_loudly(frame.path)
    except BadImage as bad:
        return _Loaded(frame, Status.BAD, reason=bad.reason)
    if is_black(decoded):
        return _Loaded(frame, Status.BLACK)
    return _Loaded(frame, Status.OK, image=pixels.prepare(decoded))


def _fill(
    network: VisionTransformer, chunk: Sequence[_Loaded], tokens: Sequence[str], dtype: str
) -> Iterator[ClipFeatures]:
    """Put the features of a batch into their rows; the clips that are complete now."""
    images = [item.image for item in chunk if item.image is not None]
    features = _forward(network, torch.stack(images), tokens, dtype) if images else {}
    place = 0
    for item in chunk:
        clip, row = item.frame.clip, item.frame.row
        if item.image is None:
            clip.fill(row, item.status, {})
        else:
            clip.fill(row, item.status, {name: array[place] for name, array in features.items()})
            place += 1
        if item.status is Status.BAD:
            clip.bad.append(BadFrame(item.frame.path, item.reason))
        if not clip.waiting:
            yield clip


def _forward(
    network: VisionTransformer, images: Tensor, tokens: Sequence[str], dtype: str
) -> dict[str, NDArray[np.floating]]:
    arrays = {name: feature.numpy() for name, feature in token_features(network, images, tokens).items()}
    with np.errstate(over="ignore"):  # the check below says it better
        features = {name: array.astype(dtype) for name, array in arrays.items()}
    for name, array in features.items():
        if not np.isfinite(array).all():
            message = f"features ({name}) of this backbone do not fit {dtype}; use --dtype float32"
            raise CheckpointError(message, code="E-FEATURES")
    return features


def token_features(network: VisionTransformer, images: Tensor, tokens: Sequence[str]) -> dict[str, Tensor]:
    """Features `[B, D]` of normalised images by token, in float32 on the CPU.

    Raises:
        CheckpointError: one is not finite. ResourceError: out of memory.
    """
    device = network.cls_token.device
    try:
        with torch.inference_mode():
            outputs = network.forward_features(images.to(device))
            features = {name: _TOKEN[name](outputs).float().cpu() for name in tokens}
    except torch.OutOfMemoryError as error:
        raise ResourceError(f"{device} is out of memory; use a smaller --batch-size") from error
    for name, feature in features.items():
        if not feature.isfinite().all():
            message = f"features ({name}) of this backbone are not finite; its weights are damaged"
            raise CheckpointError(message, code="E-FEATURES")
    return features
