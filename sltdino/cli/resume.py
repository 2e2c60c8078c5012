"""`sltdino resume RUN`."""

from pathlib import Path
from typing import Annotated

import typer

from sltdino.cli import completion
from sltdino.cli.options import Typed
from sltdino.cli.training import show


def resume(
    typed: Typed,
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder.", autocompletion=completion.runs, readable=False)
    ],
    allow_change: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY[,KEY]",
            autocompletion=completion.changeable_keys,
            help="Accept a change of these settings, such as learning_rate. --epochs needs no permission.",
        ),
    ] = None,
    fallback: Annotated[
        bool, typer.Option("--fallback", help="Continue from the previous checkpoint when the last one is damaged.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Continue a run exactly where its last checkpoint is.

    Its settings are those it was started with; what is given here is compared with them. Workers, logging and names
    may change freely, the course of training with --allow-change, what makes it that run not at all.
    """
    allowed = [key for item in allow_change or () for key in item.split(",") if key.strip()]

    from sltdino import pretraining

    show(
        lambda reporter: pretraining.resume(
            run,
            files=typed.files,
            sets=typed.sets,
            flags=typed.flags,
            allow_change=allowed,
            fallback=fallback,
            reporter=reporter,
        ),
        typed,
        as_json=as_json,
    )
