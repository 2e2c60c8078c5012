"""`sltdino config init|schema|show`."""

import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from sltdino.cli import completion
from sltdino.cli.help import PlainCommand, PlainGroup, show_help_without_command
from sltdino.cli.results import print_json
from sltdino.core import files
from sltdino.core.settings_presets import PRESETS, STREAMS
from sltdino.core.settings_schema import did_you_mean, printable
from sltdino.core.settings_text import settings_json, settings_template, settings_toml
from sltdino.errors import CannotCreateError, RunFolderError, SettingsError

app = typer.Typer(cls=PlainGroup, help="Write and show settings files.")
app.callback(invoke_without_command=True)(show_help_without_command)


@app.command("init", cls=PlainCommand)
def init(
    stream: Annotated[
        str, typer.Argument(metavar="hands|face", help="What the crops show.", autocompletion=completion.streams)
    ],
    path: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="TOML file to write, - for stdout. [default: STREAM.toml]")
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            metavar="|".join(PRESETS),
            help="Preset that the file asks for; the defaults shown in it are its own.",
            autocompletion=completion.presets,
            show_default=False,
        ),
    ] = "none",
) -> None:
    """Write a settings file in which every setting is explained, at its default."""
    if stream not in STREAMS:
        raise SettingsError(
            f"config init: unknown stream {stream!r}{did_you_mean(stream, STREAMS) or '; use hands or face'}"
        )
    if preset not in PRESETS:
        known = did_you_mean(preset, PRESETS) or f"; use {', '.join(PRESETS)}"
        raise SettingsError(f"config init: unknown preset {preset!r}{known}")
    text = settings_template(stream, preset)
    path = Path(f"{stream}.toml") if path is None else path
    if str(path) == "-":
        typer.echo(text, nl=False)
        return
    if path.suffix.lower() not in (".toml", ".tml"):
        raise SettingsError(f"config init: {printable(str(path))} is written as TOML; end its name in .toml")
    if path.exists():
        raise CannotCreateError(f"{path}: exists already; name another file, or - for stdout")
    with files.new_file(path) as file:
        file.write(text.encode())
    typer.echo(printable(str(path)))
    command = shlex.join(["sltdino", "pretrain", stream, "--config", str(path), "--dry-run"])
    typer.echo(printable(f"next: set train_dir in it, then {command}"), err=True)


@app.command("schema", cls=PlainCommand)
def schema() -> None:
    """Print the JSON schema of settings files, with which editors complete and check them."""
    from sltdino.core.settings_json_schema import json_schema

    print_json(json_schema())


@app.command("show", cls=PlainCommand)
def show(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder.", autocompletion=completion.runs, readable=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in the place of TOML.")] = False,
) -> None:
    """Print the settings of a run, and where each value came from; they load back with --config."""
    from sltdino.core.run_files import read_settings

    if run.is_file() and run.suffix.lower() in (".toml", ".tml", ".json"):
        command = shlex.join(["sltdino", "pretrain", _stream_of(run), "--config", str(run), "--print-config"])
        raise RunFolderError(f"{run}: a settings file, not a run folder; to see all its settings: {command}")
    loaded = read_settings(run)
    typer.echo(settings_json(loaded) if as_json else settings_toml(loaded), nl=False)


def _stream_of(file: Path) -> str:
    """The command that a settings file is for; in those of `config init` a comment says so."""
    with files.os_errors(file, reading=True), file.open("rb") as content:
        said = re.search(rb'''^\s*#?"?stream"?\s*[=:]\s*"(\w+)"''', content.read(1 << 18), re.MULTILINE)
    named = said[1].decode() if said else ""
    return next((stream for stream, values in STREAMS.items() if values["stream"] == named), "hands")
