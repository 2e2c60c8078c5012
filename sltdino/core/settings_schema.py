"""The settings model as a flat list of options: the one place that reflects over it."""

import difflib
import os
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_base import ChangeClass, Knob, Section
from sltdino.core.settings_presets import STARTER, STREAMS

_NAMES = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH", bool: "BOOL"}


WORDS_FOR_PATHS = {"resume_from": ("auto", "must"), "init_from": ("none", STARTER)}
"""Options that take a path or one of a few words."""
FILE_SOURCES = ("file", "local")
"""Sources of weights whose location is a path: `file::weights.pth`."""
_SOURCED = re.compile(r"([A-Za-z]+)::(.*)", re.DOTALL)

_ALSO_CALLED = {
    "lr": "learning_rate", "min_lr": "min_learning_rate", "wd": "weight_decay", "bs": "batch_size",
    "batch": "batch_size", "workers": "num_workers", "out": "output_dir", "data": "train_dir",
    "data_dir": "train_dir", "data_path": "train_dir",
}  # fmt: skip
"""What people type who come from other programs; only for suggestions."""


class Leaf(NamedTuple):
    """One option: a field of the root or of a section."""

    key: str
    """Dotted key, `dataset.batch_size`; the field's name for a field of the root."""
    flag: str
    """`--batch-size`."""
    spellings: tuple[str, ...]
    """What a file may call it inside its section."""
    flat_names: tuple[str, ...]
    """What a file may call it at the top level."""
    annotation: Any
    default: Any
    required: bool
    help: str
    title: str
    """Heading of its section in the help."""
    resume: ChangeClass

    @property
    def types(self) -> frozenset[Any]:
        """Plain types somewhere in the annotation, such as `{float}` for a tuple of floats or `{int, NoneType}`."""
        return frozenset(atom for atom in _atoms(self.annotation) if isinstance(atom, type))

    @property
    def choices(self) -> tuple[str, ...]:
        """Words of the annotation's literals, such as `auto`."""
        return tuple(atom for atom in _atoms(self.annotation) if isinstance(atom, str))

    @property
    def is_switch(self) -> bool:
        """On the command line a pair `--x / --no-x` without a value."""
        return bool in self.types

    @property
    def is_path(self) -> bool:
        """Relative to the folder of the file it stands in. Two are text, for the sake of words that are no paths."""
        return Path in self.types or self.key in WORDS_FOR_PATHS

    @property
    def length(self) -> int | None:
        """Number of values; 1 for a scalar, None for any number."""
        if get_origin(self.annotation) is not tuple:
            return 1
        items = get_args(self.annotation)
        return None if Ellipsis in items else len(items)

    @property
    def metavar(self) -> str:
        """What a value looks like, for the help: `INT|auto`, `FLOAT FLOAT`."""
        passed_over = {type(None)} | ({int} if float in self.types else set())  # every whole number is a number
        words = [_NAMES.get(atom, atom) for atom in _atoms(self.annotation) if atom not in passed_over]
        if get_origin(self.annotation) is tuple and self.length is not None:
            return " ".join(words)
        return "|".join(dict.fromkeys(words))


def leaves_of(section: type[Section], *, name: str = "") -> Iterator[Leaf]:
    """Every option of the section and of the sections in it, in the order of declaration."""
    for field_name, field in section.model_fields.items():
        nested = section_class(field.annotation)
        if nested is not None:
            yield from leaves_of(nested, name=field_name)
        else:
            yield _leaf(section, name, field_name, field)


