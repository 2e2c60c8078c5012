"""What `pretrain` and `resume` share: progress on stderr, the run folder on stdout."""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from sltdino.core.settings_schema import printable

if TYPE_CHECKING:
    from sltdino.pretraining import RunSummary
    from sltdino.pretraining.progress import Reporter


def show(train: "Callable[[Reporter], RunSummary]", *, quiet: bool = False, verbose: bool = False) -> None:
    """Train with progress on the terminal, then print where the run is."""
    from sltdino.pretraining.progress import reporter_for_terminal

    with contextlib.closing(reporter_for_terminal(quiet=quiet, verbose=verbose)) as reporter:
        summary = train(reporter)
    typer.echo(printable(str(summary.run_dir)))
