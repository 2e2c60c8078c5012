"""From files, `--set` items and flags to validated settings, and where each value came from."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from sltdino.core.auto import two_lengths
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_errors import Problem, explain, shown
from sltdino.core.settings_layers import Given, Layer, culprit, spread
from sltdino.core.settings_presets import PRESETS, STREAMS
from sltdino.core.settings_reader import KeyPath, SettingsFile, read_settings_file
from sltdino.core.settings_schema import (
    BY_FLAT_NAME,
    BY_KEY,
    Leaf,
    did_you_mean,
    flatten,
    nest,
    preset,
    printable,
)
from sltdino.core.starter import gives_way
from sltdino.errors import SettingsError


class LoadedSettings(NamedTuple):
    """Valid settings, and where each value that is not a default came from."""

    settings: PretrainSettings
    origins: dict[str, str]
    """By dotted key: `hands.toml:13`, `--epochs`, `--set loss.koleo_weight`, `preset hands` or `preset laptop`."""


def load_settings(
    stream: str | None = None,
    *,
    files: Sequence[Path] = (),
    sets: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    base: LoadedSettings | None = None,
) -> LoadedSettings:
    """Settings for a run, from all their sources; on the command line and in Python alike.

        load_settings("hands", flags={"train_dir": ["crops/hand_l", "crops/hand_r"], "epochs": 5}).settings

    Flags win over `sets`, these over later files, earlier files, the named preset (`preset = "laptop"` in any of
    these), the stream's preset and the defaults.

    Args:
        stream: preset to start from, `hands` or `face`; None for the plain defaults.
        files: TOML or JSON files. Relative paths in a file start at its folder, all others at the current one.
        sets: `KEY=VALUE` items, the value written as in TOML; quotes around text may be left out.
        flags: values by dotted key (`dataset.batch_size`), flat name (`batch_size`) or section.
        base: complete earlier settings that take the place of preset and defaults.

    Raises:
        SettingsError: with every mistake of every source in `problems`, one line each.
        MissingInputError: a preset starts from the starter weights, and the installation lacks them.
    """
    problems: list[str] = []
    layers = [_base_layer(stream, base)]
    read = [_read(path, problems) for path in files]
    layers += [_file_layer(file, problems) for file in read if file]
    layers += [_set_layer(item, problems) for item in sets]
    layers += [_flag_layer(key, value, problems) for key, value in (flags or {}).items()]
    if base is None:
        layers.insert(1, _named_layer(layers))
    given = {key: item for layer in layers for key, item in layer.items()}
    if base is None:
        _choose_length(given, problems)

    settings, found = _validate(given)
    if base is None and settings is not None and not problems and (reason := gives_way(settings, _origins(given))):
        start = given["init_from"]
        given["init_from"] = Given("none", f"{start.origin}{reason}", start.name)
        settings, found = _validate(given)
    if not all(read):  # what an unreadable file would have said is unknown
        found = [problem for problem in found if problem.kind == "value"]
    problems += [_line(problem, given) for problem in found]
    if problems or settings is None:
        raise SettingsError(*map(printable, _in_reading_order(problems, [str(path) for path in files])))
    return LoadedSettings(settings, _origins(given))


def _origins(given: Layer) -> dict[str, str]:
    return {key: item.origin for key, item in given.items() if item.origin}


def _base_layer(stream: str | None, base: LoadedSettings | None) -> Layer:
    if base is not None:
        values = flatten(base.settings.model_dump())
        return {key: Given(value, base.origins.get(key, ""), key) for key, value in values.items()}
    if stream is not None and stream not in STREAMS:
        raise SettingsError(f"unknown stream {shown(stream)}{did_you_mean(stream, STREAMS) or '; use hands or face'}")
    return {key: Given(value, f"preset {stream}", key) for key, value in preset(stream).items()}


def _named_layer(layers: Sequence[Layer]) -> Layer:
    """Values of the preset that the layers name last; an unknown name is for validation to report."""
    name = next((layer["preset"].value for layer in reversed(layers) if "preset" in layer), "none")
    values = flatten(PRESETS.get(name, {})) if isinstance(name, str) else {}
    return {key: Given(value, f"preset {name}", key) for key, value in values.items()}


def _choose_length(given: Layer, problems: list[str]) -> None:
    """Minutes take the place of a preset's epochs; beside epochs that somebody gave they are a mistake."""
    minutes, epochs = given.get("train_minutes"), given.get("epochs")
    if minutes is None or minutes.value is None or epochs is None or epochs.value == "auto":
        return
    if epochs.origin.startswith("preset "):
        del given["epochs"]
    else:
        other = epochs.origin if epochs.origin.startswith("--") else f"'{epochs.name}' of {epochs.origin}"
        problems.append(culprit(BY_KEY["train_minutes"], minutes) + two_lengths(other))


