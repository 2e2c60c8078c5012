"""Strict JSON: UTF-8, no NaN or Infinity, files that appear whole."""

import itertools
import json
import math
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from sltdino.core import files
from sltdino.errors import MissingInputError, RunFolderError

_LARGEST_FILE = 64 << 20
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
        return json.loads(content, parse_constant=null)
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


def null(_token: str) -> None:
    """What NaN and Infinity are read as."""


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
