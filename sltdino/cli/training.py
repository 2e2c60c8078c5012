"""What `pretrain` and `resume` share: progress on stderr, the run folder or the result as JSON on stdout."""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from sltdino.cli.options import Typed
from sltdino.cli.results import print_json
from sltdino.core.settings_schema import printable
from sltdino.errors import SettingsError

if TYPE_CHECKING:
    from sltdino.pretraining import DryRun, RunSummary
    from sltdino.pretraining.progress import Reporter


def show(train: "Callable[[Reporter], RunSummary]", typed: Typed, *, as_json: bool) -> None:
    """Train with progress on the terminal, then print where the run is, or how it ended."""
    from sltdino.pretraining.progress import reporter_for_terminal

    with contextlib.closing(reporter_for_terminal(quiet=typed.quiet, verbose=typed.verbose)) as reporter:
        summary = train(reporter)
    if as_json:
        print_json(summary._asdict())
    else:
        typer.echo(printable(str(summary.run_dir)))


def show_dry_run(look: "Callable[[Reporter], DryRun]", typed: Typed, *, as_json: bool) -> None:
    """Print what a run would do, then fail as it would: with its first error, which the page lists among all."""
    from sltdino.pretraining import preview_facts, preview_text
    from sltdino.pretraining.progress import reporter_for_terminal

    with contextlib.closing(reporter_for_terminal(quiet=typed.quiet, verbose=typed.verbose)) as reporter:
        result = look(reporter)
    if as_json:
        print_json(preview_facts.facts(result))
    else:
        typer.echo(preview_text.render(result))
    for error in result.errors:
        if isinstance(error, SettingsError):  # several mistakes at once: a line is enough below the page
            raise SettingsError(error.problems[0])
        raise error
