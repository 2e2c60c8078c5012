"""What the command line says about an error: an exit code, and lines of plain text."""

import contextlib
import difflib
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator
from typing import Any, NamedTuple

from sltdino.core.settings_schema import nearest, printable
from sltdino.errors import SettingsError, SltDinoError, StoppedError, StorageError

# Click's contexts and commands are untyped here: newer Typers ship Click inside them, so there is no module to name

INTERRUPTED = 130
"""128 + SIGINT; what newer Typers return after Ctrl-C."""

STDOUT_CLOSED = 141
"""128 + SIGPIPE, as of any program whose reader has gone: `sltdino inspect RUN | head -1`."""


class Said(NamedTuple):
    """How the program ends."""

    exit_code: int
    lines: tuple[str, ...] = ()
    """For standard error."""


def explained(error: Exception, typed: list[str]) -> Said:
    """Exit code, and what is wrong, for an error that ended a command; `typed` is what the user typed."""
    if isinstance(error, SettingsError):
        return Said(error.exit_code, tuple(f"error: {printable(problem)}" for problem in error.problems))
    if isinstance(error, SltDinoError):
        text, kind = _with_spelt_names(str(error), typed), "error"
        if isinstance(error, StoppedError):  # which the user or the system wanted
            text, kind = re.sub(r"\bSIGINT(?= at step| came)", "Ctrl-C", text), "stopped"
        first, *rest = map(printable, text.split("\n"))
        return Said(error.exit_code, (f"{kind} [{error.code}] {first}", *(f"  {line}" for line in rest)))
    if hasattr(error, "format_message"):  # Typer's usage errors; their class has lived in two packages
        return Said(2, (f"error: {printable(_usage(error, typed))}",))
    if isinstance(error, OSError) and traceback.extract_tb(error.__traceback__)[-1].name == "echo":  # Typer's
        return _not_printed(error)
    if isinstance(error, OSError) and error.filename is not None:  # a folder without permissions, a name too long, ...
        where, reason = printable(os.fsdecode(error.filename)), error.strerror or type(error).__name__
        line = f"error [{StorageError.code}] {where}: {reason}; check the name, its permissions and the disk"
        return Said(StorageError.exit_code, (line,))
    summary = printable(f"{type(error).__name__}: {error}".partition("\n")[0])[:300]
    kept = _kept_traceback(error)
    return Said(1, (f"error [E-BUG] {summary}; this is our mistake, please report it with {kept}",))


def interrupted(typed: list[str]) -> Said:
    """What to say when Ctrl-C ended a command that had not begun to watch for it, as a run does while it trains."""
    if "--follow" in typed:  # which only Ctrl-C ends before the run does
        return Said(INTERRUPTED)
    command = next((word for word in typed if not word.startswith("-")), "")
    nothing = "; nothing was saved" if command in ("pretrain", "resume") else ""
    return Said(INTERRUPTED, (f"stopped [E-INTERRUPTED] Ctrl-C{nothing}",))


def flushed() -> Said | None:
    """What to say when standard output does not take the rest of what was printed; None when it does."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        return _not_printed(error)
    return None


def _not_printed(error: OSError) -> Said:
    if isinstance(error, BrokenPipeError):
        return Said(STDOUT_CLOSED)
    reason = error.strerror or type(error).__name__
    line = f"error [{StorageError.code}] standard output: writing failed ({reason}); send it elsewhere"
    return Said(StorageError.exit_code, (line,))


def no_such_command(name: str, ctx: Any) -> str:
    """What to say about a word that is no command of the group of `ctx`: perhaps it is one elsewhere, or nearly one."""
    here = list(ctx.command.commands)
    elsewhere = {path: command for path, command in _commands(ctx.find_root()).items() if " " in path}
    last_words = {path.rpartition(" ")[2]: path for path in elsewhere}
    if name in last_words:
        return f"no such command '{name}'; did you mean '{last_words[name]}'?"
    for known in (here, list(last_words)):
        if near := difflib.get_close_matches(name[:100], known, n=1):
            return f"no such command '{name}'; did you mean '{near[0] if known is here else last_words[near[0]]}'?"
    return f"no such command '{name}'"


def _with_spelt_names(text: str, typed: list[str]) -> str:
    """Lines of a message are ours: a line break in a name that was typed makes none."""
    for word in typed:
        if "\n" in word:
            text = text.replace(word, printable(word))
    return text


def _usage(error: Any, typed: list[str]) -> str:
    message, ctx = error.format_message().rstrip("."), getattr(error, "ctx", None)
    if ctx is None:
        return str(message)
    if value := re.fullmatch(r"Invalid value for '(.+?)': (?:Value error, )?(.+)", message, re.DOTALL):
        message = f"{value[1]}: {value[2][0].lower()}{value[2][1:]}"
    elif hasattr(error, "possibilities"):
        message = _no_such_option(error, ctx, typed)
    elif (extra := re.fullmatch(r"Got unexpected extra argument.*? \((.+)\)", message, re.DOTALL)) and (
        "--train-dir" in _options(ctx.command)
    ):
        message = f"unexpected {extra[1]}: folders go after --train-dir, once for each: --train-dir FOLDER"
    return f"{message} (see {ctx.command_path} --help)"


def _no_such_option(error: Any, ctx: Any, typed: list[str]) -> str:
    name, known = error.option_name, set(_options(ctx.command))
    if not name.startswith("--"):  # Click reads -epochs as -e -p -o ...: then it names the first letter only
        whole = next((word for word in typed if word.startswith(name) and len(word) > len(name)), "")
        name = whole.partition("=")[0] or name
        if f"-{name}" in known:
            return f"no such option {name}; did you mean -{name}?"
    if not hasattr(ctx.command, "commands") and (near := nearest(name, known)):
        return f"no such option {name}; did you mean {near}?"
    owners = [path for path, command in _commands(ctx.find_root()).items() if name in _options(command)]
    below = [path for path in owners if path.startswith(ctx.command_path)]
    if below:
        meant = max(below, key=lambda path: set(path.split()[1:]) <= set(typed))
        return f"no such option {name} here; it goes after the command: {meant} {name}"
    if near := nearest(name, known):
        return f"no such option {name}; did you mean {near}?"
    return f"no such option {name}" + (f" here; {owners[0]} has it" if owners else "")


def _commands(root: Any) -> dict[str, Any]:
    """Every command that does something, by what one types for it."""

    def walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
        children = getattr(command, "commands", {})
        if not children:
            yield path, command
        for name, child in children.items():
            yield from walk(f"{path} {name}", child)

    return dict(walk(root.command_path, root.command))


def _options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        if parameter.param_type_name == "option":
            yield from (*parameter.opts, *parameter.secondary_opts)


def _kept_traceback(error: Exception) -> str:
    with (
        contextlib.suppress(OSError),
        tempfile.NamedTemporaryFile(
            "w", prefix="sltdino-traceback-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file,
    ):
        traceback.print_exception(error, file=file)
        return file.name
    return "the output of --debug"
