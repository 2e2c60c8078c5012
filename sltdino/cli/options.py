"""A command-line option for every settings field. Values stay text: pydantic reads them, and reports all at once."""

import functools
import inspect
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from sltdino.cli import completion
from sltdino.core.settings_schema import BY_KEY, LEAVES, Leaf, preset
from sltdino.errors import SettingsError

_FIRST = ("train_dir", "output_dir", "preset", "epochs", "train_minutes")
"""What the help of a run begins with."""
BARE_PRINT_CONFIG = "--print-config"
"""Takes a value or none, which Typer cannot express: `with_values` gives it one."""


def with_values(argv: Sequence[str]) -> list[str]:
    """The arguments, with `toml` as the value of a `--print-config` that has none."""
    return [f"{item}=toml" if item == BARE_PRINT_CONFIG else item for item in argv]


class Typed(NamedTuple):
    """What the user typed about settings, ready for `load_settings`."""

    files: tuple[Path, ...]
    sets: tuple[str, ...]
    flags: dict[str, Any]
    """By dotted key; only the flags that were typed."""
    quiet: bool
    verbose: bool


def takes_settings(
    command: Callable[..., None], *, stream: str | None = None, without: Collection[str] = ()
) -> Callable[..., None]:
    """Turn `command(typed, …)` into a Typer command with `--config`, `--set`, `-q`, `-v` and a flag per settings field.

    Its other parameters come first. Defaults in the help are those of the stream's preset; without a stream none are
    shown, because the values come from elsewhere. Fields whose keys are in `without` get no flag.
    """
    in_order = [*map(BY_KEY.__getitem__, _FIRST), *(leaf for leaf in LEAVES if leaf.key not in _FIRST)]
    leaves = {_parameter_name(leaf): leaf for leaf in in_order if leaf.key not in without}
    options = [_option(name, leaf, stream) for name, leaf in leaves.items()]
    own = [parameter for parameter in inspect.signature(command).parameters.values() if parameter.name != "typed"]
    known = {leaf.flag for leaf in LEAVES} | {name for parameter in own for name in _spellings(parameter)}

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        files, sets = values.pop("config"), values.pop("set")
        flags = {leaf.key: value for name, leaf in leaves.items() if _is_typed(value := values.pop(name))}
        _refuse_swallowed_flags(flags, known)
        quiet, verbose = values.pop("quiet"), values.pop("verbose")
        if quiet and verbose:
            raise SettingsError("--quiet and --verbose: choose one of them")
        command(Typed(tuple(files or ()), tuple(sets or ()), flags, quiet, verbose), **values)

    parameters = [
        *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own),
        options[0],  # so that its section comes before that of --config
        _parameter(
            "config",
            list[Path],
            "--config",
            "TOML or JSON file; repeat it, later files win.",
            metavar="FILE",
            complete=completion.settings_files,
        ),
        _parameter(
            "set",
            list[str],
            "--set",
            "Any key of a file: --set loss.koleo_weight=0.1.",
            metavar="KEY=VALUE",
            complete=completion.assignments,
        ),
        *options[1:],
        _switch("quiet", "-q", "Say nothing but warnings and errors."),
        _switch("verbose", "-v", "Say every logged step, and what each auto value became."),
    ]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def _parameter_name(leaf: Leaf) -> str:
    return f"field__{leaf.key.replace('.', '__')}"


def _is_typed(value: Any) -> bool:
    return value is not None and value != []


def _spellings(parameter: inspect.Parameter) -> list[str]:
    """What a command's own option is called, where it says so."""
    named: list[object] = []
    for marker in parameter.annotation.__metadata__:
        named += [marker.default, *(marker.param_decls or ())]  # inside Annotated, Typer keeps the first as the default
    return [name for name in named if isinstance(name, str) and name.startswith("--")]


def _refuse_swallowed_flags(flags: dict[str, Any], known: Collection[str]) -> None:
    """`--train-dir --epochs 5` would otherwise train on a folder named `--epochs`."""
    problems = []
    for leaf in LEAVES:
        value = flags.get(leaf.key)
        for item in value if isinstance(value, list | tuple) else (value,):
            if item in known:
                problems.append(f"{leaf.flag}: needs {leaf.metavar} before {item}")
    if problems:
        raise SettingsError(*problems)


def _option(name: str, leaf: Leaf, stream: str | None) -> inspect.Parameter:
    spelling, kind = leaf.flag, _text_kind(leaf)
    if leaf.is_switch:
        spelling += f"/--no-{leaf.flag.removeprefix('--')}"
    return _parameter(
        name, kind, spelling, leaf.help + _default(leaf, stream), metavar=leaf.metavar, title=leaf.title,
        complete=completion.values_of(leaf),
    )  # fmt: skip


def _text_kind(leaf: Leaf) -> Any:
    if leaf.is_switch:
        return bool
    return list[str] if leaf.length is None else str if leaf.length == 1 else tuple[(str,) * leaf.length]  # type: ignore[misc]


def _default(leaf: Leaf, stream: str | None) -> str:
    if leaf.required:
        return " [required]" if stream else ""
    value = preset(stream).get(leaf.key, leaf.default)
    if stream is None or value in (None, "", ()):
        return ""
    if isinstance(value, bool):
        return f" [default: {'on' if value else 'off'}]"
    return f" [default: {' '.join(map(str, value)) if isinstance(value, tuple) else value}]"


def _parameter(
    name: str,
    kind: Any,
    spelling: str,
    text: str,
    *,
    metavar: str,
    title: str = "Settings",
    complete: Callable[[str], list[str]] | None = None,
) -> inspect.Parameter:
    option = typer.Option(
        spelling,
        help=" ".join(text.split()),  # zsh shows what a line break leaves of it
        metavar=metavar,
        rich_help_panel=title,
        show_default=False,
        autocompletion=complete,
        readable=False,  # who reads a file says better what is wrong with it
    )
    # every default is None, so that a flag nobody typed never hides a value of a file
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _switch(name: str, letter: str, text: str) -> inspect.Parameter:
    annotation = Annotated[bool, typer.Option(f"--{name}", letter, help=text)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
