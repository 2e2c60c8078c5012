"""The command line: parse, call one function, print its result or its error. Results go to stdout, talk to stderr."""

import contextlib
import io
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from sltdino.cli import config, demo_data, embed, export, inspect_run, pretrain, resume
from sltdino.cli.help import PlainCommand, PlainGroup, show_help_without_command
from sltdino.cli.legacy import translate
from sltdino.cli.options import takes_settings, with_values
from sltdino.core.changes import RUN_CONTROL
from sltdino.core.settings_schema import printable
from sltdino.errors import SettingsError, SltDinoError

_INTERRUPTED = 130

app = typer.Typer(cls=PlainGroup, add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})
app.add_typer(pretrain.app, name="pretrain")
app.add_typer(config.app, name="config")
app.command("resume", cls=PlainCommand)(takes_settings(resume.resume, without=RUN_CONTROL))
app.command("export", cls=PlainCommand)(export.export)
app.command("embed", cls=PlainCommand)(embed.embed)
app.command("inspect", cls=PlainCommand)(inspect_run.inspect)
app.command("demo-data", cls=PlainCommand)(demo_data.demo_data)


def _show_version(wanted: bool) -> None:
    if wanted:
        import sltdino

        typer.echo(f"sltdino {sltdino.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; works after any command too.")] = False,
) -> None:
    """Pre-train ViT backbones with DINO and iBOT on face and hand crops of sign language."""
    show_help_without_command(ctx)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on `argv` (by default this process's arguments); the exit code."""
    return _guarded(lambda: list(sys.argv[1:] if argv is None else argv))


def main_legacy(argv: Sequence[str], *, command: str) -> int:
    """Run `sltdino pretrain <command>` on arguments in the spelling of the old scripts; the exit code."""
    return _guarded(lambda: ["pretrain", command, *translate(argv)], debug="--debug" in argv)


def _guarded(arguments: Callable[[], list[str]], *, debug: bool = False) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter is no reason to fail
    try:
        typed = arguments()
        debug = debug or "--debug" in typed
        code = app(
            with_values([item for item in typed if item != "--debug"]), prog_name="sltdino", standalone_mode=False
        )
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED  # what newer Typers return
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _said(*_explained(error))
    if code == _INTERRUPTED:
        return _said(code, "error [E-INTERRUPTED] interrupted")
    return code if isinstance(code, int) else 0


def _said(code: int, *lines: str) -> int:
    for line in lines:
        print(line, file=sys.stderr)
    return code


def _explained(error: Exception) -> tuple[Any, ...]:
    """Exit code, then the lines that say what is wrong."""
    if isinstance(error, SettingsError):
        return error.exit_code, *(f"error: {printable(problem)}" for problem in error.problems)
    if isinstance(error, SltDinoError):
        first, *rest = map(printable, str(error).split("\n"))
        return error.exit_code, f"error [{error.code}] {first}", *(f"  {line}" for line in rest)
    if hasattr(error, "format_message"):  # Typer's usage errors; their class has lived in two packages
        return 2, f"error: {printable(_usage(error))}"
    summary = printable(f"{type(error).__name__}: {error}".partition("\n")[0])[:300]
    return 1, f"error [E-BUG] {summary}; this is our mistake, please report it with {_kept_traceback(error)}"


def _usage(error: Any) -> str:
    message = error.format_message().rstrip(".")
    if near := getattr(error, "possibilities", None):
        message = f"no such option {error.option_name}; did you mean {near[0]}?"
    elif "unexpected extra argument" in message:
        message += " (a flag for several values is repeated: --train-dir A --train-dir B)"
    ctx = getattr(error, "ctx", None)
    return f"{message} (see {ctx.command_path} --help)" if ctx else message


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
