"""What the shell may offer after TAB: run folders, settings files, keys and formats. Nothing here needs torch.

Where nothing is offered the shells offer files, which is right for every other path.
"""

import ast
import importlib.util
import os
import re
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

from sltdino.core.run_files import ARTIFACTS, DEFAULT_NAMES, PARAMS, STATUS
from sltdino.core.settings_presets import PRESETS, STARTER, STREAMS
from sltdino.core.settings_schema import LEAVES, Leaf

_DEPTH, _MOST_FOLDERS, _MOST_OFFERED = 3, 300, 50
_PLAIN = re.compile(r"[\w./+@%,~^=-]+")
"""Names offered: Typer's scripts hand the others to the shell unquoted, which would split or run them."""
_SETTINGS_FILES = (".toml", ".tml", ".json")
_WEIGHTS = (".pt", ".pth", ".bin", ".safetensors")


def streams(incomplete: str) -> list[str]:
    """What crops can show."""
    return _starting(incomplete, STREAMS)


def presets(incomplete: str) -> list[str]:
    """The named presets."""
    return _starting(incomplete, PRESETS)


def runs(incomplete: str) -> list[str]:
    """Folders that hold a run, up to three levels below what was typed."""
    return _found(incomplete, lambda _: False)


def runs_and_weights(incomplete: str) -> list[str]:
    """The word for the starter weights; runs; and files of weights outside them or in the one that was typed."""
    return _starting(incomplete, (STARTER,)) + _found(incomplete, lambda name: name.endswith(_WEIGHTS))


def settings_files(incomplete: str) -> list[str]:
    """TOML and JSON files, apart from those that a run writes."""
    return _found(
        incomplete,
        lambda name: name.endswith(_SETTINGS_FILES) and name not in (PARAMS, ARTIFACTS, STATUS),
        offer_runs=False,
    )


def assignments(incomplete: str) -> list[str]:
    """`KEY=VALUE` for `--set`: every word a key knows and its default, so that what is offered is valid as it is."""
    rows = [(leaf, value) for leaf in LEAVES for value in _values(leaf) if _PLAIN.fullmatch(f"={value}")]
    by_key = _starting(incomplete, (f"{leaf.key}={value}" for leaf, value in rows))
    return by_key or _starting(incomplete, (f"{leaf.flat_names[0]}={value}" for leaf, value in rows))


def changeable_keys(incomplete: str) -> list[str]:
    """Keys that `--allow-change` can allow, after the last comma."""
    before, comma, last = incomplete.rpartition(",")
    leaves = [leaf for leaf in LEAVES if leaf.resume == "trajectory"]
    names = _starting(last, (leaf.flat_names[0] for leaf in leaves)) or _starting(last, (leaf.key for leaf in leaves))
    return [f"{before}{comma}{name}" for name in names]


def formats(incomplete: str) -> list[str]:
    """Names of the export formats, read from the source of their table: importing it would import torch."""
    spec = importlib.util.find_spec("sltdino.exporting.formats")
    assert spec is not None
    assert spec.origin is not None
    for node in ast.parse(Path(spec.origin).read_bytes()).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and target.id == "FORMATS" and isinstance(value, ast.Dict):
            return _starting(incomplete, (key.value for key in value.keys if isinstance(key, ast.Constant)))
    return []


def values_of(leaf: Leaf) -> Callable[[str], list[str]] | None:
    """What completes the value of a setting's flag; None where the shell's file names are best."""
    if leaf.key == "resume_from":
        return lambda incomplete: _starting(incomplete, ("auto", "must")) + runs(incomplete)
    if leaf.key == "init_from":
        return lambda incomplete: _starting(incomplete, ("none",)) + runs_and_weights(incomplete)
    if leaf.key == "stream":
        return streams
    return (lambda incomplete: _starting(incomplete, leaf.choices)) if leaf.choices else None


def prepare(environ: MutableMapping[str, str], variable: str) -> None:
    """Make Typer's protocol hold where bash and fish break it; does nothing when no completion was asked for."""
    if variable not in environ:
        return
    environ["COLUMNS"] = "10000"  # Typer wraps descriptions, and fish takes every line for something to offer
    if "COMP_WORDS" in environ and "COMP_CWORD" in environ:
        words, current = environ["COMP_WORDS"].split("\n"), int(environ["COMP_CWORD"])
        # bash splits `--config=x` in three
        drop = [at for at, word in enumerate(words[:current]) if word == "=" and words[at - 1].startswith("--")]
        environ["COMP_WORDS"] = "\n".join(word for at, word in enumerate(words) if at not in drop)
        environ["COMP_CWORD"] = str(current - len(drop))


def _starting(incomplete: str, known: Any) -> list[str]:
    return [str(word) for word in known if str(word).startswith(incomplete)]


def _values(leaf: Leaf) -> Iterator[str]:
    words = ("true", "false") if leaf.is_switch else leaf.choices
    yield from words
    if leaf.default not in (None, "", *words) and not isinstance(leaf.default, bool | tuple):
        yield str(leaf.default)
    elif not words:
        yield ""


def _found(incomplete: str, wanted: Callable[[str], bool], *, offer_runs: bool = True) -> list[str]:
    """Paths that begin with `incomplete`, nearest first: runs and files whose name is `wanted`. A bounded look."""
    typed_folder, slash, start = incomplete.rpartition("/")
    level, found, looked_into = [typed_folder + slash], list[str](), 0
    for _ in range(_DEPTH):
        next_level: list[str] = []
        for folder in level:
            looked_into += 1
            if looked_into > _MOST_FOLDERS or len(found) >= _MOST_OFFERED:
                return found
            for name, is_folder in _entries(folder, start):
                path = folder + name
                if is_folder and offer_runs and _is_run(path):
                    found.append(path)
                elif is_folder:
                    next_level.append(f"{path}/")
                elif wanted(name):
                    found.append(path)
        level, start = next_level, ""
    return found[:_MOST_OFFERED]


def _entries(folder: str, start: str) -> list[tuple[str, bool]]:
    """Name and whether it is a folder, in order; a folder that cannot be read is an empty one."""
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:
            names = [(entry.name, entry.is_dir()) for entry in entries if entry.name.startswith(start)]
    except (OSError, ValueError):
        return []
    shown = (item for item in names if _PLAIN.fullmatch(item[0]) and (start or not item[0].startswith(".")))
    return sorted(shown)


def _is_run(path: str) -> bool:
    folder = Path(os.path.expanduser(path))
    return (folder / PARAMS).exists() or (folder / DEFAULT_NAMES.last_name).exists()
