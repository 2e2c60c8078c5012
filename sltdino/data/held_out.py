"""Validation images are held out: find those that are training images too, as the same file or as a copy of one."""

import hashlib
import os
import shlex
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sltdino.data.image_folder import ImageFolder
from sltdino.errors import SettingsError

_NAMED = 5  # images named in a message
_BLOCK, _GLANCE = 2**18, 64  # bytes read at once, and of a first look


class SharedImages(NamedTuple):
    """What two sets of images have in common."""

    number: int
    """Validation images that are training images too."""
    are_copies: bool
    """They are other files of the same content."""
    examples: tuple[tuple[Path, Path], ...]
    """The first few of them, each with the first training image that is the same."""


def refuse_shared_images(train: ImageFolder, val: ImageFolder) -> None:
    """Refuse validation images that are training images too.

    Raises:
        SettingsError: how many there are, which come first, and what to do.
    """
    shared = shared_images(train, val)
    if not shared.number:
        return
    pairs = (f"{mine} of {other}" if shared.are_copies else str(mine) for mine, other in shared.examples)
    more = f" and {shared.number - len(shared.examples):,} more" if shared.number > len(shared.examples) else ""
    what, way_on = (
        ("copies of training images", f"keep one of each two, or split the images anew{_how_to_list(train, val)}")
        if shared.are_copies
        else ("training images too", "name training folders that do not hold the validation images")
    )
    counted = f"{shared.number:,} of {len(val):,} validation images are {what}"
    raise SettingsError(f"--val-dir: {counted}: {'; '.join(pairs)}{more}; {way_on}")


def _how_to_list(train: ImageFolder, val: ImageFolder) -> str:
    if len(val.roots) != 1:  # it compares with one folder
        return ""
    command = shlex.join(["sltdino", "check", *map(str, train.roots), "--val-dir", str(val.roots[0])])
    return f"; all of them, and a list for `pretrain --exclude`: {command}"


def shared_images(train: ImageFolder, val: ImageFolder) -> SharedImages:
    """The validation images that are training images too: the same files where there are any, else the same content.

    Files of different lengths differ, so only those are looked at whose length occurs in both sets, and only those are
    read whole whose middle occurs in both. A link is found by its content, and so is a copy under another name. Empty
    files and those that cannot be read are no images.
    """
    lengths = _Rows(_of_common_length(train, val), _of_common_length(val, train))
    found, are_copies = _common(train, val, lengths, _where()), False
    if not found.val:
        alike = _common(train, val, lengths, _middle)
        found, are_copies = _common(train, val, _Rows(list(alike.train), list(alike.val)), _content), True
    first = {key: row for row, key in reversed(found.train.items())}
    examples = ((val.path(row), train.path(first[key])) for row, key in found.val.items())
    return SharedImages(len(found.val), are_copies and bool(found.val), tuple(islice(examples, _NAMED)))


class _Rows(NamedTuple):
    train: list[int]
    val: list[int]


class _Keys(NamedTuple):
    """Of rows, in their order."""

    train: dict[int, bytes]
    val: dict[int, bytes]


def _of_common_length(images: ImageFolder, others: ImageFolder) -> list[int]:
    found: list[int] = np.flatnonzero((images.sizes > 0) & np.isin(images.sizes, others.sizes)).tolist()
    return found


def _common(train: ImageFolder, val: ImageFolder, rows: _Rows, key: Callable[[Path], bytes]) -> _Keys:
    """The keys of those rows whose key occurs in both sets. An empty key is none."""
    val_keys = {row: key(val.path(row)) for row in rows.val}
    wanted = set(val_keys.values()) - {b""}
    train_keys = {row: found for row in rows.train if wanted and (found := key(train.path(row))) in wanted}
    occurring = set(train_keys.values())
    return _Keys(train_keys, {row: found for row, found in val_keys.items() if found in occurring})


def _where() -> Callable[[Path], bytes]:
    """The real place of a file that is no link itself. A million crops lie in few folders."""
    real: dict[str, str] = {}

    def where(path: Path) -> bytes:
        folder, name = os.path.split(path)
        if folder not in real:
            real[folder] = os.path.realpath(folder)
        return os.fsencode(os.path.join(real[folder], name))

    return where


def _middle(path: Path) -> bytes:
    """A few bytes of a file, where pixels are: a third of the time that reading a small crop takes."""
    return _read(path, lambda file: os.pread(file, _GLANCE, os.fstat(file).st_size // 2))


def _content(path: Path) -> bytes:
    """Digest of a file."""
    return _read(path, _digest)


def _digest(file: int) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    while block := os.read(file, _BLOCK):
        digest.update(block)
    return digest.digest()


def _read(path: Path, how: Callable[[int], bytes]) -> bytes:
    """What is read of a file; nothing where it cannot be read, which is said when its pixels are wanted."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe in the place of an image holds nothing up
    except OSError:
        return b""
    try:
        return how(file)
    except OSError:
        return b""
    finally:
        os.close(file)
