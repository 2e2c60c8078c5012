"""How a backbone is named: SLT's `SOURCE::…` texts and the mappings that say the same."""

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from sltdino.core.settings_presets import STARTER
from sltdino.core.settings_schema import printable
from sltdino.core.starter import starter_file
from sltdino.errors import SettingsError
from sltdino.models.import_architecture import ARCHITECTURES, SLT_ARCHITECTURES

DINOV2_REPOSITORY = "facebookresearch/dinov2"
_MODEL_NAMES = {*ARCHITECTURES, *SLT_ARCHITECTURES}
_MODES = {
    **dict.fromkeys(("", "pretrained", "true", "yes", "1"), "pretrained"),
    **dict.fromkeys(("random", "none", "false", "no", "0"), "random"),
}

Kind = Literal["file", "hf", "torchhub", "torchvision"]


class BackboneSource(NamedTuple):
    """Where a backbone comes from; a field that its kind has no use for is empty."""

    kind: Kind
    location: str = ""
    """Path of a file, or repository."""
    file: str = ""
    """Name of the file in a Hugging Face repository; empty: its usual one."""
    model: str = ""
    """What the file must hold (empty: whatever it does), or the name of the network in the library."""
    variant: str = ""
    """`pretrained` or `random` for torchhub; the name of torchvision's weights."""


def parse_spec(spec: str) -> BackboneSource:
    """Read a specification by SLT's grammar, of which `load_dinov2_backbone` has the table.

    The source is case-insensitive; `local`, `huggingface` and `tv` are other names of three of them, and a text without
    `::` is torchhub's. The whole remainder of `file::` is the path when there is such a file, so that it may contain
    colons. `starter` alone is the file of weights that comes with the package.

    Raises:
        SettingsError: it is none of these. MissingInputError: as `starter_file`.
    """
    if spec == STARTER:
        return BackboneSource("file", str(starter_file()))
    name, separator, remainder = spec.partition("::")
    if not separator:
        if os.path.isfile(os.path.expanduser(spec)):
            raise SettingsError(f"{printable(spec)}: to load a file, write file::{printable(spec)}")
        name, remainder = "torchhub", spec
    if name.lower() not in _SOURCES:
        instead = f"; to load the file of that name, write file::{printable(spec)}" if os.path.isfile(spec) else ""
        sources = ", ".join(_SOURCES)
        raise SettingsError(f"{printable(spec)}: {printable(name)!r} is not one of the sources {sources}{instead}")
    if not remainder.strip(":"):
        raise SettingsError(f"{printable(spec)}: names nothing after {printable(name)}::")
    return _SOURCES[name.lower()](remainder)


def parse_mapping(spec: Mapping[str, Any]) -> BackboneSource:
    """Read a mapping with `type` or `source` and the keys of that source; `freeze` is not read here.

    * `file`, `local`, `path`: `path` or `checkpoint`, and `model` or `architecture`.
    * `hf`, `huggingface`: `repo_id` or `repository`, `filename`, and `model` or `architecture`.
    * `torchhub`: `repo` or `repository`, `model`, and `pretrained` or `mode`.
    * `torchvision`, `tv`: `model` and `weights`.
    * `dinov2`, `default`, or no type: `spec` or `identifier`, a text for `parse_spec`.

    Raises:
        SettingsError: a key is unknown, missing, or given twice under two names.
    """
    given = {key: value for key, value in spec.items() if value is not None and key != "freeze"}
    name = str(_one_of(given, ("type", "source")) or "dinov2").lower()
    if name not in _MAPPINGS:
        raise SettingsError(f"backbone: type {printable(name)!r} is not one of {', '.join(_MAPPINGS)}")
    kind, fields = _MAPPINGS[name]
    known = [key for keys in fields.values() for key in keys]
    if unknown := [key for key in given if key not in (*known, "type", "source")]:
        raise SettingsError(
            f"backbone: unknown key {printable(str(unknown[0]))!r} in a mapping of type {name}, which takes "
            f"{', '.join(known)} and freeze"
        )
    values = {field: str(_one_of(given, keys)) for field, keys in fields.items()}
    required = next(iter(fields))
    if not values[required]:
        raise SettingsError(f"backbone: a mapping of type {name} needs {fields[required][0]!r}")
    match kind:
        case "spec":
            return parse_spec(values["spec"])
        case "torchhub":
            mode = _mode(values["variant"])
            return BackboneSource(kind, values["location"] or DINOV2_REPOSITORY, model=values["model"], variant=mode)
        case "torchvision":
            return BackboneSource(kind, model=values["model"], variant=values["variant"] or "default")
    return BackboneSource(kind, **values)


