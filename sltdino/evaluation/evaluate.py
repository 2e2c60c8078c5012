"""How good a frozen backbone is on labelled folders, beside an untrained one and raw pixels."""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from sltdino.core.distributed import join
from sltdino.core.json_files import text
from sltdino.core.settings_base import known
from sltdino.errors import SettingsError
from sltdino.evaluation.embed import Backbone
from sltdino.evaluation.features import Pixels
from sltdino.evaluation.frozen_features import BadFile, Frozen, frozen_features
from sltdino.evaluation.label_free import feature_std
from sltdino.evaluation.labelled import LabelledImages, Numbers, check_classes, labelled_images
from sltdino.evaluation.linear_probe import check_solver
from sltdino.evaluation.metrics import ClassScore, class_scores
from sltdino.evaluation.protocol import afterthoughts, protocol, warnings
from sltdino.evaluation.scores import TRAINED, UNTRAINED, Gain, Score, possible_shots, score_features
from sltdino.models.vit import VisionTransformer


class EvaluateOptions(NamedTuple):
    """What to measure, and how to get there."""

    k: tuple[int, ...] = (20,)
    """Neighbours of the weighted k-NN, each a row of its own."""
    temp: float = 0.07
    """Temperature of the neighbours' votes."""
    shots: tuple[int, ...] = (1, 5, 10)
    """Labelled images of each class in few-shot k-NN, each a row of its own."""
    solver: Literal["torch", "sklearn"] = "torch"
    """Of the linear probe."""
    group_regex: str = ""
    """Searched in each file name; its one capture group names the image's group, such as the signer."""
    tokens: Literal["cls", "mean", "both"] = "cls"
    """CLS token, mean of the patch tokens, or one behind the other."""
    image_size: int | None = None
    """Side the images are resized to; the backbone's own when None."""
    batch_size: int = 64
    num_workers: int = 0
    """Threads that decode images ahead; with 0 each is decoded when its turn comes."""
    device: str = "auto"


DEFAULTS = EvaluateOptions()
MOST_LABELS = 1_000
"""Of a confusion matrix that is kept: of 3,000 it would be a file of 100 MB."""


class Groups(NamedTuple):
    """What the images were grouped by."""

    regex: str
    train: int
    """Groups of the training images."""
    val: int
    dropped: int
    """Training images left out because their group is judged."""


class Confusion(NamedTuple):
    """Which class is taken for which."""

    method: str
    matrix: tuple[tuple[int, ...], ...]
    """Rows are the true classes, columns the predicted ones, both in the order of the labels; none of very many."""


class Evaluation(NamedTuple):
    """What a call measured."""

    labels: tuple[str, ...]
    train_counts: tuple[int, ...]
    val_counts: tuple[int, ...]
    groups: Groups | None
    protocol: str
    results: tuple[Score, ...]
    """Of the trained features, of the untrained ones and of raw pixels."""
    gains: tuple[Gain, ...]
    """The trained features' accuracy less the others'."""
    confusion: Confusion
    """Of the trained features by the first k-NN."""
    per_class: tuple[ClassScore, ...]
    """Of the same, in the order of the labels."""
    notes: tuple[str, ...]
    """What was passed over, left out, or counts for less than it seems to."""
    bad_images: tuple[BadFile, ...]
    """Images that cannot be read, and were left out."""


