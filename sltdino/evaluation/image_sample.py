"""A fixed sample of a data set's images, spread over its labels, with their features and what their names say."""

import os
import re
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sltdino.core.rng import generator
from sltdino.data.frame_names import frame_name
from sltdino.data.groups import group_name
from sltdino.data.image_folder import ImageFolder
from sltdino.errors import CheckpointError, DataError
from sltdino.evaluation.features import Pixels, readable_batches
from sltdino.models.vit import VisionTransformer

_CANDIDATES = 20_000  # of a large data set, so that its names need not all be looked at
_BATCH = 16
_SIGNER = re.compile(r"((?:signer|subject|person|speaker|participant)[-_ ]?[0-9]+)", re.IGNORECASE)


class ImageSample(NamedTuple):
    """Images that could be read, those of a label one after another as rarely as possible."""

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    """Empty for an image that lies in no sub-folder."""
    features_MD: Tensor
    """The CLS feature of each."""
    unreadable: int
    """Images left out."""


class ImageGroups(NamedTuple):
    """Who or what each image shows, beside its label: images of one group resemble one another whatever they mean."""

    name: str
    """`signer`, `clip` or `group`; empty where nothing is known."""
    of: tuple[str, ...]
    """Of each image; empty where its name does not say."""


def spread_sample(images: ImageFolder, count: int) -> list[int]:
    """Numbers of `count` images in a fixed random order that takes the labels in turn: one of each, then another."""
    order = generator(0, "pictures").permutation(len(images))[:_CANDIDATES].tolist()
    of_label: dict[str, list[int]] = {label: [] for label in images.labels}
    for index in order:
        of_label[images.label(index)].append(index)
    turns = chain.from_iterable(zip_longest(*of_label.values()))
    return [index for index in turns if index is not None][:count]


@torch.inference_mode()
def read_sample(network: VisionTransformer, images: ImageFolder, indices: Sequence[int], pixels: Pixels) -> ImageSample:
    """The images with the network's CLS features.

    Args:
        network: in evaluation mode.

    Raises:
        DataError: none of them can be read. CheckpointError: the network gives no numbers.
    """
    kept, features = list[int](), list[Tensor]()
    paths = [images.path(index) for index in indices]
    for rows, inputs in readable_batches(paths, pixels, size=_BATCH, on_bad=lambda path, reason: None):  # counted below
        kept += [indices[row] for row in rows]
        features.append(network(inputs))
    if not kept:
        raise DataError(f"none of {len(indices)} images can be read, for one {images.path(indices[0])}")
    features_MD = torch.cat(features)
    if not features_MD.isfinite().all():
        raise CheckpointError("its features are not finite; its weights are damaged", code="E-FEATURES")
    return ImageSample(
        tuple(images.path(index) for index in kept),
        tuple(images.label(index) for index in kept),
        features_MD,
        len(indices) - len(kept),
    )


def groups_of(paths: Sequence[Path], roots: Sequence[Path], *, pattern: re.Pattern[str] | None = None) -> ImageGroups:
    """What the names say about who is seen: by `pattern`, else by a signer's number, else by clip.

    A rule counts where it fits at least half of the names and tells two groups apart.

    Args:
        roots: the data set's folders; what lies above them is no part of a name.
        pattern: its one capture group names the group; searched in the file name, as `sltdino evaluate` does.
    """
    names = [_below(path, roots) for path in paths]
    rules = {
        "group": [group_name(path.name, pattern) for path in paths] if pattern else [],
        "signer": [group_name(name, _SIGNER) for name in names],
        "clip": [_clip(name) for name in names],
    }
    for rule, groups in rules.items():
        known = [group for group in groups if group]
        if 2 * len(known) >= len(names) and len(set(known)) > 1:
            return ImageGroups(rule, tuple(groups))
    return ImageGroups("", ("",) * len(names))


def _below(path: Path, roots: Sequence[Path]) -> str:
    root = next((root for root in roots if path.is_relative_to(root) and path != root), path.parent)
    return os.fspath(path.relative_to(root))


def _clip(name: str) -> str:
    folder, file = os.path.split(name)
    clip = frame_name(file).clip
    return os.path.join(folder, clip) if clip else ""
