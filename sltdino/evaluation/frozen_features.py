"""Features of many images by several frozen networks, and their raw pixels: each image is decoded once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sltdino.core.ahead import ahead
from sltdino.data.decode import BadImage, decode_loudly, quiet
from sltdino.errors import DataError
from sltdino.evaluation.clip_features import TOKENS, token_features
from sltdino.evaluation.features import Pixels, raw_pixels
from sltdino.models.vit import VisionTransformer

RAW_PIXELS = "raw pixels"


class BadFile(NamedTuple):
    """An image that cannot be read, and why."""

    path: Path
    reason: str


class Frozen(NamedTuple):
    """Features of the images that can be read."""

    features: dict[str, Tensor]
    """`[N, D]` in float32 on the CPU, for each network by its name, and for `RAW_PIXELS`."""
    rows: list[int]
    """Which images they are, of those that were given."""
    bad: tuple[BadFile, ...]


class _Loaded(NamedTuple):
    row: int
    image: Tensor | None
    reason: str


def frozen_features(
    networks: Mapping[str, VisionTransformer],
    paths: Sequence[Path],
    pixels: Pixels,
    *,
    tokens: str,
    batch_size: int,
    num_workers: int,
    on_batch: Callable[[int], None],
) -> Frozen:
    """Embed the images by each network; `tokens` of a row of `TOKENS` that has two stand behind each other.

    Args:
        networks: in evaluation mode, on the device to compute on.
        num_workers: threads that decode ahead; with 0 each image is decoded when its turn comes.
        on_batch: called with the number of images of every batch.

    Raises:
        DataError: fewer than two of the images can be read. CheckpointError: a feature is not finite.
        ResourceError: out of memory.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in (*networks, RAW_PIXELS)}
    rows, bad = list[int](), list[BadFile]()
    for batch in _batches(paths, pixels, batch_size, num_workers):
        bad += [BadFile(paths[item.row], item.reason) for item in batch if item.image is None]
        images = [item.image for item in batch if item.image is not None]
        rows += [item.row for item in batch if item.image is not None]
        if images:
            stacked = torch.stack(images)
            parts[RAW_PIXELS].append(raw_pixels(stacked))
            for name, network in networks.items():
                found = token_features(network, stacked, TOKENS[tokens])
                parts[name].append(torch.cat([found[token] for token in TOKENS[tokens]], dim=1))
        on_batch(len(batch))
    if len(rows) < 2:
        first = f"; {bad[0].path}: {bad[0].reason}" if bad else ""
        raise DataError(f"{len(rows)} of {len(paths):,} labelled images can be read{first}")
    return Frozen({name: torch.cat(found) for name, found in parts.items()}, rows, tuple(bad))


def _batches(paths: Sequence[Path], pixels: Pixels, size: int, num_workers: int) -> Iterator[list[_Loaded]]:
    def load(row: int) -> _Loaded:
        try:
            return _Loaded(row, pixels.prepare(decode_loudly(paths[row])), "")
        except BadImage as bad:
            return _Loaded(row, None, bad.reason)

    pool = ThreadPoolExecutor(max(1, num_workers))
    try:
        with quiet():
            batch: list[_Loaded] = []
            for loaded in ahead(pool if num_workers else None, load, iter(range(len(paths))), most=2 * size):
                batch.append(loaded)
                if len(batch) == size:
                    yield batch
                    batch = []
            if batch:
                yield batch
    finally:
        pool.shutdown(cancel_futures=True)
