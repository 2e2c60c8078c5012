"""Find the images of a data set: files and folders to a compact, ordered, fingerprinted list."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sltdino.data.exclusions import Excluded, Exclusions, read_exclusions
from sltdino.data.scanner import Folder, Scanner, natural_key
from sltdino.errors import DataError

_CONVERTIBLE = {"webp": "WebP", "heic": "HEIC", "heif": "HEIF", "avif": "AVIF", "gif": "GIF"}


class ImageFolder:
    """An ordered list of image files: about 20 bytes and its file name for each.

    File names lie in one bytes blob; folders in a table. Any byte string is a legal name, so paths come back with
    surrogate escapes.
    """

    def __init__(
        self,
        folders: Sequence[Folder],
        *,
        names: bytes,
        name_ends: NDArray[np.int64],
        folder_of: NDArray[np.int32],
        sizes: NDArray[np.int64],
        fingerprint: str,
        other_formats: dict[str, int],
        warnings: tuple[str, ...],
        excluded: Excluded | None = None,
    ) -> None:
        self._folders, self._names, self._name_ends, self._folder_of = tuple(folders), names, name_ends, folder_of
        self.sizes = sizes
        """Length of each file in bytes, when it was listed."""
        self.fingerprint = fingerprint
        """Digest of the relative names and sizes, in order; the same wherever the folders lie."""
        self.other_formats = other_formats
        """How many files of every other suffix were passed over; '' counts those without one."""
        self.warnings = warnings
        """What else was passed over, one sentence each."""
        self.excluded = excluded
        """What an exclusion list left out; None without a list."""
        used = {os.fsencode(folders[i].label) for i in np.unique(folder_of)}
        self.labels: tuple[str, ...] = tuple(map(os.fsdecode, sorted(used, key=natural_key)))
        """The labels in use, in natural order."""

    def __len__(self) -> int:
        return len(self._name_ends)

    @property
    def nbytes(self) -> int:
        """Memory held for the files (the folder table apart)."""
        return len(self._names) + self._name_ends.nbytes + self._folder_of.nbytes + self.sizes.nbytes

    @property
    def roots(self) -> tuple[Path, ...]:
        """The folders that were searched and have images, in their order."""
        whole = (folder.path[: len(folder.path) - len(folder.name)] for folder in self._folders)
        return tuple(dict.fromkeys(Path(os.fsdecode(path)) for path in whole))

    def path(self, index: int) -> Path:
        """Where image `index` lies."""
        folder, name = self._entry(index)
        return Path(os.fsdecode(os.path.join(folder.path, name)))

    def label(self, index: int) -> str:
        """The first sub-folder below the image's root; empty for an image directly in it."""
        return self._entry(index)[0].label

    def _entry(self, index: int) -> tuple[Folder, bytes]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        start = int(self._name_ends[index - 1]) if index else 0
        return self._folders[self._folder_of[index]], self._names[start : int(self._name_ends[index])]


def scan(roots: Sequence[Path], *, exclusions: Exclusions | None = None) -> ImageFolder:
    """List the images in files and folders (recursively), a folder's own files first, names in natural order.

    Hidden files and folders (a leading dot: thumbnails, `._` twins of macOS) are skipped and counted. Links are
    followed; a folder or file met a second time is skipped and counted. Hard links are different files.

    Args:
        roots: image files and folders, in the order their images get.
        exclusions: a list of images to leave out.

    Raises:
        MissingInputError: a root does not exist or cannot be read.
        DataError: there are no images; the list of exclusions is one for other folders, or names all images.
    """
    scanner = Scanner()
    places = [os.path.abspath(os.fsencode(root)) for root in roots]
    for place in places:
        scanner.add_root(place)
    scanner.drop_linked_twice()
    if not scanner.name_ends:
        where = ", ".join(map(str, roots))
        found = ", ".join(f"{count:,} {suffix or 'without suffix'}" for suffix, count in scanner.others.most_common(8))
        details = "; ".join((f"found {found}" if found else "found no other files", *scanner.warnings()))
        way_on = conversion(scanner.others, roots[0]) or "name a folder with images"
        raise DataError(f"no PNG, JPEG, BMP or TIFF images in {where}: {details}; {way_on}")
    excluded = None if exclusions is None else scanner.leave_out(exclusions, places)
    if excluded is not None and not scanner.name_ends:
        raise DataError(f"--exclude: {excluded.path} names every image, {excluded.images:,} in all; shorten the list")
    return ImageFolder(
        scanner.folders,
        names=bytes(scanner.names),
        name_ends=np.array(scanner.name_ends, dtype=np.int64),
        folder_of=np.array(scanner.folder_of, dtype=np.int32),
        sizes=np.array(scanner.sizes, dtype=np.int64),
        fingerprint=scanner.fingerprint(),
        other_formats=dict(sorted(scanner.others.items())),
        warnings=scanner.warnings(),
        excluded=excluded,
    )


def scan_listed(roots: Sequence[Path], listed: Path | None) -> ImageFolder:
    """The images of a run: `scan` without those that its list, `--exclude`, names.

    Raises:
        MissingInputError, DataError: as `scan` and `read_exclusions`.
    """
    return scan(roots, exclusions=None if listed is None else read_exclusions(listed))


def common_folder(inputs: Sequence[Path]) -> Path:
    """The folder that what is found is relative to: the input, or the folder that several inputs share."""
    folders = [path if path.is_dir() else path.parent for path in map(Path.absolute, inputs)]
    return Path(os.path.commonpath([os.path.normpath(folder) for folder in folders]))


def conversion(others: Mapping[str, int], root: Path) -> str:
    """How to make the commonest images that are not read into some that are; empty without such images."""
    suffix = max((name for name in others if name in _CONVERTIBLE), key=lambda name: others[name], default="")
    command = f"find {shlex.quote(str(root))} -iname '*.{suffix}' -exec mogrify -format png {{}} +"
    return f"{_CONVERTIBLE[suffix]} is not read, convert it, with ImageMagick: {command}" if suffix else ""
