"""Labelled images: of two sides with nothing in common, or of one whose images are judged by each other."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sltdino.data.groups import group_names, group_pattern
from sltdino.data.held_out import refuse_shared_images
from sltdino.data.image_folder import ImageFolder, scan, scan_listed
from sltdino.errors import DataError, SettingsError

Numbers = NDArray[np.int64]
_SHOWN = 5  # labels in a message


class Side(NamedTuple):
    """Images with their labels, by number."""

    paths: tuple[Path, ...]
    labels_N: Numbers
    groups_N: Numbers | None
    """Numbers of their groups, without gaps; None where groups are not known."""

    def take(self, rows: Sequence[int]) -> "Side":
        """Those rows alone."""
        groups_N = None if self.groups_N is None else np.unique(self.groups_N[rows], return_inverse=True)[1]
        return Side(tuple(self.paths[row] for row in rows), self.labels_N[rows], groups_N)

    @property
    def num_groups(self) -> int:
        """Groups that it has images of."""
        return 0 if self.groups_N is None else len(np.unique(self.groups_N))

    def apart(self) -> Numbers:
        """Numbers of what is never torn apart: the groups, or every image by itself."""
        return np.arange(len(self.paths)) if self.groups_N is None else self.groups_N


class LabelledImages(NamedTuple):
    """Both sides, ready to be judged."""

    labels: tuple[str, ...]
    """Those of the validation images, in natural order."""
    train: Side
    val: Side
    dropped: int
    """Training images left out because their group is judged."""
    notes: tuple[str, ...]
    """What was passed over, left out, or counts for less than it seems to."""
    one_sided: bool = False
    """Both sides are the same images, which are judged by each other."""


def labelled_images(
    train_dirs: Sequence[Path], val_dirs: Sequence[Path], *, group_regex: str = "", exclude: Path | None = None
) -> LabelledImages:
    """Find the images of both sides, whose labels are the names of the sub-folders that they lie in.

    The labels are those of the validation images. Training images of other labels are left out; validation images of a
    label that no training image has stay, and count as mistakes. With groups, a training image whose group is judged is
    left out, so that no signer stands on both sides.

    Args:
        train_dirs: none of them where the validation images are to be judged by each other.
        exclude: a list of training images to leave out, as `--exclude` of a run.
        group_regex: searched in each file name; its one capture group names the image's group.

    Raises:
        MissingInputError: a folder is not there. SettingsError: labels are missing, images stand on both sides, or
            `group_regex` is none. DataError: there are no images, or a name does not match; nothing is left to train
            on.
    """
    pattern = group_pattern(group_regex) if group_regex else None
    val_images = scan(val_dirs)
    labels = _labels(val_images, "--val-dir", val_dirs)
    if not train_dirs:
        return _one_sided(val_images, labels, pattern)
    train_images = scan_listed(train_dirs, exclude)
    left_out = (train_images.excluded.text,) if train_images.excluded is not None else ()
    notes = [*train_images.warnings, *val_images.warnings, *left_out]
    if not set(labels) & set(_labels(train_images, "--train-dir", train_dirs)):
        raise SettingsError(
            f"--train-dir: has none of the labels of --val-dir ({_few(labels)}), but {_few(train_images.labels)}; name "
            "folders whose sub-folders are the labels"
        )
    refuse_shared_images(train_images, val_images)
    train, val = (_numbered(images, labels, side, notes) for images, side in (
        (train_images, "training"), (val_images, "validation")))  # fmt: skip
    dropped = 0
    if pattern is not None:
        train_names, val_names = group_names(train.paths, pattern), group_names(val.paths, pattern)
        judged = set(val_names)
        kept = [row for row, name in enumerate(train_names) if name not in judged]
        dropped = len(train.paths) - len(kept)
        if not kept:
            raise DataError(
                "--group-regex: every training image is of a group that --val-dir has too, such as "
                f"{train_names[0]!r}; hold whole groups out, or leave --group-regex out"
            )
        train = train._replace(groups_N=_numbers(train_names)).take(kept)
        val = val._replace(groups_N=_numbers(val_names))
    return LabelledImages(labels, train, val, dropped, tuple(notes))


def _one_sided(images: ImageFolder, labels: tuple[str, ...], pattern: re.Pattern[str] | None) -> LabelledImages:
    notes = list(images.warnings)
    side = _numbered(images, labels, "validation", notes)
    if pattern is not None:
        side = side._replace(groups_N=_numbers(group_names(side.paths, pattern)))
    return LabelledImages(labels, side, side, 0, tuple(notes), one_sided=True)


def check_classes(data: LabelledImages) -> tuple[str, ...]:
    """What is said of labels that one side lacks, once all images are known that can be read.

    Raises:
        DataError: fewer than two labels have training images, or all images that are to judge each other are of one
            group.
    """
    if data.one_sided:
        return _check_one_side(data)
    trained = np.bincount(data.train.labels_N, minlength=len(data.labels)) > 0
    if trained.sum() < 2:
        names = _few([label for label, has in zip(data.labels, trained, strict=True) if has])
        raise DataError(f"--train-dir: has images of {names} alone; at least two labels are needed")
    absent = [label for label, has in zip(data.labels, trained, strict=True) if not has]
    if not absent:
        return ()
    count = int((~trained)[data.val.labels_N].sum())
    return (f"{count:,} validation images of {_few(absent)}, of which there are no training images, count as mistakes",)


def _check_one_side(data: LabelledImages) -> tuple[str, ...]:
    labels_N, apart_N = data.val.labels_N, data.val.apart()
    if len(found := np.unique(labels_N)) < 2:
        raise DataError(
            f"--val-dir: has images of {_few([data.labels[i] for i in found])} alone; name at least two labels"
        )
    if len(np.unique(apart_N)) < 2:
        raise DataError(
            "--group-regex: all validation images are of one group, so nothing is left to judge them by; name other "
            "images under --train-dir, or leave --group-regex out"
        )
    groups_of = np.bincount(np.unique(np.stack([labels_N, apart_N]), axis=1)[0], minlength=len(data.labels))
    alone = groups_of == 1
    if not alone.any():
        return ()
    names = _few([label for label, is_alone in zip(data.labels, alone, strict=True) if is_alone])
    unit = "group" if data.val.groups_N is not None else "image"
    return (
        f"{int(alone[labels_N].sum()):,} validation images of {names}, which only one {unit} shows, count as mistakes",
    )


def _labels(images: ImageFolder, option: str, folders: Sequence[Path]) -> tuple[str, ...]:
    labels = tuple(label for label in images.labels if label)
    if len(labels) < 2:
        raise SettingsError(
            f"{option}: needs a sub-folder for each of at least two labels; {', '.join(map(str, folders))} has "
            f"{', '.join(labels) or 'none with images'}"
        )
    return labels


def _numbered(images: ImageFolder, labels: Sequence[str], side: str, notes: list[str]) -> Side:
    numbers = {label: number for number, label in enumerate(labels)}
    rows = [row for row in range(len(images)) if images.label(row) in numbers]
    loose = sum(not images.label(row) for row in range(len(images))) if "" in images.labels else 0
    if loose:
        notes.append(f"left out {loose:,} {side} images that lie in no sub-folder, so they have no label")
    if others := [label for label in images.labels if label and label not in numbers]:
        count = len(images) - len(rows) - loose
        notes.append(f"left out {count:,} {side} images of {_few(others)}: no validation image has such a label")
    numbered = np.array([numbers[images.label(row)] for row in rows], dtype=np.int64)
    return Side(tuple(images.path(row) for row in rows), numbered, None)


def _numbers(names: Sequence[str]) -> Numbers:
    return np.unique(np.array(names, dtype=object), return_inverse=True)[1].astype(np.int64)


def _few(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _SHOWN:,} more" if len(labels) > _SHOWN else ""
    return ", ".join(labels[:_SHOWN]) + more
