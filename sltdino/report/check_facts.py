"""The facts of a checked data set as plain values: for JSON, and for the pages that show them."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sltdino.data.checking.flaws import Flaw, label_counts
from sltdino.data.checking.names import SIDES
from sltdino.data.checking.survey import Survey
from sltdino.data.decode import FORMATS

_COMMONEST = 8
_MOST_LABELS = 12


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
        "bytes": sum(int(folder.sizes.sum()) for folder in survey.folders),
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
        "warnings": [*_warnings(survey)],
    }  # fmt: skip


def share(flaw: Flaw) -> str:
    """`12 of 1,543 (0.8%)`."""
    if not flaw.total:
        return f"{flaw.number:,}"
    return f"{flaw.number:,} of {flaw.total:,} ({flaw.number / flaw.total:.1%})"


def fact_rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Titles and texts."""
    images, sizes, clips = facts["images"], facts["sizes"], facts["clips"]
    val = f", and {images['val']:,} to validate with" if facts["val_dir"] is not None else ""
    yield "images", f"{images['train']:,} to train on{val}; {facts['bytes'] / 1e6:,.0f} MB"
    yield "formats", ", ".join(f"{count:,} {name}" for name, count in facts["formats"].items())
    side = sizes["shorter_side"]
    common = ", ".join(f"{count:,} of {size}" for size, count in list(sizes["commonest"].items())[:3])
    yield "sizes", f"shorter side {side['smallest']} to {side['largest']} px, median {side['median']}; {common}"
    if labels := facts["labels"]:
        counted = ", ".join(f"{label} {count:,}" for label, count in list(labels.items())[:_MOST_LABELS])
        yield "sub-folders", f"{len(labels)}: {counted}{', ...' if len(labels) > _MOST_LABELS else ''}"
    if clips["number"]:
        alone = f"; {clips['single_images']:,} images are of none" if clips["single_images"] else ""
        yield "clips", f"{clips['number']:,} by their names, with {clips['median_frames']:.0f} frames (median){alone}"
    if facts["signers"]["train"]:
        val = f", {facts['signers']['val']:,} in validation" if facts["val_dir"] is not None else ""
        yield "signers", f"{facts['signers']['train']:,} in training{val}"
    if facts["sides"]:
        yield "sides", ", ".join(f"{count:,} {name}" for name, count in facts["sides"].items())
    yield "pixels", channels_text(facts)
    for warning in facts["warnings"]:
        yield "", warning


def channels_text(facts: dict[str, Any]) -> str:
    """Mean and std as the flags take them, and whether to use them."""
    mean, std = (" ".join(map(str, facts["channels"][key])) for key in ("mean", "std"))
    return (
        f"--aug-mean {mean} --aug-std {std} of the training images. The defaults, ImageNet's, are what SLT feeds and "
        "published weights expect: keep them unless all of it is yours; exports fold the difference in"
    )


def _warnings(survey: Survey) -> Iterator[str]:
    if survey.val_dir is None and len(survey.train_dirs) == 1 and {"train", "val"} <= set(survey.folders[0].labels):
        folder = survey.train_dirs[0]
        yield f"train and val were checked as one; with --val-dir {folder / 'val'} leaks from {folder / 'train'} show"
    for found in survey.folders:
        yield from found.warnings


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
