"""Arguments of the commands that show images to a backbone."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from sltdino.cli import completion

Backbone = Annotated[
    Path,
    typer.Argument(
        metavar="BACKBONE",
        help="Run folder, checkpoint or file of weights; or starter.",
        autocompletion=completion.runs_and_weights,
        readable=False,
    ),
]
Which = Annotated[
    Literal["last", "best"], typer.Option(metavar="last|best", help="Checkpoint of a run folder. [default: last]")
]
Tokens = Annotated[
    Literal["cls", "mean", "both"],
    typer.Option(metavar="cls|mean|both", help="CLS token, mean of the patch tokens, or both. [default: cls]"),
]
ImageSize = Annotated[
    int | None, typer.Option(metavar="INT", min=1, help="Side that crops are resized to. [default: the backbone's]")
]
BatchSize = Annotated[int, typer.Option(metavar="INT", min=1, help="Images at once. [default: 64]", show_default=False)]
NumThreads = Annotated[
    int | None, typer.Option(metavar="INT", min=0, help="Threads that decode. [default: a core each, at most 8]")
]
Device = Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, ... [default: auto]")]
