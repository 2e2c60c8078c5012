"""Reading a log that grows: the lines that were added since the last look, never the whole again."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from sltdino.core import files
from sltdino.core.json_lines import LARGEST_LINE

_REMEMBERED = 1024
"""Bytes of the last line read. A record has the millisecond it was written, so its end tells it from any other."""


class LinesTail:
    """Reads the lines of a file once each, as they come.

    A file that is cut back, as a resumed run does with its metrics, or replaced is found by `was_cut`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.too_long = 0
        """Lines so far that are longer than a record may be."""
        self.is_torn = False
        """Whether the last look ended at a line without its end: it is being written, or its writer was killed."""
        self.position = 0
        """Bytes read so far, all of whole lines."""
        self._last, self._last_end = b"", 0

    def size(self) -> int:
        """Bytes of the file as it is now; 0 while there is none."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def was_cut(self) -> bool:
        """Whether the file no longer begins with what was read from it; then a new reader has to begin again.

        Raises:
            StorageError: it cannot be read.
        """
        if not self._last:
            return False
        if not self.path.is_file():
            return True
        remembered = self._last[-_REMEMBERED:]
        with files.os_errors(self.path, reading=True), self.path.open("rb") as file:
            return os.pread(file.fileno(), len(remembered), self._last_end - len(remembered)) != remembered

    def read(self) -> Iterator[bytes]:
        """The whole lines that were added since the last call, with their line breaks; none while there is no file.

        Raises:
            StorageError: the file cannot be read.
        """
        self.is_torn = False
        if not self.path.is_file():
            return
        with files.os_errors(self.path, reading=True), self.path.open("rb") as file:
            file.seek(self.position)
            while line := file.readline(LARGEST_LINE):
                if line.endswith(b"\n"):
                    self.position += len(line)
                    self._last, self._last_end = line, self.position
                    yield line
                elif length := _rest(file):
                    self.position += len(line) + length
                    self.too_long += 1
                else:
                    self.is_torn = True
                    return


def _rest(file: BinaryIO) -> int:
    """Bytes up to the end of a line that has begun, or 0 where the file ends before it."""
    length = 0
    while piece := file.readline(LARGEST_LINE):
        length += len(piece)
        if piece.endswith(b"\n"):
            return length
    return 0
