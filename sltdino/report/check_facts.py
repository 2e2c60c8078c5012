"""The facts of a checked data set as plain values: for JSON, and for the pages that show them."""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sltdino.data.decode import FORMATS
from sltdino.data.flaws import Flaw, label_counts
from sltdino.data.names import SIDES
from sltdino.data.survey import Survey

_COMMONEST = 8


class Channels(NamedTuple):
    """Mean and standard deviation of the training pixels of each channel, in 0..1; every image counts the same."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def channels(survey: Survey) -> Channels:
    """Of the training images that have content, or of all that can be read where none has."""
    train = survey.images[: survey.num_train]
    chosen = train[survey.has_content[: survey.num_train]]
    if not len(chosen):
        chosen = train[~train["bad"]]
    means, stds = chosen["mean"].astype(np.float64), chosen["std"].astype(np.float64)
    mean = means.mean(axis=0)
    std = np.sqrt((stds**2 + means**2).mean(axis=0) - mean**2)
    red, green, blue = (np.round(values, 4).tolist() for values in zip(mean, std, strict=True))
    return Channels((red[0], green[0], blue[0]), (red[1], green[1], blue[1]))


def check_facts(survey: Survey, flaws: tuple[Flaw, ...]) -> dict[str, Any]:
    """Everything that is known, without the single images."""
    train, val = survey.images[: survey.num_train], survey.images[survey.num_train :]
    names = survey.names
    in_clip = names.frame_of[: survey.num_train] >= 0
    frames = np.unique(names.clip_of[: survey.num_train][in_clip], return_counts=True)[1]
    sides = Counter(names.side_of[: survey.num_train].tolist())
    others: Counter[str] = Counter()
    for folder in survey.folders:
        others.update(folder.other_formats)
    return {
        "train_dirs": list(survey.train_dirs),
        "val_dir": survey.val_dir,
        "images": {"train": len(train), "val": len(val)},
        "formats": _formats(survey.images),
        "other_formats": dict(others.most_common()),
        "sizes": _sizes(survey.images),
        "bytes": int(survey.images["bytes"].sum()),
        "labels": label_counts(survey),
        "clips": {"number": len(frames), "median_frames": float(np.median(frames)) if len(frames) else 0,
                  "single_images": int((~in_clip).sum())},
        "signers": {side: _signers(part) for side, part in (
            ("train", names.signer_of[: survey.num_train]), ("val", names.signer_of[survey.num_train :]))},
        "sides": {SIDES[side]: count for side, count in sorted(sides.items()) if side},
        "channels": channels(survey)._asdict(),
        "seconds": survey.seconds,
        "flaws": [
            {**flaw._asdict(), "examples": [[survey.path(index) for index in group] for group in flaw.examples]}
            for flaw in flaws
        ],
        "warnings": [warning for folder in survey.folders for warning in folder.warnings],
    }  # fmt: skip


def _formats(images: NDArray[np.void]) -> dict[str, int]:
    """Counts of `JPEG RGB`, `PNG L`, ..., the commonest first."""
    good = images[~images["bad"]]
    counted = Counter(zip(good["format"].tolist(), good["mode"].tolist(), strict=True))
    return {f"{FORMATS[kind]} {mode.decode()}": count for (kind, mode), count in counted.most_common()}


def _sizes(images: NDArray[np.void]) -> dict[str, Any]:
    good = images[~images["bad"]]
    shorter = np.minimum(good["width"], good["height"])
    common = Counter(zip(good["width"].tolist(), good["height"].tolist(), strict=True)).most_common(_COMMONEST)
    low, middle, high = (int(value) for value in np.percentile(shorter, [0, 50, 100]))
    return {
        "shorter_side": {"smallest": low, "median": middle, "largest": high},
        "commonest": {f"{width}x{height}": count for (width, height), count in common},
    }


def _signers(signer_of: NDArray[np.int64]) -> int:
    return len(np.unique(signer_of[signer_of >= 0]))
