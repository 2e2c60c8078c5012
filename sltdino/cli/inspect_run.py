"""`sltdino inspect RUN`, `inspect FILE`, and several of them side by side."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sltdino.cli import completion
from sltdino.cli.results import print_json
from sltdino.core.missing import not_there
from sltdino.core.run_files import PARAMS
from sltdino.core.settings_schema import printable
from sltdino.errors import CheckpointError, MissingInputError, SettingsError


def inspect(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|FILE...",
            help="Run folders, or files of weights; of two, what differs between them.",
            autocompletion=completion.runs_and_weights,
            readable=False,
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")] = False,
) -> None:
    """Say what a run or a file of weights is, or how two of them differ.

    Of a run: how far it got, how good its features are and whether it is healthy. Of a file (or a folder with a
    config.json): which network, from where, what can load it, and whether it is sound. Of two: settings, results and
    weights side by side. Nothing in a file is run.
    """
    content, page = _described(sources[0]) if len(sources) == 1 else _compared(sources)
    if as_json:
        print_json(content)
    else:
        typer.echo("\n".join(map(printable, page.split("\n"))))
    if content.get("problem"):
        raise CheckpointError(f"{content['path']}: {content['problem']}", code="E-WEIGHTS")


def _described(source: Path) -> tuple[dict[str, Any], str]:
    if not source.exists():
        raise MissingInputError(not_there(source))
    if _is_run(source):
        from sltdino.report import plots, run_page, summary

        content = summary.summarize(source)
        return content, run_page.render(content, plots.glyphs_for(getattr(sys.stdout, "encoding", None)))

    from sltdino.report import weights

    content = weights.describe(source)
    return content, weights.render(content)


def _compared(sources: list[Path]) -> tuple[dict[str, Any], str]:
    from sltdino.report import comparison

    if len(sources) > 2:
        raise SettingsError("more than two cannot be compared; name two")
    content = comparison.compare(*sources)
    return content, comparison.render(content)


def _is_run(source: Path) -> bool:
    """Whether a folder is a run's, or is to be called one that is none."""
    if not source.is_dir() or (source / PARAMS).exists():
        return source.is_dir()
    from sltdino.core.foreign_weights import WEIGHTS_OF_FOLDER  # which needs torch: a run's page does not

    return not any((source / name).is_file() for name in ("config.json", *WEIGHTS_OF_FOLDER))
