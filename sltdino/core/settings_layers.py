"""One source of settings (a file, a `--set` item, a flag) as values by dotted key."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sltdino.core.settings_errors import shown, wrong_switch
from sltdino.core.settings_reader import KeyPath
from sltdino.core.settings_schema import BY_FLAT_NAME, IN_SECTION, SECTIONS, Leaf, did_you_mean, nearest, with_path

_MAX_UNKNOWN = 20  # unknown keys reported one by one from one source


class Given(NamedTuple):
    """A value somebody gave."""

    value: Any
    origin: str
    """`hands.toml:13`, `--epochs` or `preset hands`; nothing for a default."""
    name: str
    """What it was called there."""


Layer = dict[str, Given]
Locate = Callable[[KeyPath, Leaf | None], str]
"""Origin of what a source has at a path; the option is None where the path is unknown."""


def spread(values: Mapping[str, Any], locate: Locate, problems: list[str], *, folder: Path | None = None) -> Layer:
    """One source's values by dotted key. Within a source the flat top level wins over sections."""
    flat: Layer = {}
    nested: Layer = {}
    unknown: list[tuple[KeyPath, Any]] = []

    def put(layer: Layer, leaf: Leaf, path: KeyPath, value: Any) -> None:
        given = Given(_resolved(leaf, value, folder), locate(path, leaf), ".".join(path))
        if leaf.key in layer:
            first = layer[leaf.key]
            problems.append(f"{given.origin}: '{given.name}' repeats '{first.name}' of {first.origin}; keep one")
        if wrong := wrong_switch(leaf, value) or _wrong_path(leaf, value):
            problems.append(culprit(leaf, given) + wrong)
        layer[leaf.key] = given

    for name, value in values.items():
        section = SECTIONS.get(name)
        if leaf := BY_FLAT_NAME.get(name):
            put(flat, leaf, (name,), value)
        elif section is None:
            unknown.append(((name,), value))
        elif not isinstance(value, Mapping):
            problems.append(f"{locate((name,), None)}: '{name}' is a section of settings (got {shown(value)})")
        else:
            for key, item in value.items():
                if leaf := IN_SECTION[section].get(key):
                    put(nested, leaf, (name, key), item)
                else:
                    unknown.append(((name, key), item))
    problems += [f"{locate(path, None)}: {_unknown(path, value)}" for path, value in unknown[:_MAX_UNKNOWN]]
    if len(unknown) > _MAX_UNKNOWN:
        problems.append(f"{locate((), None)}: {len(unknown) - _MAX_UNKNOWN} more unknown keys")
    return nested | flat


def _unknown(path: KeyPath, value: Any) -> str:
    *section, name = path
    shown_name = ".".join(path) if len(name) <= 80 else f"{name[:77]}..."
    if not section and isinstance(value, Mapping):
        return f"unknown section '{shown_name}'{did_you_mean(name, SECTIONS)}"
    message = f"unknown key '{shown_name}'"
    if not section:
        return message + did_you_mean(name, [*BY_FLAT_NAME, *SECTIONS])
    if near := did_you_mean(name, IN_SECTION[SECTIONS[section[0]]], prefix=f"{section[0]}."):
        return message + near
    elsewhere = BY_FLAT_NAME.get(name) or BY_FLAT_NAME.get(nearest(name, BY_FLAT_NAME))
    return f"{message}; did you mean '{elsewhere.key}'?" if elsewhere else message


def _wrong_path(leaf: Leaf, value: Any) -> str:
    if not leaf.is_path:
        return ""
    items = [item for item in (value if isinstance(value, list | tuple) else (value,)) if isinstance(item, str)]
    if any(not item.strip() for item in items):
        return f"must not be empty (got {shown(value)})"
    return "must not contain a NUL character" if any("\0" in item for item in items) else ""


def _resolved(leaf: Leaf, value: Any, folder: Path | None) -> Any:
    """Expand `~`, and let a file's relative paths start at its folder. What is no path stays as it is."""
    if not leaf.is_path:
        return value
    if isinstance(value, list | tuple):
        return [_resolved(leaf, item, folder) for item in value]
    if not isinstance(value, str | Path):
        return value
    path = with_path(leaf, str(value), lambda path: str((folder or Path()) / os.path.expanduser(path)))
    return Path(path) if Path in leaf.types else path


def culprit(leaf: Leaf, given: Given | None) -> str:
    """The start of a message about a value: who is to blame."""
    origin = given.origin if given else ""
    if origin.startswith("--"):
        return f"{origin}: "
    if given is None or not re.search(r"\.(toml|tml|json)(:\d+)?$", origin, re.IGNORECASE):
        return f"{leaf.flag} ({origin or 'default'}): "
    return f"{origin}: '{given.name}' "