def _read(path: Path, problems: list[str]) -> SettingsFile | None:
    try:
        return read_settings_file(Path(path))
    except SettingsError as error:
        problems += error.problems
        return None


def _file_layer(file: SettingsFile, problems: list[str]) -> Layer:
    return spread(file.values, lambda path, _: file.origin(path), problems, folder=file.folder)


def _set_layer(item: str, problems: list[str]) -> Layer:
    key, equals, text = item.partition("=")
    key = key.strip()
    if not equals:
        problems.append(f"--set {key}: write it as --set KEY=VALUE")
        return {}
    path = tuple(key.split("."))
    leaf = BY_FLAT_NAME.get(path[0]) if len(path) == 1 else BY_KEY.get(key)
    return spread(_tree(path, _toml_value(text, leaf)), lambda *_: f"--set {key}", problems)


def _flag_layer(key: str, value: Any, problems: list[str]) -> Layer:
    def locate(_: KeyPath, leaf: Leaf | None) -> str:
        if leaf is None:
            return "flags"
        return leaf.flag.replace("--", "--no-", 1) if value is False and leaf.is_switch else leaf.flag

    return spread(_tree(tuple(key.split(".")), value), locate, problems)


def _toml_value(text: str, leaf: Leaf | None) -> Any:
    """The value that TOML reads in it; the text itself where that is not TOML, or where text is wanted."""
    try:
        values = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    wants_text = leaf is not None and bool(leaf.types & {str, Path})
    if list(values) != ["value"] or (wants_text and not isinstance(values["value"], str | list)):
        return text
    return values["value"]


def _tree(path: KeyPath, value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    return dict(value)


def _validate(given: Layer) -> tuple[PretrainSettings | None, list[Problem]]:
    """Settings, or the problems. Cross-field checks also run when single values are wrong: without these."""
    values = {key: item.value for key, item in given.items()}
    try:
        return PretrainSettings.model_validate(nest(values)), []
    except ValidationError as error:
        problems = explain(error)
    wrong = {problem.key for problem in problems}
    if any(problem.kind == "cross_field" for problem in problems):
        return None, problems
    rest = {"train_dir": "."} | {key: value for key, value in values.items() if key not in wrong}
    try:
        PretrainSettings.model_validate(nest(rest))
    except ValidationError as error:
        names = [key.rpartition(".")[2].replace("_", " ") for key in wrong]
        # a check against the default that stands in for a wrong value would mislead
        problems += [problem for problem in explain(error) if not any(name in problem.message for name in names)]
    return None, problems


def _in_reading_order(problems: Sequence[str], files: Sequence[str]) -> list[str]:
    """Mistakes of a file by its lines, one file after the other; what is no file's comes last, as found."""

    def place(problem: str) -> tuple[int, int]:
        for number, name in enumerate(files):
            if at := re.match(rf"{re.escape(printable(name))}:(\d*)", problem):
                return number, int(at[1] or 0)
        return len(files), 0

    return sorted(problems, key=place)


def _line(problem: Problem, given: Layer) -> str:
    leaf = BY_KEY[problem.key]
    if problem.kind == "missing":
        return f"{leaf.flag}: {problem.message}"
    return culprit(leaf, given.get(leaf.key)) + problem.message
