"""Logs of one JSON object a line, which grow by whole records."""

import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sltdino.core import files
from sltdino.core.json_files import dumps, null
from sltdino.errors import CannotCreateError

LARGEST_LINE = 1 << 20

# `json.loads` would make a decoder for every line
_NUMBERS = json.JSONDecoder(parse_constant=null)
_AS_TEXT = json.JSONDecoder(parse_constant=null, parse_float=str)


class JsonLines:
    """A file of one JSON object a line, written only at its end, one system call a record.

    An unfinished last line, left by a kill or a full disk, is cut off on opening; `torn_bytes` is its length.

    Raises:
        CannotCreateError, StorageError: the file cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with files.os_errors(path):
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            self._descriptor = os.open(path, flags, 0o666)
            if not path.is_file():
                self.close()
                raise CannotCreateError(f"{path}: not a plain file; remove it or choose another name")
            size = self._size()
            end = self._line_start(size)
            self.torn_bytes = size - end
            if self.torn_bytes:
                os.ftruncate(self._descriptor, end)

    def append(self, record: Mapping[str, object]) -> None:
        """Add one record; after an error nothing of it is in the file.

        Raises:
            ValueError, TypeError: as `dumps`. StorageError: writing failed or the disk is full.
        """
        line = dumps(record).encode() + b"\n"
        with files.os_errors(self.path):
            size = self._size()
            written = os.write(self._descriptor, line)
            if written < len(line):
                os.ftruncate(self._descriptor, size)
                raise OSError(errno.ENOSPC, f"{written} of {len(line)} bytes fitted")

    def offset(self) -> int:
        """The length of the file, after every record of it has reached the medium."""
        with files.os_errors(self.path):
            files.flush_to_disk(self._descriptor)
            return self._size()

    def truncate(self, offset: int) -> int:
        """Cut the file back to `offset` bytes, or to the line start before it; the number of records cut."""
        with files.os_errors(self.path):
            end = self._line_start(min(offset, self._size()))
            cut = sum(chunk.count(b"\n") for chunk in self._chunks(end))
            os.ftruncate(self._descriptor, end)
            files.flush_to_disk(self._descriptor)
        return cut

    def close(self) -> None:
        """Close the file. Doing it twice does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def _chunks(self, start: int) -> Iterator[bytes]:
        while chunk := os.pread(self._descriptor, 1 << 20, start):
            yield chunk
            start += len(chunk)

    def _line_start(self, position: int) -> int:
        """The end of the last complete line that ends at or before `position`."""
        while position > 0:
            start = max(0, position - (1 << 16))
            if (found := os.pread(self._descriptor, position - start, start).rfind(b"\n")) >= 0:
                return start + found + 1
            position = start
        return 0


class JsonLinesReader:
    """Iterates over the records of a file of one JSON object a line; what is not one is counted in `unreadable`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unreadable = 0
        """Lines so far that are torn, too long, or no JSON object."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.unreadable = 0
        if not self.path.is_file():
            return
        with files.os_errors(self.path, reading=True), self.path.open("rb") as file:
            while line := file.readline(LARGEST_LINE):
                record = record_of(line)
                if record is not None:
                    yield record
                else:
                    self.unreadable += 1
                while line and not line.endswith(b"\n"):  # the rest of a line that is too long
                    line = file.readline(LARGEST_LINE)


def record_of(line: bytes) -> dict[str, Any] | None:
    """The JSON object on a whole line, its line break included; None when it is none."""
    return _object(line, _NUMBERS)


def skim(line: bytes) -> dict[str, Any] | None:
    """As `record_of`, as strict and in half the time: decimal numbers stay the text that they are written as."""
    return _object(line, _AS_TEXT)


def _object(line: bytes, decoder: json.JSONDecoder) -> dict[str, Any] | None:
    try:
        text = line.decode()
        record, end = decoder.raw_decode(text)
        is_whole = text[end:] == "\n"
    except (ValueError, RecursionError):
        return None
    return record if is_whole and isinstance(record, dict) else None