def evaluate_backbone(
    backbone: Backbone,
    untrained: VisionTransformer,
    train_dirs: Sequence[Path],
    val_dirs: Sequence[Path],
    *,
    options: EvaluateOptions = DEFAULTS,
    exclude: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Measure what the frozen features say about labels; the validation images are never fitted to.

    Args:
        untrained: a network for comparison, fed as the backbone is.
        train_dirs, val_dirs: folders whose sub-folders are the labels; see `labelled_images` for what they may hold.
            Without `train_dirs` the validation images are judged by each other: k-NN leaves each out, or its group, and
            the other methods go by folds.
        exclude: a list of training images to leave out.
        on_progress: called with the images done, and those to do, after every batch.

    Raises:
        SettingsError: an option cannot be; otherwise as `labelled_images`.
        DataError: hardly any of the images can be read. CheckpointError: a feature is not finite.
        ResourceError: out of memory.
    """
    pixels = _checked(backbone, options)
    device = join(options.device).device
    data = labelled_images(train_dirs, val_dirs, group_regex=options.group_regex, exclude=exclude)
    networks = {
        name: copy.deepcopy(network).to(device).eval()
        for name, network in ((TRAINED, backbone.network), (UNTRAINED, untrained))
    }
    found = _features(networks, data, pixels, options, on_progress)
    train, val = found[0], found[-1]
    data = data._replace(train=data.train.take(train.rows), val=data.val.take(val.rows))
    shots, no_shots = possible_shots(data, options.shots)
    notes = (*data.notes, *check_classes(data), *no_shots, *warnings(data, ks=options.k))
    scored = score_features(
        train.features, val.features, data, ks=options.k, shots=shots, temp=options.temp, solver=options.solver
    )
    spread = feature_std(train.features[TRAINED])
    return Evaluation(
        labels=data.labels,
        train_counts=_counts(data, data.train.labels_N),
        val_counts=_counts(data, data.val.labels_N),
        groups=_groups(data, options),
        protocol=protocol(data, options, pixels, shots),
        results=scored.scores,
        gains=scored.gains,
        confusion=Confusion(f"{options.k[0]}-NN", _matrix(scored.confusion_CC)),
        per_class=class_scores(scored.confusion_CC),
        notes=(*notes, *scored.notes, *afterthoughts(data, scored.scores, spread=spread)),
        bad_images=tuple(bad for side in found for bad in side.bad),
    )


def _features(
    networks: Mapping[str, VisionTransformer],
    data: LabelledImages,
    pixels: Pixels,
    options: EvaluateOptions,
    on_progress: Callable[[int, int], None],
) -> list[Frozen]:
    """Of the training images and of the validation images, or only of these where they are judged by each other."""
    sides = (data.val,) if data.one_sided else (data.train, data.val)
    done, total = 0, sum(len(side.paths) for side in sides)

    def on_batch(number: int) -> None:
        nonlocal done
        done += number
        on_progress(done, total)

    return [
        frozen_features(
            networks, side.paths, pixels, tokens=options.tokens, batch_size=options.batch_size,
            num_workers=options.num_workers, on_batch=on_batch,
        )
        for side in sides
    ]  # fmt: skip


def as_record(evaluation: Evaluation) -> dict[str, Any]:
    """The measured part of an evaluation's file, in plain values."""
    content = evaluation._asdict()
    content["labels"] = [text(label) for label in evaluation.labels]
    content["groups"] = None if evaluation.groups is None else evaluation.groups._asdict()
    for key in ("results", "gains"):
        rows = (row._asdict() for row in content[key])
        content[key] = [{**row, **row["method"]._asdict()} for row in rows]
    content["confusion"] = evaluation.confusion._asdict()
    labelled = zip(content["labels"], evaluation.per_class, strict=True)
    content["per_class"] = [
        {"label": label, "count": row.num_images, "precision": row.precision, "recall": row.recall, "f1": row.f1}
        for label, row in labelled
    ]
    content["notes"] = [text(note) for note in evaluation.notes]
    content["bad_images"] = [{"path": text(str(bad.path)), "reason": text(bad.reason)} for bad in evaluation.bad_images]
    return content


def _checked(backbone: Backbone, options: EvaluateOptions) -> Pixels:
    """How an image becomes the network's input, once what was asked for is known to be possible."""
    problems = []
    if not options.k or min(options.k) < 1:
        problems.append("--k: at least one number of neighbours, of 1 or more, is needed")
    if min(options.shots, default=1) < 1:
        problems.append(f"--shots: {min(options.shots)} labelled images of a class cannot be")
    if not options.temp > 0 or not np.isfinite(options.temp):
        problems.append(f"--temp: must be greater than 0 (got {options.temp})")
    if options.batch_size < 1 or options.num_workers < 0:
        problems.append(f"evaluate: {options.batch_size} images a batch and {options.num_workers} threads cannot be")
    size, patch = options.image_size or backbone.network.image_size, known(backbone.network.vit.patch_size)
    if size % patch:
        problems.append(f"--image-size: {size} is not a multiple of the backbone's patch size {patch}")
    if problems:
        raise SettingsError(*problems)
    check_solver(options.solver)
    return Pixels(size, backbone.mean, backbone.std)


def _matrix(confusion_CC: Numbers) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, confusion_CC.tolist())) if len(confusion_CC) <= MOST_LABELS else ()


def _counts(data: LabelledImages, labels_N: Numbers) -> tuple[int, ...]:
    return tuple(np.bincount(labels_N, minlength=len(data.labels)).tolist())


def _groups(data: LabelledImages, options: EvaluateOptions) -> Groups | None:
    if not options.group_regex:
        return None
    return Groups(options.group_regex, data.train.num_groups, data.val.num_groups, data.dropped)
