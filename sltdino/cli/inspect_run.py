"""`sltdino inspect RUN`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from sltdino.cli import completion
from sltdino.core.settings_schema import printable


def inspect(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder.", autocompletion=completion.runs, readable=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Say what a run is, how far it got, how good its features are and whether it is healthy."""
    from sltdino.report import summary

    content = summary.summarize(run)
    if as_json:
        typer.echo(json.dumps(content, indent=2, allow_nan=False, default=str))
    else:
        typer.echo("\n".join(map(printable, summary.render(content).split("\n"))))