def section_class(annotation: Any) -> type[Section] | None:
    """The annotation, if it is a section."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def _leaf(section: type[Section], section_name: str, name: str, field: FieldInfo) -> Leaf:
    knob = next((marker for marker in field.metadata if isinstance(marker, Knob)), Knob())
    flag = knob.flag or f"--{section.flag_prefix}{name.replace('_', '-')}"
    snake = flag.removeprefix("--").replace("-", "_")
    short = snake.removeprefix(section.flag_prefix.replace("-", "_"))
    return Leaf(
        key=f"{section_name}.{name}" if section_name else name,
        flag=flag,
        spellings=(name, *knob.keys),
        flat_names=tuple(dict.fromkeys((snake, short, name, *knob.keys))),
        annotation=field.annotation,
        default=None if field.is_required() else field.default,
        required=field.is_required(),
        help=field.description or "",
        title=section.title,
        resume=knob.resume or section.resume,
    )


def _atoms(annotation: Any) -> Iterator[Any]:
    """Types and literal words of an annotation, once each place they occur."""
    origin, items = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _atoms(items[0])
    elif origin is Literal:
        yield from items
    elif origin in (Union, types.UnionType, tuple):
        for item in items:
            if item is not Ellipsis:
                yield from _atoms(item)
    else:
        yield annotation


LEAVES = tuple(leaves_of(PretrainSettings))
BY_KEY = {leaf.key: leaf for leaf in LEAVES}
BY_FLAT_NAME = {name: leaf for leaf in LEAVES for name in leaf.flat_names}
SECTIONS = {
    alias: name
    for name, field in PretrainSettings.model_fields.items()
    if (section := section_class(field.annotation))
    for alias in (name, *section.file_aliases)
}
"""Section by each name a file may give it."""
IN_SECTION = {
    section: {word: leaf for leaf in LEAVES if leaf.key.startswith(f"{section}.") for word in leaf.spellings}
    for section in dict.fromkeys(SECTIONS.values())
}
"""For each section, option by each name it has there."""


def names_source(text: str) -> bool:
    """Whether a text begins with `SOURCE::`, so that it is no plain path; one that does is written `./NAME::REST`."""
    return _SOURCED.fullmatch(text) is not None


def with_path(leaf: Leaf, value: str, change: Callable[[str], str]) -> str:
    """`value` with `change` made to the path in it; what names no path of this machine is left as it is."""
    if not leaf.is_path or value in WORDS_FOR_PATHS.get(leaf.key, ()):
        return value
    sourced = _SOURCED.fullmatch(value) if leaf.key == "init_from" else None
    if sourced is None:
        changed = change(value)
        return os.path.join(".", changed) if names_source(changed) else changed  # Path takes `./` away
    source, location = sourced.groups()
    return f"{source}::{change(location)}" if location and source.lower() in FILE_SOURCES else value


def find_leaf(name: str) -> Leaf | None:
    """The option that a person means by a dotted key, a flat name or a flag (with or without dashes)."""
    snake = name.strip().removeprefix("--").replace("-", "_")
    return BY_KEY.get(snake) or BY_FLAT_NAME.get(snake)


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values, as of `model_dump`, by dotted key."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name in IN_SECTION:
            flat |= {f"{name}.{key}": item for key, item in value.items()}
        else:
            flat[name] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        section, _, name = key.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[name] = value
    return nested


def absolute(leaf: Leaf, value: Any) -> Any:
    """The option's value with its paths absolute; words that stand for a path, and all else, as they are."""
    if isinstance(value, tuple):
        return tuple(absolute(leaf, item) for item in value)
    if not leaf.is_path or not isinstance(value, str | Path):
        return value
    return type(value)(with_path(leaf, str(value), os.path.abspath))


def with_absolute_paths(settings: PretrainSettings) -> PretrainSettings:
    """The settings as they mean the same from every current folder."""
    values = flatten(settings.model_dump())
    return PretrainSettings.model_validate(nest({key: absolute(BY_KEY[key], value) for key, value in values.items()}))


def preset(stream: str | None) -> dict[str, Any]:
    """Values of a stream's preset by dotted key."""
    return flatten(STREAMS[stream]) if stream else {}


def did_you_mean(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """The end of a message about an unknown name: `; did you mean 'epochs'?`, or nothing."""
    near = nearest(name, known)
    return f"; did you mean '{prefix}{near}'?" if near else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name or flag that an unknown one stands for: by the field's abbreviations, then by likeness; or ""."""
    known, short = list(known), name.removeprefix("--").lower().replace("-", "_")
    usual = _ALSO_CALLED.get(short, "")
    for candidate in (usual, f"--{usual.replace('_', '-')}"):
        if candidate in known:
            return candidate
    begun = [candidate for candidate in known if len(short) > 2 and candidate.startswith(f"{name}_")]
    return next(iter([*difflib.get_close_matches(name[:100], known, n=1, cutoff=0.6), *begun]), "")


def printable(text: str) -> str:
    """Text from outside, with every control, direction and surrogate character spelt out."""
    return re.sub(r"[^ -~]", lambda match: match[0] if match[0].isprintable() else _spelt(match[0]), text)


def _spelt(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
