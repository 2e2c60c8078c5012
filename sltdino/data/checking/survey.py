"""Look at a data set as a whole, before days are spent on it: measure every image, find copies, read the names."""

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sltdino.data.checking.duplicates import Duplicates, find_duplicates
from sltdino.data.checking.measuring import measured
from sltdino.data.checking.names import Names, read_names
from sltdino.data.checking.quality import BLACK_LEVEL, BLURRED_BELOW, CONSTANT_SPREAD
from sltdino.data.image_folder import ImageFolder, common_folder, scan
from sltdino.errors import DataError, SettingsError


class Survey(NamedTuple):
    """What is known of the images: those to train on, in the order of a scan, then those to validate with."""

    train_dirs: tuple[Path, ...]
    val_dir: Path | None
    root: Path
    """The folder that all of them share."""
    folders: tuple[ImageFolder, ...]
    """Of training and, where there is one, of validation."""
    images: NDArray[np.void]
    """`[N]` of `quality.IMAGE`."""
    reasons: dict[int, str]
    """Why an image cannot be read."""
    names: Names
    duplicates: Duplicates
    seconds: float
    """For decoding; comparing comes on top."""

    @property
    def num_train(self) -> int:
        """Images to train on; the rest is validation."""
        return len(self.folders[0])

    @property
    def broken(self) -> NDArray[np.bool_]:
        """`[N]`: cannot be read."""
        return self.images["bad"]

    @property
    def black(self) -> NDArray[np.bool_]:
        """`[N]`: nearly every pixel is black."""
        return ~self.broken & (self.images["bright"] <= BLACK_LEVEL)

    @property
    def constant(self) -> NDArray[np.bool_]:
        """`[N]`: of one colour, which is not black."""
        return ~self.broken & ~self.black & (self.images["spread"] <= CONSTANT_SPREAD)

    @property
    def has_content(self) -> NDArray[np.bool_]:
        """`[N]`: none of these three."""
        return _has_content(self.images)

    @property
    def blurred(self) -> NDArray[np.bool_]:
        """`[N]`: without fine detail."""
        return self.has_content & (self.images["sharpness"] < BLURRED_BELOW)

    @property
    def leaked(self) -> NDArray[np.bool_]:
        """`[N]`: validation images with the pixels of a training image."""
        found = np.zeros(len(self.images), dtype=np.bool_)
        for group in self.duplicates.same:
            if group[0] < self.num_train:
                found[group] = group >= self.num_train
        return found

    def near_groups(self) -> list[NDArray[np.int64]]:
        """Near-duplicates of different clips, each image with its copies."""
        copies = {int(group[0]): group for group in self.duplicates.same}
        none = np.empty(0, dtype=np.int64)
        return [
            np.unique(np.concatenate([group, *(copies.get(index, none) for index in group.tolist())]))
            for group in self.duplicates.near
        ]

    def is_mixed(self, group: NDArray[np.int64]) -> bool:
        """Whether a group holds images of training and of validation."""
        return bool(group.min() < self.num_train <= group.max())

    def path(self, index: int) -> Path:
        """Where an image lies."""
        is_val = index >= self.num_train
        return self.folders[is_val].path(index - self.num_train if is_val else index)

    def label(self, index: int) -> str:
        """Its first sub-folder, or empty."""
        is_val = index >= self.num_train
        return self.folders[is_val].label(index - self.num_train if is_val else index)

    def shown(self, index: int) -> str:
        """Its path below the folder that all the inputs share."""
        return os.path.relpath(self.path(index), self.root)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """All that was looked at."""
        return (*self.train_dirs, *(() if self.val_dir is None else (self.val_dir,)))


def survey(
    train_dirs: Sequence[Path],
    *,
    val_dir: Path | None = None,
    group: re.Pattern[str] | None = None,
    workers: int = 1,
    on_progress: Callable[[str, int, int], object] = lambda stage, done, total: None,
) -> Survey:
    """Decode every image once, compare them, and read their names; nothing is written.

    Args:
        train_dirs: folders, searched, and images.
        val_dir: held-out images, whose copies among the others are leaks.
        group: searched in each file name; its one capture group names the signer.
        workers: processes that decode.
        on_progress: called with `images` or `comparisons`, how many are done, and all of them.

    Raises:
        MissingInputError, DataError: as `scan`; not one image can be read.
        SettingsError: one folder lies in the other, so that its images would leak by themselves.
        StoppedError, ResourceError, StorageError: as `measured`.
    """
    _refuse_nested(train_dirs, val_dir)
    folders = tuple(scan(roots) for roots in (train_dirs, *(() if val_dir is None else ([val_dir],))))
    roots = [common_folder(train_dirs), *(() if val_dir is None else (val_dir.absolute(),))]
    names = read_names(folders, roots, group=group)
    started = time.monotonic()
    with measured(folders, workers=workers, on_progress=lambda *done: on_progress("images", *done)) as found:
        seconds = time.monotonic() - started
        if found.images["bad"].all():
            first = folders[0].path(0)
            raise DataError(f"not one of {len(found.images):,} images can be read; {first}: {found.reasons[0]}")
        duplicates = find_duplicates(
            found,
            _has_content(found.images),
            names.clip_of,
            names.frame_of,
            on_progress=lambda *done: on_progress("comparisons", *done),
        )
        inputs = (*train_dirs, *(() if val_dir is None else (val_dir,)))
        return Survey(
            tuple(train_dirs), val_dir, common_folder(inputs), folders, found.images, found.reasons, names, duplicates,
            seconds,
        )  # fmt: skip


def _has_content(images: NDArray[np.void]) -> NDArray[np.bool_]:
    has_content: NDArray[np.bool_] = (
        ~images["bad"] & (images["bright"] > BLACK_LEVEL) & (images["spread"] > CONSTANT_SPREAD)
    )
    return has_content


def _refuse_nested(train_dirs: Sequence[Path], val_dir: Path | None) -> None:
    for folder in train_dirs if val_dir is not None else ():
        assert val_dir is not None
        one, other = folder.resolve(), val_dir.resolve()
        if one.is_relative_to(other) or other.is_relative_to(one):
            raise SettingsError(f"--val-dir: {val_dir} and {folder} lie in each other; name folders that are apart")
