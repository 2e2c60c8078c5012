"""Read a TOML or JSON settings file, with the line of every key, within limits."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sltdino.core.settings_schema import printable
from sltdino.errors import SettingsError

_MAX_BYTES = 256 * 1024
_MAX_DOTS = 32  # a dotted key of 40 KB costs tomllib 10 s
JSON_COMMENT = "//"
"""A key at the top of a JSON file whose value is for the reader's eyes only; TOML has comments of its own."""

KeyPath = tuple[str, ...]


class SettingsFile(NamedTuple):
    """What a file says, and on which lines."""

    name: str
    """As the user wrote it, safe to print."""
    folder: Path
    values: dict[str, Any]
    lines: dict[KeyPath, int]

    def origin(self, path: KeyPath) -> str:
        """`hands.toml:9`, by the line of the key or of the nearest table around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.name}:{self.lines[path]}" if path else self.name


def read_settings_file(path: Path) -> SettingsFile:
    """Parse the file by its extension.

    Raises:
        SettingsError: missing, unreadable, too large, of another type, or malformed; with the line where there is one.
    """
    name = printable(str(path))
    if path.suffix.lower() not in (".toml", ".tml", ".json"):
        raise SettingsError(f"{name}: a settings file ends in .toml, .tml or .json")
    text = _text(path, name)
    try:
        if path.suffix.lower() == ".json":
            values, lines = _read_json(text, name)
        else:
            values, lines = _read_toml(text, name)
    except RecursionError:
        raise SettingsError(f"{name}: nested too deeply for settings") from None
    if not isinstance(values, dict):
        raise SettingsError(f'{name}: must hold an object of settings, like {{"epochs": 5}}')
    return SettingsFile(name, path.parent, values, lines)


def _text(path: Path, name: str) -> str:
    try:
        if not path.exists():
            raise SettingsError(f"--config: there is no file {name}")
        if not path.is_file():
            raise SettingsError(f"--config: {name} is not a file")
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError(f"--config: cannot read {name} ({printable(reason)})") from None
    if len(content) > _MAX_BYTES:
        raise SettingsError(f"{name}: larger than {_MAX_BYTES // 1024} KiB, which no settings file needs")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{name}:{line}: is not UTF-8 text; save the file as UTF-8") from None


def _read_toml(text: str, name: str) -> tuple[Any, dict[KeyPath, int]]:
    lines = _toml_lines(text, name)  # first, because it refuses what tomllib would choke on
    try:
        return tomllib.loads(text), lines
    except ValueError as error:
        message = printable(str(error)).partition("; use sys")[0]
        at = re.search(r" \(at line (\d+), column (\d+)\)$", message)
        if at:
            raise SettingsError(f"{name}:{at[1]}:{at[2]}: {message[: at.start()]}") from None
        raise SettingsError(f"{name}:{text.count(chr(10)) + 1}: {message}") from None


def _read_json(text: str, name: str) -> tuple[Any, dict[KeyPath, int]]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise SettingsError(f"{name}:{error.lineno}:{error.colno}: {error.msg}") from None
    except ValueError as error:  # a number of more than 4300 digits
        raise SettingsError(f"{name}: {str(error).partition(';')[0]}") from None
    lines = _json_lines(text, name)
    if isinstance(values, dict):
        values.pop(JSON_COMMENT, None)
    return values, lines


_TOML_TOKEN = re.compile(
    r'''(?P<string> """(?:\\.|[^\\])*?(?:"{3,5}|\Z) | \'\'\'.*?(?:\'{3,5}|\Z) | "(?:\\.|[^"\\\n])*"? | '[^'\n]*'? )
    | (?P<skip> \#[^\n]* | [ \t]+ ) | (?P<bare> [\w-]+ ) | (?P<mark> . )''',
    re.VERBOSE | re.DOTALL,
)


class _TomlPlace:
    """Where a scan through TOML stands: which table or inline table, before or after an equals sign."""

    def __init__(self) -> None:
        self.table: KeyPath = ()
        self.parts: list[str] = []
        self.key: KeyPath = ()
        self.in_value = False
        self.open: list[tuple[str, KeyPath]] = []

    def read(self, kind: str, token: str) -> KeyPath | None:
        """Advance; the path of a key or table header that this token completes."""
        if self.in_value:
            self._read_value(token)
        elif kind in ("bare", "string"):
            self.parts.append(token.strip("\"'") if kind == "string" else token)
        elif token == "=":
            self.key, self.parts, self.in_value = (*self.table, *self.parts), [], True
            return self.key
        elif token == "]" and self.parts:
            self.table, self.parts = tuple(self.parts), []
            return self.table
        elif token == "}" and self.open:
            self._close()
        elif token == "\n" and not self.open:
            self.parts = []
        return None

    def _read_value(self, token: str) -> None:
        if token in ("{", "["):
            self.open.append((token, self.table))
            if token == "{":
                self.table, self.in_value = self.key, False
        elif token in ("}", "]") and self.open:
            self._close()
        elif (token == "," and self.open and self.open[-1][0] == "{") or (token == "\n" and not self.open):
            self.in_value = False

    def _close(self) -> None:
        _, self.table = self.open.pop()
        self.in_value = True


def _toml_lines(text: str, name: str) -> dict[KeyPath, int]:
    lines: dict[KeyPath, int] = {}
    place, line, dots = _TomlPlace(), 1, 0
    for match in _TOML_TOKEN.finditer(text):
        kind, token = match.lastgroup or "", match[0]
        if kind != "skip":
            dots = dots + (token == ".") if kind != "mark" or token == "." else 0
            if dots > _MAX_DOTS:
                raise SettingsError(f"{name}:{line}: a key with more than {_MAX_DOTS} dots is no setting")
            if path := place.read(kind, token):
                lines.setdefault(path, line)
        line += token.count("\n")
    return lines


def _json_lines(text: str, name: str) -> dict[KeyPath, int]:
    lines: dict[KeyPath, int] = {}
    for path, line in _json_keys(text):
        if path in lines:
            key = printable(".".join(path))[:100]
            raise SettingsError(f"{name}:{line}: '{key}' is given twice, first on line {lines[path]}")
        lines[path] = line
    return lines


def _json_keys(text: str) -> Iterator[tuple[KeyPath, int]]:
    """Path and line of every key of (valid) JSON outside arrays."""
    line, arrays = 1, 0
    objects: list[KeyPath] = []
    path: KeyPath = ()
    for match in re.finditer(r'"(?:\\.|[^"\\])*"(?P<colon>\s*:)?|[{}\[\]]|\n', text):
        token = match[0]
        if token == "[":
            arrays += 1
        elif token == "]":
            arrays -= 1
        elif arrays == 0 and token == "{":
            objects.append(path)
        elif arrays == 0 and token == "}":
            objects.pop()
        elif arrays == 0 and match["colon"]:
            path = (*objects[-1], json.loads(token[: -len(match["colon"])]))
            yield path, line
        line += token.count("\n")
