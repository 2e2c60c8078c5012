"""Walk files and folders and take note of every image, and of everything passed over."""

import errno
import hashlib
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sltdino.core.missing import not_there
from sltdino.data.exclusions import Excluded, Exclusions, Place, left_out
from sltdino.errors import DataError, MissingInputError

EXTENSIONS = frozenset((b"png", b"jpg", b"jpeg", b"bmp", b"tif", b"tiff"))
_DIGITS = re.compile(rb"([0-9]+)")
_SUFFIX = re.compile(rb"[A-Za-z][A-Za-z0-9]{0,4}")  # anything else after a dot is part of a name, not a format


class Folder(NamedTuple):
    """A folder that holds images."""

    path: bytes
    name: bytes
    """Relative to its root, with `/`; empty for the root."""
    label: str
    """First sub-folder below the root, or empty."""


def natural_key(name: bytes) -> tuple[list[bytes | int], bytes]:
    """Sort key under which `img2` comes before `img10`; equal numbers in other spellings keep an order too."""
    parts: list[bytes | int] = list(_DIGITS.split(name))
    parts[1::2] = map(int, parts[1::2])
    return parts, name


class Scanner:
    """What a scan has seen so far."""

    def __init__(self) -> None:
        self.folders: list[Folder] = []
        self.real_folders: list[bytes] = []
        self.names, self.name_ends = bytearray(), array("q")
        self.folder_of, self.sizes = array("i"), array("q")
        self.links: dict[int, bytes] = {}  # images that are links or roots: where they really lie
        self.entered: set[bytes] = set()
        self.others: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.examples: dict[str, bytes] = {}

    def add_root(self, root: bytes) -> None:
        try:
            is_folder = os.path.isdir(root)
            if is_folder:
                os.scandir(root).close()
            else:
                size = os.stat(root).st_size
        except FileNotFoundError as error:
            raise MissingInputError(not_there(Path(os.fsdecode(root)))) from error
        except OSError as error:
            message = f"{os.fsdecode(root)}: {error.strerror}; check its name and its permissions"
            raise MissingInputError(message) from error
        if is_folder:
            self._walk(root)
            return
        parent, name = os.path.split(root)
        if not _is_image(name) or not os.path.isfile(root):
            raise DataError(f"{os.fsdecode(root)}: not a PNG, JPEG, BMP or TIFF file")
        self._add_folder(parent, b"", "")
        self._add_image(name, size, os.path.realpath(root))

    def _walk(self, root: bytes) -> None:
        pending = [(root, b"", "")]
        while pending:
            path, name, label = pending.pop()
            real = os.path.realpath(path)
            if real in self.entered:
                self._skip("folders met a second time", path)
            else:
                self.entered.add(real)
                children = self._read_folder(path, name, label)
                pending += [
                    (os.path.join(path, child), os.path.join(name, child), label or os.fsdecode(child))
                    for child in reversed(children)
                ]

    def _read_folder(self, path: bytes, name: bytes, label: str) -> list[bytes]:
        """Take in a folder's images; return its sub-folders in order."""
        children: list[bytes] = []
        images: list[tuple[bytes, int, bool]] = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    self._sort_entry(entry, children, images)
        except OSError as error:
            self._skip(f"folders that cannot be read ({error.strerror})", path)
        if images:
            self._add_folder(path, name, label)
            for image, size, linked in sorted(images, key=lambda entry: natural_key(entry[0])):
                self._add_image(image, size, os.path.realpath(os.path.join(path, image)) if linked else b"")
        return sorted(children, key=natural_key)

    def _sort_entry(
        self, entry: os.DirEntry[bytes], children: list[bytes], images: list[tuple[bytes, int, bool]]
    ) -> None:
        name = entry.name
        try:
            if name.startswith(b"."):
                self._skip("hidden files and folders", entry.path)
            elif entry.is_dir():
                children.append(name)
            elif not entry.is_file():
                broken = entry.is_symlink() and not os.path.exists(entry.path)
                self._skip("broken links" if broken else "special files", entry.path)
            elif _is_image(name):
                images.append((name, entry.stat().st_size, entry.is_symlink()))
            else:
                suffix = name.rpartition(b".")[2].lower() if b"." in name else b""
                self.others[suffix.decode() if _SUFFIX.fullmatch(suffix) else ""] += 1
        except OSError as error:
            loop = error.errno == errno.ELOOP
            self._skip("broken links" if loop else f"files that cannot be read ({error.strerror})", entry.path)

    def _add_folder(self, path: bytes, name: bytes, label: str) -> None:
        self.folders.append(Folder(path, name, label))
        self.real_folders.append(os.path.realpath(path))

    def _add_image(self, name: bytes, size: int, real: bytes) -> None:
        if real:
            self.links[len(self.name_ends)] = real
        self.names += name
        self.name_ends.append(len(self.names))
        self.folder_of.append(len(self.folders) - 1)
        self.sizes.append(size)

    def _skip(self, what: str, path: bytes) -> None:
        self.skipped[what] += 1
        self.examples.setdefault(what, path)

    def _name(self, index: int) -> bytes:
        return bytes(self.names[self.name_ends[index - 1] if index else 0 : self.name_ends[index]])

    def drop_linked_twice(self) -> None:
        """Keep the first of the images that are one file. Only links and files named as roots can be."""
        if not self.links:
            return
        targets = set(self.links.values())
        seen: set[bytes] = set()
        kept: list[int] = []
        for index in range(len(self.name_ends)):
            name = self._name(index)
            real = self.links.get(index) or os.path.join(self.real_folders[self.folder_of[index]], name)
            if real in seen:
                self._skip("files met a second time", os.path.join(self.folders[self.folder_of[index]].path, name))
                continue
            if real in targets:
                seen.add(real)
            kept.append(index)
        self._keep(kept)

    def leave_out(self, listed: Exclusions, roots: Sequence[bytes]) -> Excluded:
        """Drop the images that a list names. `roots`, absolute, are what was scanned.

        Raises:
            DataError: as `left_out`.
        """
        where = ", ".join(map(os.fsdecode, roots))
        dropped, excluded = left_out(listed, self._places(roots), where=where)
        self._keep([index for index, is_dropped in enumerate(dropped) if not is_dropped])
        return excluded

    def _places(self, roots: Sequence[bytes]) -> Iterator[Place]:
        shared = os.path.commonpath([root if os.path.isdir(root) else os.path.dirname(root) for root in roots])
        below = [os.path.relpath(folder.path, shared) for folder in self.folders]
        for index, at in enumerate(self.folder_of):
            name = self._name(index)
            relative = {
                os.path.join(self.folders[at].name, name): None,
                os.path.normpath(os.path.join(below[at], name)): None,
            }
            yield Place(self.real_folders[at], tuple(relative), name)

    def _keep(self, kept: Sequence[int]) -> None:
        names, ends = bytearray(), array("q")
        for index in kept:
            names += self._name(index)
            ends.append(len(names))
        self.folder_of = array("i", (self.folder_of[index] for index in kept))
        self.sizes = array("q", (self.sizes[index] for index in kept))
        self.names, self.name_ends = names, ends
        self.links = {}  # by the old numbers, and of no more use

    def fingerprint(self) -> str:
        """Digest of (relative name, size) of every image in order."""
        digest = hashlib.blake2b(digest_size=16)
        for index in range(len(self.name_ends)):
            folder = self.folders[self.folder_of[index]]
            digest.update(b"%s/%s\0%d\n" % (folder.name, self._name(index), self.sizes[index]))
        return digest.hexdigest()

    def warnings(self) -> tuple[str, ...]:
        """One sentence for every kind of thing that was skipped."""
        return tuple(
            f"skipped {count:,} {what}, such as {os.fsdecode(self.examples[what])}"
            for what, count in sorted(self.skipped.items())
        )


def _is_image(name: bytes) -> bool:
    return name.rpartition(b".")[2].lower() in EXTENSIONS and b"." in name
