"""What is wrong with a data set, worst first: each with how much of it, where, and what to do."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sltdino.data.checking.names import SIDES
from sltdino.data.checking.survey import Survey
from sltdino.data.image_folder import conversion

SMALL_SIDE = 64
"""A crop with a shorter side than this, in pixels, is small."""
EXAMPLES = 24
"""Images, or groups of them, that a flaw keeps."""

_UNEVEN_SIDES, _UNEVEN_LABELS = 1.5, 5.0  # largest count over the smallest


class Flaw(NamedTuple):
    """Something to exclude, or to look at."""

    name: str
    number: int
    total: int
    """What `number` is a part of; 0 where that means nothing."""
    text: str
    """What it is, after the number."""
    remedy: str
    examples: tuple[tuple[int, ...], ...] = ()
    """Images, or groups of copies, worst first."""
    excludes: bool = False
    """The images go into the exclusion list without being asked for."""


def find_flaws(survey: Survey) -> tuple[Flaw, ...]:
    """Every flaw of a data set, in order of importance."""
    return tuple(flaw for find in _FINDERS for flaw in find(survey))


def _leaks(survey: Survey) -> Iterator[Flaw]:
    if survey.val_dir is None:
        return
    num_val, leaked = len(survey.images) - survey.num_train, survey.leaked
    if leaked.any():
        shared = [group for group in survey.duplicates.same if survey.is_mixed(group)]
        text = "validation images have the pixels of a training image: what they measure is too good"
        remedy = "the list leaves the training images out"
        yield Flaw("leaked", int(leaked.sum()), num_val, text, remedy, _groups(shared), True)
    nearly = [group for group in survey.near_groups() if _is_nearly_leaked(survey, group, leaked)]
    if nearly:
        count = sum(int((~leaked[group] & (group >= survey.num_train)).sum()) for group in nearly)
        text = "validation images are nearly a training image: what they measure is too good"
        remedy = _drop("leaks", "to exclude the training images")
        yield Flaw("near leaks", count, num_val, text, remedy, _groups(nearly))


def _is_nearly_leaked(survey: Survey, group: NDArray[np.int64], leaked: NDArray[np.bool_]) -> bool:
    """Whether a near-duplicate crosses over that is not a leak already, as a copy."""
    return survey.is_mixed(group) and bool((~leaked[group] & (group >= survey.num_train)).any())


def _shared_names(survey: Survey) -> Iterator[Flaw]:
    if survey.val_dir is None:
        return
    names, is_val = survey.names, np.arange(len(survey.images)) >= survey.num_train
    signers = set(names.signer_of[is_val]) & set(names.signer_of[~is_val]) - {-1}
    if signers:
        yield Flaw(
            "same signers", len(signers), len(names.signers), "signers are in training and in validation",
            "hold whole signers out, or accuracy says nothing about new ones",
            _singles(np.flatnonzero(is_val & np.isin(names.signer_of, list(signers)))),
        )  # fmt: skip
    in_clip = names.frame_of >= 0
    clips = [
        {names.clips[clip] for clip in np.unique(names.clip_of[in_clip & side]).tolist()} for side in (is_val, ~is_val)
    ]
    if shared := clips[0] & clips[1]:
        numbers = [number for number, clip in enumerate(names.clips) if clip in shared]
        yield Flaw(
            "same clips", len(shared), len(clips[0] | clips[1]), "clips have frames in training and in validation",
            "hold whole clips out", _singles(np.flatnonzero(is_val & np.isin(names.clip_of, numbers))),
        )  # fmt: skip


def _broken(survey: Survey) -> Iterator[Flaw]:
    found = np.flatnonzero(survey.broken)
    if len(found):
        reasons = Counter(survey.reasons[index] for index in found.tolist())
        counted = "; ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(3))
        text = f"images cannot be read ({counted})"
        remedy = "mend them, or use the list; pretrain stops where they are more than 1% of the images"
        yield Flaw("broken", len(found), len(survey.images), text, remedy, _singles(found), True)


def _empty(survey: Survey) -> Iterator[Flaw]:
    for name, found, text in (
        ("black", survey.black, "images are black, as where nothing was detected"),
        ("constant", survey.constant, "images are of one colour"),
    ):
        if found.any():
            order = _worst_first(survey, found, "bright" if name == "black" else "spread")
            remedy = "the list leaves them out: there is nothing to learn from"
            yield Flaw(name, len(order), len(survey.images), text, remedy, _singles(order), True)


def _groups_counted(number: int) -> str:
    return "1 group" if number == 1 else f"{number:,} groups"


def _same(survey: Survey) -> Iterator[Flaw]:
    groups = [group for group in survey.duplicates.same if not survey.is_mixed(group)]
    extra = sum(len(group) - 1 for group in groups)
    if extra:
        clips = sum(len(np.unique(survey.names.clip_of[group])) > 1 for group in groups)
        across = f", {clips:,} of them across clips" if survey.names.clips else ""
        text = f"images have the pixels of an earlier one ({_groups_counted(len(groups))}{across})"
        remedy = "the list keeps the first of each: the loss pulls apart what is in a batch, copies too"
        yield Flaw("copies", extra, len(survey.images), text, remedy, _groups(groups), True)
    torn = [
        group for group in survey.duplicates.same if len({survey.label(index) for index in group.tolist()} - {""}) > 1
    ]
    if torn:
        text, remedy = "images, with their copies, stand under two labels or more", "see which is right"
        yield Flaw("torn labels", sum(map(len, torn)), len(survey.images), text, remedy, _groups(torn))


def _near(survey: Survey) -> Iterator[Flaw]:
    leaked = survey.leaked
    groups = [group for group in survey.near_groups() if not _is_nearly_leaked(survey, group, leaked)]
    if groups:
        extra = sum(len(group) - 1 for group in groups)
        another = "a frame of another clip" if survey.names.clips else "an earlier one"
        text = f"images are nearly {another} ({_groups_counted(len(groups))})"
        remedy = _drop("near", "look at them: a second upload, a still; if they are unwanted")
        yield Flaw("near-copies", extra, len(survey.images), text, remedy, _groups(groups))
    if survey.duplicates.left_out:
        text = "pairs of images that look alike were not compared, because there are too many"
        yield Flaw(
            "not compared", survey.duplicates.left_out, 0, text, "exclude the near-copies found, and check again"
        )


def _unread(survey: Survey) -> Iterator[Flaw]:
    others: Counter[str] = Counter()
    for folder in survey.folders:
        others.update(folder.other_formats)
    if others:
        counted = ", ".join(f"{count:,} {suffix or 'without suffix'}" for suffix, count in others.most_common(6))
        remedy = conversion(others, survey.train_dirs[0]) or "nothing, if they are no images"
        total = others.total()
        yield Flaw("not read", total, total + len(survey.images), f"files are not read: {counted}", remedy)


def _uneven(survey: Survey) -> Iterator[Flaw]:
    sides = Counter(survey.names.side_of[: survey.num_train].tolist())
    left, right = sides[SIDES.index("left")], sides[SIDES.index("right")]
    if left + right and max(left, right) > _UNEVEN_SIDES * min(left, right):
        text = f"images are of one side: {left:,} left and {right:,} right, by their folders"
        remedy = "train on as many of both, or on one hand in each run"
        yield Flaw("sides", max(left, right), left + right, text, remedy)
    labels = label_counts(survey)
    if len(labels) > 1 and max(labels.values()) > _UNEVEN_LABELS * min(labels.values()):
        (least, few), *_, (most, many) = sorted(labels.items(), key=lambda item: item[1])
        text = f"images of {least!r}, the smallest sub-folder, and {many:,} of {most!r}, the largest"
        yield Flaw("labels", few, 0, text, "read balanced accuracy; pre-training itself takes no labels")


def _small(survey: Survey) -> Iterator[Flaw]:
    shorter = np.minimum(survey.images["width"], survey.images["height"])
    found = ~survey.broken & (shorter < SMALL_SIDE)
    if found.any():
        order = np.flatnonzero(found)[np.argsort(shorter[found], kind="stable")]
        text = f"images have a side under {SMALL_SIDE} px"
        remedy = "crop them again at a larger size, or train at a smaller --image-size"
        yield Flaw("small", len(order), len(survey.images), text, remedy, _singles(order))


def _blurred(survey: Survey) -> Iterator[Flaw]:
    if survey.blurred.any():
        order = _worst_first(survey, survey.blurred, "sharpness")
        remedy = _drop("blurred", "look at them; some may be blurred for privacy, or move; if they are unwanted")
        yield Flaw("blurred", len(order), len(survey.images), "images have no fine detail", remedy, _singles(order))


def _repeats(survey: Survey) -> Iterator[Flaw]:
    repeats, frames = survey.duplicates.repeats, int((survey.names.frame_of >= 0).sum())
    if len(repeats):
        text = "frames are nearly the frame before them in their clip"
        remedy = _drop("repeats", "nothing, or take every second frame; to leave them out")
        yield Flaw("repeats", len(repeats), frames, text, remedy, _singles(repeats))


def _nameless(survey: Survey) -> Iterator[Flaw]:
    found = np.flatnonzero(survey.names.signer_of < 0)
    if survey.names.signers and len(found):
        text = "images have names that --group-regex does not match"
        yield Flaw("no signer", len(found), len(survey.images), text, "mend the pattern", _singles(found))


_FINDERS: tuple[Callable[[Survey], Iterable[Flaw]], ...] = (
    _leaks, _shared_names, _broken, _empty, _same, _near, _unread, _uneven, _small, _blurred, _repeats, _nameless,
)  # fmt: skip


def label_counts(survey: Survey) -> dict[str, int]:
    """Training images of each label, in natural order of the labels; empty without labels."""
    counts: defaultdict[str, int] = defaultdict(int)
    for index in range(survey.num_train):
        counts[survey.label(index)] += 1
    return {label: counts[label] for label in survey.folders[0].labels if label}


def _drop(kind: str, otherwise: str) -> str:
    return f"{otherwise}: --drop {kind}"


def _worst_first(survey: Survey, found: NDArray[np.bool_], field: str) -> NDArray[np.int64]:
    places = np.flatnonzero(found)
    return places[np.argsort(survey.images[field][places], kind="stable")]


def _singles(places: NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    return tuple((index,) for index in places[:EXAMPLES].tolist())


def _groups(groups: list[NDArray[np.int64]]) -> tuple[tuple[int, ...], ...]:
    """The largest first."""
    largest = sorted(groups, key=len, reverse=True)[:EXAMPLES]
    return tuple(tuple(group[:EXAMPLES].tolist()) for group in largest)