def _file(remainder: str) -> BackboneSource:
    head, _, tail = remainder.rpartition(":")
    if _exists(remainder):
        return BackboneSource("file", remainder)
    if head and (tail.lower() in _MODEL_NAMES or _exists(head)):
        return BackboneSource("file", head, model=tail)
    return BackboneSource("file", remainder)  # not there: its own error names all of it


def _hf(remainder: str) -> BackboneSource:
    parts = remainder.split(":")
    if len(parts) > 3 or not parts[0]:
        raise SettingsError(f"hf::{printable(remainder)}: is not hf::REPO[:FILE[:MODEL]]")
    location, file, model = (*parts, "", "")[:3]
    return BackboneSource("hf", location, file=file, model=model)


def _torchhub(remainder: str) -> BackboneSource:
    rest, _, last = remainder.rpartition(":")
    variant = "pretrained"
    if rest and last.lower() in _MODES:
        variant, remainder = _MODES[last.lower()], rest
    repository, _, model = remainder.rpartition(":")  # what is left may be a branch, as in owner/name:main
    if not model:
        raise SettingsError(f"torchhub::{printable(remainder)}: names no model; it is torchhub::[REPO:]MODEL[:MODE]")
    return BackboneSource("torchhub", repository or DINOV2_REPOSITORY, model=model, variant=variant)


def _torchvision(remainder: str) -> BackboneSource:
    parts = remainder.split(":")
    if len(parts) > 2 or not parts[0]:
        raise SettingsError(f"torchvision::{printable(remainder)}: is not torchvision::MODEL[:WEIGHTS]")
    return BackboneSource("torchvision", model=parts[0], variant=(*parts, "")[1] or "default")


def _mode(value: str) -> str:
    if value.lower() not in _MODES:
        raise SettingsError(f"torchhub: mode {printable(value)!r} is not one of {', '.join(filter(None, _MODES))}")
    return _MODES[value.lower()]


def _one_of(given: Mapping[str, Any], names: tuple[str, ...]) -> object:
    """The value under the one of these names that is given, or an empty text."""
    found = [name for name in names if name in given]
    if len(found) > 1:
        raise SettingsError(f"backbone: {found[0]!r} and {found[1]!r} mean the same; keep one of them")
    return given[found[0]] if found else ""


def _exists(path: str) -> bool:
    return os.path.exists(os.path.expanduser(path))


_SOURCES: dict[str, Callable[[str], BackboneSource]] = {
    "file": _file, "local": _file, "hf": _hf, "huggingface": _hf, "torchhub": _torchhub, "torchvision": _torchvision,
    "tv": _torchvision,
}  # fmt: skip
_MODEL = {"model": ("model", "architecture")}
_Fields = dict[str, tuple[str, ...]]
_FILE: _Fields = {"location": ("path", "checkpoint"), **_MODEL}
_HF: _Fields = {"location": ("repo_id", "repository"), "file": ("filename",), **_MODEL}
_TORCHHUB: _Fields = {"model": ("model",), "location": ("repo", "repository"), "variant": ("pretrained", "mode")}
_TORCHVISION: _Fields = {"model": ("model",), "variant": ("weights",)}
_SPEC: _Fields = {"spec": ("spec", "identifier")}
_MAPPINGS: dict[str, tuple[Kind | Literal["spec"], _Fields]] = {
    "file": ("file", _FILE), "local": ("file", _FILE), "path": ("file", _FILE),
    "hf": ("hf", _HF), "huggingface": ("hf", _HF),
    "torchhub": ("torchhub", _TORCHHUB),
    "torchvision": ("torchvision", _TORCHVISION), "tv": ("torchvision", _TORCHVISION),
    "dinov2": ("spec", _SPEC), "default": ("spec", _SPEC),
}  # fmt: skip
"""Type of a mapping to its kind of source, and to the keys for each field, of which the first is required."""
