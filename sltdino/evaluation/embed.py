"""Frame-aligned features of clips, for the next stage of a sign-language pipeline."""

import contextlib
import copy
import hashlib
import itertools
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch

from sltdino.core.distributed import join
from sltdino.core.json_files import data, now, text
from sltdino.core.settings_base import known
from sltdino.core.signals import STOP_SIGNALS, StopRequest
from sltdino.data.checking.quality import CONSTANT_SPREAD
from sltdino.data.image_folder import ImageFolder, common_folder, scan
from sltdino.errors import DataError, SettingsError, StoppedError
from sltdino.evaluation.clip_features import ClipFeatures, Status, Step, clip_features
from sltdino.evaluation.clips import Clip, group_clips
from sltdino.evaluation.embed_files import FeatureFolder, Finished
from sltdino.evaluation.features import Pixels
from sltdino.models.vit import VisionTransformer

_SHOWN_BAD = 20
"""Unreadable images that a clip's entry names; its `status` has all of them."""


class Backbone(Protocol):
    """A network and what it expects; `TrainedBackbone` is one."""

    @property
    def network(self) -> VisionTransformer: ...
    @property
    def mean(self) -> tuple[float, float, float]: ...
    @property
    def std(self) -> tuple[float, float, float]: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...


class EmbedOptions(NamedTuple):
    """What to write, and how to get there."""

    tokens: Literal["cls", "mean", "both"] = "cls"
    dtype: Literal["float32", "float16"] = "float32"
    format: Literal["npz", "safetensors"] = "npz"
    image_size: int | None = None
    """Side the images are resized to; the backbone's own when None."""
    batch_size: int = 64
    num_workers: int = 0
    """Threads that decode images ahead; with 0 each is decoded when its turn comes."""
    device: str = "auto"


_DEFAULTS = EmbedOptions()


class Counts(NamedTuple):
    """Sums over clips."""

    clips: int
    frames: int
    """Rows."""
    images: int
    missing: int
    black: int
    bad: int


class EmbedReport(NamedTuple):
    """What a call did."""

    index_file: Path
    counts: Counts
    """Over all clips, those of earlier calls included."""
    clips_before: int
    """Of them, those that an earlier call had finished."""
    bad_images: tuple[dict[str, str], ...]
    """Path and reason of the first of them."""
    notices: tuple[str, ...]
    """What the search for images passed over."""
    images_per_second: float
    """In this call; 0 when there was nothing left to do."""


