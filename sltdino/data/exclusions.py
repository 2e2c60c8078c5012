"""The list of images to leave out, which `sltdino check` writes and `pretrain --exclude` reads."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from sltdino.core.files import new_file, os_errors
from sltdino.core.missing import not_there
from sltdino.errors import DataError, MissingInputError, RunFolderError

_FIRST_LINE = b"# sltdino exclusion list 1"
_FOLDER = b"# folder: "
_LARGEST, _LONGEST_LINE = 1 << 30, 1 << 16
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.|$)", re.DOTALL)
_SPELT_OUT = re.compile("[\\x00-\\x1f\\x7f\\\\\udc80-\udcff]|^#")


class Exclusions(NamedTuple):
    """A list as it was read."""

    path: Path
    sha256: str
    folder: bytes | None
    """What the names are relative to, where the list says so; absolute. A list typed by hand may say it from where it
    lies."""
    names: tuple[bytes, ...]
    """Each once, in order."""


class Excluded(NamedTuple):
    """What a list did to a scan."""

    path: Path
    sha256: str
    images: int
    """Left out."""
    unmatched: tuple[str, ...]
    """Names in the list that no image has."""

    @property
    def text(self) -> str:
        """What was left out, in a sentence."""
        said = f"left out: {self.images:,} images, as {self.path} says"
        if not self.unmatched:
            return said
        return f"{said}; {len(self.unmatched):,} of its names are of no image here, such as {self.unmatched[0]!r}"


def read_exclusions(path: Path) -> Exclusions:
    r"""Read a list of images: a name a line, below the checked folder; after a tab, why. `#` begins a comment.

    In a name `\\` is a backslash and `\xNN` any byte, so that every file name can be listed.

    Raises:
        MissingInputError: there is no such file. DataError: it is no such list. StorageError: it cannot be read.
    """
    if not path.exists():
        raise MissingInputError(f"--exclude: {not_there(path)}")
    if path.is_dir():
        raise DataError(f"--exclude: {path} is a folder; name a list that `sltdino check` wrote")
    with os_errors(path, reading=True), path.open("rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise DataError(f"--exclude: {path} is larger than a list of images can be; name the list itself")
    if b"\0" in content:
        raise DataError(f"--exclude: {path} is not text; name a list that `sltdino check` wrote")
    folder, names = None, dict[bytes, None]()
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        line = line.removesuffix(b"\r")
        if line.startswith(_FOLDER):
            named = _unescaped(line.removeprefix(_FOLDER), path, number)
            folder = os.path.join(os.path.dirname(os.path.abspath(os.fsencode(path))), named)
        elif line.strip() and not line.startswith(b"#"):
            name = _unescaped(line.partition(b"\t")[0], path, number)
            names[os.path.normpath(name)] = None
    return Exclusions(path, hashlib.sha256(content).hexdigest(), folder, tuple(names))


def write_exclusions(path: Path, folder: Path, entries: Iterable[tuple[Path, str]], *, comment: str) -> None:
    """Write a list of images and reasons, whole or not at all; only an earlier list may be replaced.

    Args:
        folder: what the names will be relative to.
        entries: where each image lies, below `folder`, and why it is excluded.
        comment: what a reader should know, in lines.

    Raises:
        RunFolderError: as `refuse_foreign_file`. CannotCreateError, StorageError: as `new_file`.
    """
    refuse_foreign_file(path, folder)
    with new_file(path) as file:
        lines = (
            _FIRST_LINE,
            _FOLDER + _escaped(os.fsencode(folder)),
            *(b"# " + line.encode() for line in comment.splitlines()),
        )
        file.writelines(line + b"\n" for line in lines)
        for image, reason in entries:
            name = os.fsencode(image.relative_to(folder))
            file.write(_escaped(name) + b"\t" + _escaped(os.fsencode(reason)) + b"\n")


def refuse_foreign_file(path: Path, folder: Path) -> None:
    """Keep a list of images in `folder` from taking the place of anything but an earlier one.

    Raises:
        RunFolderError: a file that is no list, or one for another folder, has the name.
    """
    if not path.is_file():
        return
    with os_errors(path, reading=True), path.open("rb") as file:
        first, second = (file.readline(_LONGEST_LINE).rstrip(b"\r\n") for _ in range(2))
    way_on = "choose another name for --exclude-list, or remove it"
    if first != _FIRST_LINE:
        raise RunFolderError(f"{path}: exists and is no exclusion list; {way_on}")
    if second != _FOLDER + _escaped(os.fsencode(folder)):
        about = os.fsdecode(second.removeprefix(_FOLDER))
        raise RunFolderError(f"{path}: is the exclusion list of {about}, not of {folder}; {way_on}")


class Place(NamedTuple):
    """Where an image lies, for matching it with a list."""

    real_folder: bytes
    """Its folder without links."""
    relative: tuple[bytes, ...]
    """Its names below the training folder it was found in and, if that is another, below the folder all share."""
    name: bytes


def left_out(listed: Exclusions, places: Iterable[Place], *, where: str) -> tuple[list[bool], Excluded]:
    """For every image whether the list names it.

    Where the folder that the list names is there, its images are meant and no others. Where it is not (the data moved,
    or a person wrote the list), names are relative to a training folder, or to the folder that several share.

    Args:
        where: the training folders, for messages.

    Raises:
        DataError: no name of the list is an image's; a name fits images in several training folders.
    """
    is_there = listed.folder is not None and os.path.isdir(listed.folder)
    wanted = set(_real_names(listed) if is_there else listed.names)
    dropped, matched = list[bool](), set[bytes]()
    for place in places:
        keys = (os.path.join(place.real_folder, place.name),) if is_there else place.relative
        found = [key for key in keys if key in wanted]
        dropped.append(bool(found))
        if not is_there and not matched.isdisjoint(found):
            name = os.fsdecode(found[0])
            raise DataError(
                f"--exclude: {name!r} in {listed.path} fits images in several of {where}; begin the list with a line "
                f"`{_FOLDER.decode()}...` that says what its names are relative to"
            )
        matched.update(found)
    names = zip(_real_names(listed) if is_there else listed.names, listed.names, strict=True)
    unmatched = tuple(os.fsdecode(name) for key, name in names if key not in matched)
    if listed.names and not matched:
        made_for = f"; it was made for {os.fsdecode(listed.folder)}" if listed.folder is not None else ""
        raise DataError(
            f"--exclude: none of the {len(listed.names):,} names in {listed.path} is an image of {where}{made_for}; "
            "name the list of these folders, or mend its line '# folder:' where the images are copies"
        )
    return dropped, Excluded(listed.path, listed.sha256, sum(dropped), unmatched)


def _real_names(listed: Exclusions) -> Iterator[bytes]:
    assert listed.folder is not None
    real: dict[bytes, bytes] = {}  # a million images lie in few folders
    for name in listed.names:
        folder, file = os.path.split(os.path.join(listed.folder, name))
        if folder not in real:
            real[folder] = os.path.realpath(folder)
        yield os.path.join(real[folder], file)


def _escaped(name: bytes) -> bytes:
    """On one line of UTF-8: a backslash, control characters, bytes that are no text, and what begins a comment."""

    def spelt(match: re.Match[str]) -> str:
        code = ord(match[0])
        return "\\\\" if match[0] == "\\" else f"\\x{code - 0xDC00 if code > 0xFF else code:02x}"

    return _SPELT_OUT.sub(spelt, name.decode("utf-8", "surrogateescape")).encode()


def _unescaped(name: bytes, path: Path, line: int) -> bytes:
    def spelt(match: re.Match[bytes]) -> bytes:
        if match[1] == b"\\":
            return b"\\"
        if match[1][:1] == b"x" and len(match[1]) == 3:
            return bytes([int(match[1][1:], 16)])
        raise DataError(
            f"--exclude: {path}:{line}: {os.fsdecode(match[0])!r} stands for nothing; write a backslash as \\\\"
        )

    return _ESCAPE.sub(spelt, name)
