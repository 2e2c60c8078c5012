"""Strict JSON: UTF-8, no NaN or Infinity, files that appear whole and logs that grow by whole records."""

import errno
import itertools
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from sltdino.core import files
from sltdino.errors import CannotCreateError, MissingInputError, RunFolderError

_LARGEST_FILE = 64 << 20
LARGEST_LINE = 1 << 20
_DEEPEST, _MOST_VALUES = 32, 100_000
_SURROGATE = re.compile("[\ud800-\udfff]")


def now() -> str:
    """This moment in UTC as ISO-8601, always of the same length."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def dumps(value: object, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """`value` as strict JSON. Paths and moments become text, sets sorted lists, and bytes of a file name that are not
    UTF-8 `\\xNN`.

    Raises:
        ValueError: a number is not finite; the message has its key path.
        TypeError: something is not JSON; the message has its key path.
    """
    return json.dumps(_plain(value, ""), indent=indent, ensure_ascii=ascii_only, allow_nan=False)


def write(path: Path, value: object) -> None:
    """Write `value` as a JSON file that appears whole or not at all.

    Raises:
        ValueError, TypeError: as `dumps`. CannotCreateError, StorageError: as `files.new_file`.
    """
    content = dumps(value, indent=2).encode() + b"\n"
    with files.new_file(path) as file:
        file.write(content)


def read(path: Path) -> Any:
    """The content of a JSON file of a run; NaN and Infinity, which old tools wrote, are read as null.

    Raises:
        MissingInputError: there is no such file. StorageError: it cannot be read.
        RunFolderError: it is not JSON, or too large to be a file of a run.
    """
    if not path.is_file():
        raise MissingInputError(f"{path}: there is no such file; check the folder's name")
    with files.os_errors(path, reading=True), path.open("rb") as file:
        content = file.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise RunFolderError(f"{path}: over {_LARGEST_FILE >> 20} MiB, so not a file of a run; check the folder's name")
    try:
        return json.loads(content, parse_constant=_null)
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{path}: not JSON ({error}); restore it from a backup, or remove it") from error


def text(value: str) -> str:
    """`value` as it reads after writing: bytes of a file name that are not UTF-8 become `\\xNN`."""
    return _SURROGATE.sub(_escaped, value)


def finite(record: Mapping[str, object]) -> dict[str, object]:
    """`record` with null for every number that is not finite, and their names under `non_finite`."""
    bad = [key for key, value in record.items() if isinstance(value, Real) and not math.isfinite(value)]
    cleaned = {key: None if key in bad else value for key, value in record.items()}
    return cleaned | {"non_finite": bad} if bad else cleaned


def data(value: object) -> Any:
    """`value` from a file of others, with null for what JSON does not know: numbers that are not finite, and objects.

    What is nested deeper than 32 levels, or comes after 100,000 values, is null too: a few bytes of a pickle can refer
    to themselves, or unfold to billions of values.
    """
    return _data(value, _DEEPEST, [_MOST_VALUES])


def _data(value: object, depth: int, left: list[int]) -> Any:
    left[0] -= 1
    if depth < 0 or left[0] < 0:
        return None
    if isinstance(value, Mapping):
        items = itertools.islice(value.items(), max(0, left[0]))
        return {text(str(key)): _data(item, depth - 1, left) for key, item in items}
    if isinstance(value, list | tuple):
        return [_data(item, depth - 1, left) for item in itertools.islice(value, max(0, left[0]))]
    try:
        return _plain(value, "")
    except (TypeError, ValueError):
        return None


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


def _null(_token: str) -> None:
    return None


# `json.loads` would make a decoder for every line
_NUMBERS = json.JSONDecoder(parse_constant=_null)
_AS_TEXT = json.JSONDecoder(parse_constant=_null, parse_float=str)


def _plain(value: object, where: str) -> object:
    """What `json` can write, with every text in UTF-8."""
    match value:
        case None | bool():
            return value
        case str():
            return text(value)
        case Integral():
            return int(value)
        case Real():
            if not math.isfinite(value):
                raise ValueError(f"{where or 'value'}: {value} is not a number JSON knows; write null and say why")
            return float(value)
        case os.PathLike():
            return _plain(os.fsdecode(value), where)
        case Mapping():
            prefix = f"{where}." if where else ""
            return {_key(key, where): _plain(item, f"{prefix}{key}") for key, item in value.items()}
        case datetime():
            return value.isoformat()
        case set() | frozenset():
            return _plain(sorted(value, key=str), where)
        case list() | tuple():
            return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"{where or 'value'}: a {type(value).__name__} cannot be written as JSON")


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{where or 'value'}: the key {key!r} is not text, so it cannot be written as JSON")
    return text(key)


def _escaped(match: "re.Match[str]") -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
