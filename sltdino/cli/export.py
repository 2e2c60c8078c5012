"""`sltdino export SOURCE`."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from sltdino.cli import completion
from sltdino.core.settings_schema import printable
from sltdino.errors import SettingsError

_NO_SOURCE = "SOURCE: missing; name a run folder or a checkpoint"
_NO_OUTPUT = "--output: missing; pass -o PATH, the file to write"


def export(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="SOURCE",
            help="Run folder or checkpoint.",
            autocompletion=completion.runs_and_checkpoints,
            readable=False,
        ),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="See --list-formats. [default: slt]",
            autocompletion=completion.formats,
        ),
    ] = "slt",
    out: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PATH", readable=False, help="File to write.")
    ] = None,
    which: Annotated[
        Literal["last", "best"], typer.Option(metavar="last|best", help="Checkpoint of a run folder. [default: last]")
    ] = "last",
    list_formats: Annotated[bool, typer.Option("--list-formats", help="Show the formats and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Write the backbone of a run for another program, and check that it reads back the same."""
    if not list_formats and (source is None or out is None):
        raise SettingsError(*(text for value, text in ((source, _NO_SOURCE), (out, _NO_OUTPUT)) if value is None))

    from sltdino.exporting import formats

    if list_formats or source is None or out is None:
        rows: dict[str, object] = {name: row.description for name, row in formats.FORMATS.items()}
    else:
        rows = formats.export(source, format=target, out=out, which=which)._asdict()
    if as_json:
        typer.echo(json.dumps(rows, indent=2, allow_nan=False, default=str))
    else:
        typer.echo("\n".join(printable(f"{name:<24}{value}") for name, value in rows.items()))
