"""Results as JSON on standard output."""

import typer

from sltdino.core import json_files


def print_json(value: object) -> None:
    """Print strict JSON in ASCII, so that it is JSON in every encoding, and a name in it does nothing to a terminal.

    Raises:
        ValueError, TypeError: as `json_files.dumps`.
    """
    typer.echo(json_files.dumps(value, indent=2, ascii_only=True))
