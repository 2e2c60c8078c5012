"""`sltdino inspect RUN`, `inspect FILE` and `inspect A B`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sltdino.cli import completion
from sltdino.cli.results import print_json
from sltdino.core.missing import not_there
from sltdino.core.run_files import PARAMS
from sltdino.core.settings_schema import printable
from sltdino.errors import CheckpointError, MissingInputError


def inspect(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|FILE",
            help="Run folder, or any file of weights.",
            autocompletion=completion.runs_and_weights,
            readable=False,
        ),
    ],
    other: Annotated[
        Path | None,
        typer.Argument(
            metavar="OTHER",
            help="A second one: say what differs between the two.",
            autocompletion=completion.runs_and_weights,
            readable=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")] = False,
) -> None:
    """Say what a run or a file of weights is, or how two of them differ.

    Of a run: how far it got, how good its features are and whether it is healthy. Of a file (or a folder with a
    config.json): which network, from where, what can load it, and whether it is sound. Of two: settings, results and
    weights side by side. Nothing in a file is run.
    """
    content, page = _compared(source, other) if other is not None else _described(source)
    if as_json:
        print_json(content)
    else:
        typer.echo("\n".join(map(printable, page.split("\n"))))
    if content.get("problem"):
        raise CheckpointError(f"{content['path']}: {content['problem']}", code="E-WEIGHTS")


def _described(source: Path) -> tuple[dict[str, Any], str]:
    from sltdino.core.foreign_weights import WEIGHTS_OF_FOLDER

    if not source.exists():
        raise MissingInputError(not_there(source))
    holds_weights = any((source / name).is_file() for name in ("config.json", *WEIGHTS_OF_FOLDER))
    if source.is_dir() and ((source / PARAMS).exists() or not holds_weights):
        from sltdino.report import summary

        content = summary.summarize(source)
        return content, summary.render(content)

    from sltdino.report import weights

    content = weights.describe(source)
    return content, weights.render(content)


def _compared(source: Path, other: Path) -> tuple[dict[str, Any], str]:
    from sltdino.report import comparison

    content = comparison.compare(source, other)
    return content, comparison.render(content)
