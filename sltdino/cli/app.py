"""The command line: parse, call one function, print its result or its error. Results go to stdout, talk to stderr."""

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from sltdino.cli import (
    check,
    completion,
    config,
    demo_data,
    doctor,
    embed,
    evaluate,
    export,
    inspect_run,
    pretrain,
    resume,
)
from sltdino.cli.help import EXAMPLE, PlainCommand, PlainGroup, show_help_without_command
from sltdino.cli.legacy import translate
from sltdino.cli.messages import INTERRUPTED, Said, explained, flushed, interrupted
from sltdino.cli.options import takes_settings, with_values
from sltdino.core.changes import RUN_CONTROL
from sltdino.errors import MissingInputError

PROGRAM = "sltdino"
_HELP = "Pre-train ViT backbones with DINO and iBOT on face and hand crops of sign language.\n\n" + EXAMPLE.format(
    stream="hands"
)

app = typer.Typer(cls=PlainGroup, context_settings={"help_option_names": ["-h", "--help"], "color": False})
app.add_typer(pretrain.app, name="pretrain")
app.add_typer(config.app, name="config")
app.command("resume", cls=PlainCommand)(takes_settings(resume.resume, without=RUN_CONTROL))
app.command("export", cls=PlainCommand)(export.export)
app.command("evaluate", cls=PlainCommand)(evaluate.evaluate)
app.command("embed", cls=PlainCommand)(embed.embed)
app.command("inspect", cls=PlainCommand)(inspect_run.inspect)
app.command("check", cls=PlainCommand)(check.check)
app.command("doctor", cls=PlainCommand)(doctor.doctor)
app.command("demo-data", cls=PlainCommand)(demo_data.demo_data)


def _show_version(wanted: bool) -> None:
    if wanted:
        import sltdino

        typer.echo(f"sltdino {sltdino.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True, help=_HELP)
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; works after any command too.")] = False,
) -> None:
    show_help_without_command(ctx)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on `argv` (by default this process's arguments); the exit code."""
    return _guarded(lambda: list(sys.argv[1:] if argv is None else argv))


def main_legacy(argv: Sequence[str], *, command: str) -> int:
    """Run `sltdino pretrain <command>` on arguments in the spelling of the old scripts; the exit code."""
    return _guarded(lambda: ["pretrain", command, *translate(argv)], debug="--debug" in argv)


def _guarded(arguments: Callable[[], list[str]], *, debug: bool = False) -> int:
    _fill_closed_descriptors()
    completion.prepare(os.environ, f"_{PROGRAM.upper()}_COMPLETE")
    streams = sys.stdout, sys.stderr
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter is no reason to fail
    typed: list[str] = []
    try:
        typed = arguments()
        _refuse_a_folder_that_is_gone()
        debug = debug or "--debug" in typed
        words = with_values([item for item in typed if item != "--debug"])
        code = app(words, prog_name=PROGRAM, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except SystemExit as end:  # completion ends so, and Typer at a broken pipe, whose error is then behind it
        sys.stdout, sys.stderr = streams
        code = end.code
        if isinstance(end.__context__, OSError):
            return _ended(explained(end.__context__, typed))
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _ended(explained(error, typed))
    if code == INTERRUPTED:
        return _ended(interrupted(typed))
    return _ended(flushed() or Said(code if isinstance(code, int) else 0))


def _ended(said: Said) -> int:
    """Say it, and leave nothing in the buffers that Python would fail to write once more at its end."""
    for line in said.lines:
        with contextlib.suppress(OSError):  # nobody is left to be told
            print(line, file=sys.stderr or io.StringIO(), flush=True)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return said.exit_code


def _refuse_a_folder_that_is_gone() -> None:
    try:
        os.getcwd()
    except OSError as error:  # MKL, for one, would end the process at this
        raise MissingInputError("the current folder was removed; change to another one") from error


def _fill_closed_descriptors() -> None:
    """Give closed ones of 0, 1 and 2 to /dev/null: else a checkpoint would be opened as 2 and take in what is said."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