def embed(
    backbone: Backbone,
    inputs: Sequence[Path],
    out: Path,
    *,
    options: EmbedOptions = _DEFAULTS,
    origin: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> EmbedReport:
    """Write the features of every clip in `inputs` to `out`, and an index of them; the same call continues itself.

    Crops named `<video>_f<frame number>` in one folder are a clip. Its file has a row for every frame from the first to
    the last, so that row t is frame first + t: `cls` and/or `mean` `[T, D]`, `frames` `[T]` int64, `status` `[T]` uint8
    (see `Status`) and `valid` `[T]` bool (status is OK). Rows without features are zeros. The other images of a folder
    are one clip: frames 0, 1, … in natural order of their names, which its file then holds as `names`. Files mirror the
    sub-folders below the input, or below the folder that several inputs share.

    Args:
        inputs: folders, searched, and images.
        origin: where the backbone comes from, for the index.
        on_progress: called with the images done, and those to do, after every batch.

    Raises:
        MissingInputError, DataError: no images; two are one frame; not one of them can be read.
        SettingsError, RunFolderError, ChangeRefusedError, RunInUseError: as `FeatureFolder`; `out` is in an input.
        CheckpointError: features are not finite. ResourceError: out of memory.
        StoppedError: a signal asked to stop; the finished clips stand.
    """
    pixels = _checked(backbone, inputs, out, options)
    device = join(options.device).device
    images, root = scan(inputs), common_folder(inputs)
    clips = group_clips(images, root)
    place = FeatureFolder(out, _settings(backbone.network, pixels, options, root), overwrite=overwrite)
    try:
        network = copy.deepcopy(backbone.network).to(device).eval()
        work = _work(place, images, clips, _steps(network, pixels, options), on_progress)
        counts = _counts(work.finished)
        facts = {
            "created": now(),
            "complete": not work.stopped_by,
            "backbone": {**(origin or {}), "metadata": data(backbone.metadata)},
        }
        index = place.write_index({**facts, "counts": counts._asdict()}, work.finished)
    finally:
        place.close()
    if work.stopped_by:
        raise StoppedError(
            f"{out}: {work.stopped_by} came; {counts.clips:,} of {len(clips):,} clips are finished and stand; "
            "the same command goes on with the others",
            exit_code=STOP_SIGNALS[work.stopped_by],
        )
    bad = tuple(itertools.islice((bad for clip in work.finished for bad in clip.bad_images), _SHOWN_BAD))
    if counts.bad == counts.images:
        raise DataError(f"not one of {counts.images:,} images can be read; {bad[0]['path']}: {bad[0]['reason']}")
    return EmbedReport(index, counts, work.clips_before, bad, images.warnings, work.images_per_second)


def weights_sha256(network: torch.nn.Module) -> str:
    """Digest of the names, shapes and float32 values of a network's weights, wherever they were stored."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {list(value.shape)}\n".encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


class _Work(NamedTuple):
    finished: list[Finished]
    clips_before: int
    stopped_by: str | None
    images_per_second: float


def _work(
    place: FeatureFolder,
    images: ImageFolder,
    clips: Sequence[Clip],
    steps: Callable[[ImageFolder, Sequence[Clip]], Generator[Step, None, None]],
    on_progress: Callable[[int, int], None],
) -> _Work:
    """Write the clips that no earlier call finished, until a signal comes."""
    sources = {clip.file: _source(images, clip) for clip in clips}
    found = {file: place.finished(file, source) for file, source in sources.items()}
    finished = {file: clip for file, clip in found.items() if clip is not None}
    to_do = [clip for clip in clips if clip.file not in finished]
    place.start([clip.file for clip in to_do])
    clips_before, started, done, total = len(finished), time.monotonic(), 0, sum(len(clip.images) for clip in to_do)
    with StopRequest() as stop, contextlib.closing(steps(images, to_do)) as going:
        for step in going:
            for rows in step.completed:
                file = rows.clip.file
                names = [] if rows.clip.numbered else [text(images.path(int(i)).name) for i in rows.clip.images]
                entry = _entry(rows, file=f"{file}.{place.suffix}", source=sources[file])
                finished[file] = place.add(file, entry, rows.arrays(), names)
            done = step.num_images
            on_progress(done, total)
            if stop.requested and len(finished) < len(clips):
                break
    stopped_by = stop.requested if len(finished) < len(clips) else None
    in_order = [finished[clip.file] for clip in clips if clip.file in finished]
    return _Work(in_order, clips_before, stopped_by, done / (time.monotonic() - started))


def _entry(rows: ClipFeatures, *, file: str, source: str) -> Finished:
    count = np.bincount(rows.status, minlength=len(Status)).tolist()
    return Finished(
        file=text(file),
        first_frame=rows.clip.first,
        frames=rows.clip.num_rows,
        images=len(rows.clip.images),
        missing=count[Status.MISSING],
        black=count[Status.BLACK],
        bad=count[Status.BAD],
        bad_images=[{"path": text(str(bad.path)), "reason": text(bad.reason)} for bad in rows.bad[:_SHOWN_BAD]],
        source=source,
    )


def _counts(clips: Sequence[Finished]) -> Counts:
    return Counts(len(clips), *(sum(getattr(clip, field) for clip in clips) for field in Counts._fields[1:]))


def _source(images: ImageFolder, clip: Clip) -> str:
    """Digest of the names, sizes and times of a clip's images: when it is another one, the features are too."""
    digest = hashlib.blake2b(digest_size=16)
    for index in clip.images:
        path = images.path(int(index))
        try:
            status = path.stat()
            digest.update(b"%s\0%d %d\n" % (os.fsencode(path.name), status.st_size, status.st_mtime_ns))
        except OSError:  # gone since it was listed; reading it will say so
            digest.update(b"%s\0gone\n" % os.fsencode(path.name))
    return digest.hexdigest()


def _steps(
    network: VisionTransformer, pixels: Pixels, options: EmbedOptions
) -> Callable[[ImageFolder, Sequence[Clip]], Generator[Step, None, None]]:
    return lambda images, clips: clip_features(
        network,
        images,
        clips,
        pixels,
        tokens=options.tokens,
        dtype=options.dtype,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
    )


def _settings(network: VisionTransformer, pixels: Pixels, options: EmbedOptions, root: Path) -> dict[str, Any]:
    """What the features depend on. The architecture: what the shapes of the weights do not tell."""
    return {
        "weights_sha256": weights_sha256(network),
        "num_heads": known(network.vit.num_heads),
        "layer_norm_eps": known(network.vit.layer_norm_eps),
        "image_size": pixels.size,
        "mean": pixels.mean,
        "std": pixels.std,
        "tokens": options.tokens,
        "dtype": options.dtype,
        "format": options.format,
        "black_spread": CONSTANT_SPREAD,
        "status": {status.name.lower(): status.value for status in Status},
        "root": root,
    }


def _checked(backbone: Backbone, inputs: Sequence[Path], out: Path, options: EmbedOptions) -> Pixels:
    """How an image becomes the network's input, once what was asked for is known to be possible."""
    if options.batch_size < 1 or options.num_workers < 0:
        raise SettingsError(f"embed: {options.batch_size} images a batch and {options.num_workers} threads cannot be")
    size, patch = options.image_size or backbone.network.image_size, known(backbone.network.vit.patch_size)
    if size % patch:
        raise SettingsError(f"--image-size: {size} is not a multiple of the backbone's patch size {patch}")
    for folder in inputs:
        if out.resolve().is_relative_to(folder.resolve()):
            raise SettingsError(f"--output: {out} lies inside the input {folder}; choose another place")
    return Pixels(size, backbone.mean, backbone.std)
