"""`sltdino doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from sltdino.cli.results import print_json


def doctor(
    output_dir: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            readable=False,
            help="Where runs are to be written. [default: work_dirs]",
            show_default=False,
        ),
    ] = Path("work_dirs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look at this machine: what can train here, what is in the way, and what to do about it.

    It ends as text to paste into a bug report, without names of people, hosts or folders. The exit code is 0 when one
    can train here.
    """
    from sltdino.report import diagnosis

    found = diagnosis.diagnose(output_dir)
    if as_json:
        print_json(diagnosis.as_json(found))
    else:
        typer.echo(diagnosis.render(found))
    if found.exit_code:
        raise typer.Exit(found.exit_code)
