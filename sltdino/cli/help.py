"""The help of every command: grouped by section, names never cut, the same on a terminal and in a pipe."""

import re
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from sltdino.cli.messages import no_such_command

# Typer's own formatter draws boxes and truncates long option names. `ctx`, `formatter` and the parameters belong to
# Click, which newer Typers ship inside them, so there is no module to import their types from.

_COLUMN = 32
"""Where the descriptions start."""
_ORDER_OF_USE = (
    "check",
    "pretrain",
    "resume",
    "inspect",
    "evaluate",
    "export",
    "embed",
    "config",
    "demo-data",
    "doctor",
)
EXAMPLE = "Example: sltdino pretrain {stream} --train-dir crops --preset laptop --dry-run"


class PlainCommand(TyperCommand):
    """A command whose help is plain text."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write usage, description and options."""
        formatter.write("\n".join(_page(self, ctx)) + "\n")


class PlainGroup(TyperGroup):
    """A group of commands whose help is plain text."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of use, and within a group as they were added."""
        names = list(super().list_commands(ctx))
        return sorted(names, key=lambda name: _ORDER_OF_USE.index(name) if name in _ORDER_OF_USE else len(names))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is meant, or a usage error that says which one may be."""
        if not ctx.resilient_parsing and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(no_such_command(args[0], ctx))
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write usage, description, commands and options."""
        rows: list[tuple[str, str]] = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, (command.help or "").strip().partition("\n")[0]))
        formatter.write("\n".join(_page(self, ctx, commands=rows)) + "\n")


def _page(command: Any, ctx: Any, *, commands: list[tuple[str, str]] | None = None) -> Iterator[str]:
    width = max(40, min(shutil.get_terminal_size().columns, 110))
    arguments = [parameter for parameter in command.get_params(ctx) if parameter.param_type_name == "argument"]
    pieces = [_names(argument) if argument.required else f"[{_names(argument)}]" for argument in arguments]
    yield " ".join(["Usage:", ctx.command_path, "[OPTIONS]", *pieces, *(["COMMAND"] if commands else [])])
    for paragraph in (command.help or "").strip().split("\n\n"):
        yield ""
        yield from _wrapped(" ".join(paragraph.split()), width, indent=0)
    if commands:
        yield from _group("Commands", commands, width)
    groups: dict[str, list[tuple[str, str]]] = {"Arguments": []}
    for parameter in command.get_params(ctx):
        if not getattr(parameter, "hidden", False):
            is_argument = parameter.param_type_name == "argument"
            title = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or "Options"
            groups.setdefault(title, []).append((_names(parameter), parameter.help or ""))
    for title, rows in groups.items():
        if rows:
            yield from _group(title, rows, width)


def _group(title: str, rows: list[tuple[str, str]], width: int) -> Iterator[str]:
    column = min(_COLUMN, width // 2)
    yield ""
    yield f"{title}:"
    for name, text in rows:
        head = f"  {name}"
        lines = list(_wrapped(text, width, indent=column))
        if lines and len(head) <= column - 2:
            head = head.ljust(column) + lines.pop(0).lstrip()
        yield head
        yield from lines


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    names = ", ".join(sorted(parameter.opts, key=len))
    if parameter.secondary_opts:
        return f"{names} / {', '.join(parameter.secondary_opts)}"
    return names if parameter.is_flag or not parameter.metavar else f"{names} {parameter.metavar}"


def _wrapped(text: str, width: int, *, indent: int) -> list[str]:
    margin = " " * indent
    glued = re.sub(r"\[default: .*\]", lambda match: match[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(
        glued,
        width,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ") for line in lines]


def show_help_without_command(ctx: typer.Context) -> None:
    """Callback of a group: `sltdino pretrain` alone shows what it can do, as a mistake."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(2)
