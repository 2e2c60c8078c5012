"""Settings as the text of a TOML or JSON file: all of a run's with their origins, or a template to fill in."""

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sltdino.core import json_files
from sltdino.core.changes import RUN_CONTROL
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_files import LoadedSettings
from sltdino.core.settings_presets import PRESETS, STREAMS
from sltdino.core.settings_reader import JSON_COMMENT
from sltdino.core.settings_schema import (
    BY_KEY,
    LEAVES,
    WORDS_FOR_PATHS,
    Leaf,
    flatten,
    nest,
    preset,
    printable,
    with_absolute_paths,
)
from sltdino.errors import SettingsError

_COMMENT_COLUMN = 44
_WIDTH = 110
_DEFAULT = "default"
_CROPS = {"face": ["crops/face"], "hands": ["crops/hand_l", "crops/hand_r"]}


def settings_toml(loaded: LoadedSettings) -> str:
    """Every setting as TOML with its origin in a comment, on one line each. Paths are absolute.

    Loaded with `--config`, from whatever folder, it gives the same settings.

    Raises:
        SettingsError: a path holds bytes that are no text, which no settings file can name.
    """
    values = _values(loaded.settings)

    def line(leaf: Leaf) -> Iterator[str]:
        key, value = file_key(leaf)[-1], values[leaf.key]
        text = f"# {key} is not set" if value is None else f"{key} = {_toml(value)}"
        yield f"{text:<{_COMMENT_COLUMN}}  # {printable(loaded.origins.get(leaf.key, _DEFAULT))}"

    return _document(line)


def settings_json(loaded: LoadedSettings) -> str:
    """Every setting as JSON; the origins stand under the key `//`, which reading passes over.

    Raises:
        SettingsError: as `settings_toml`.
    """
    given = {".".join(file_key(BY_KEY[key])): value for key, value in _values(loaded.settings).items()}
    given = {key: value for key, value in given.items() if value is not None}
    origins = {".".join(file_key(leaf)): loaded.origins.get(leaf.key, _DEFAULT) for leaf in LEAVES}
    comment = {"origins": {key: origin for key, origin in origins.items() if key in given}}
    return json_files.dumps({JSON_COMMENT: comment, **nest(given)}, indent=2) + "\n"


def settings_template(stream: str, named: str = "none") -> str:
    """A TOML file for `sltdino pretrain <stream>`, every setting explained and commented out at its default.

    Args:
        named: the preset that the file asks for, and whose values are the defaults then.
    """
    defaults = {leaf.key: leaf.default for leaf in LEAVES} | preset(stream) | flatten(PRESETS[named])
    out = f"work_dirs/{defaults['algorithm']}_{STREAMS[stream]['stream']}"

    def lines(leaf: Leaf) -> Iterator[str]:
        if leaf.key in RUN_CONTROL - {"output_dir"}:
            return  # which run to work on is for the command line
        yield ""
        yield from textwrap.wrap(leaf.help, _WIDTH, initial_indent="# ", subsequent_indent="# ")
        key, default = file_key(leaf)[-1], defaults[leaf.key]
        if leaf.key == "train_dir":
            yield f"{key} = {_toml(_CROPS[stream])}"
        elif leaf.key == "output_dir":
            yield f"{key} = {_toml(out)}"
        elif leaf.key == "preset" and named != "none":
            yield f"{key} = {_toml(named)}"
        else:
            unset = "none" if "none" in WORDS_FOR_PATHS.get(leaf.key, ()) else leaf.metavar
            yield f"#{key} = {_toml(unset if default is None else _plain(default))}"

    return (
        f"# Settings of a run:  sltdino pretrain {stream} --config {stream}.toml\n"
        "# '#name = value' shows a default: take the # away to change it.\n"
        "# Paths are relative to this file. Flags on the command line win over it.\n"
    ) + _document(lines)


def file_key(leaf: Leaf) -> tuple[str, ...]:
    """Where a file has the setting: its flag's name at the top level, or section and name."""
    section, _, name = leaf.key.rpartition(".")
    return (section, name) if section else (leaf.flat_names[0],)


def _document(lines: Callable[[Leaf], Iterator[str]]) -> str:
    """The lines of every setting under the heading of its section."""
    text: list[str] = []
    section = ""
    for leaf in LEAVES:
        if (found := leaf.key.rpartition(".")[0]) != section:
            section = found
            text += ["", f"[{section}]"]
        text += lines(leaf)
    return "\n".join(text) + "\n"


def _values(settings: PretrainSettings) -> dict[str, Any]:
    """Plain values by dotted key, paths absolute."""
    values = {key: _plain(value) for key, value in flatten(with_absolute_paths(settings).model_dump()).items()}
    for key in flatten(PRESETS[settings.preset]):
        if values[key] is None and "none" in WORDS_FOR_PATHS.get(key, ()):
            values[key] = "none"  # left out, it would be the preset's again
    for key, value in values.items():
        for text in value if isinstance(value, list) else (value,):
            if isinstance(text, str) and not _is_utf8(text):
                problem = f"{printable(text)} is not UTF-8, so a settings file cannot say it; rename it"
                raise SettingsError(f"{BY_KEY[key].flag}: {problem}")
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _toml(value: Any) -> str:
    """A plain value on one line of TOML."""
    import tomli_w

    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")
