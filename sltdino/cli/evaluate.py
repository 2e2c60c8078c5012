"""`sltdino evaluate BACKBONE`."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sltdino.cli.backbone_options import Backbone, BatchSize, Device, ImageSize, NumThreads, Tokens, Which
from sltdino.cli.progress_line import ProgressLine
from sltdino.cli.results import print_json
from sltdino.core.machine import workers_or_default
from sltdino.core.missing import not_there
from sltdino.core.settings_schema import printable
from sltdino.core.starter import weights_path
from sltdino.errors import MissingInputError

_SHOWN_BAD = 20


def evaluate(
    backbone: Backbone,
    train_dirs: Annotated[
        list[Path] | None,
        typer.Option(
            "--train-dir",
            metavar="DIR",
            help="Labelled images to learn from; repeatable. [default: the run's, less its --exclude]",
        ),
    ] = None,
    val_dirs: Annotated[
        list[Path] | None,
        typer.Option("--val-dir", metavar="DIR", help="Those to be judged on; repeatable. [default: the run's]"),
    ] = None,
    which: Which = "last",
    k: Annotated[
        list[int] | None, typer.Option("--k", metavar="INT", min=1, help="Neighbours; repeatable. [default: 20]")
    ] = None,
    temp: Annotated[
        float, typer.Option(metavar="FLOAT", help="Of the neighbours' votes. [default: 0.07]", show_default=False)
    ] = 0.07,
    shots: Annotated[
        list[int] | None,
        typer.Option("--shots", metavar="INT", min=1, help="Images a class; repeatable. [default: 1, 5 and 10]"),
    ] = None,
    group_regex: Annotated[
        str, typer.Option(metavar="REGEX", help="Its one capture group, found in a file name, is the image's signer.")
    ] = "",
    solver: Annotated[
        Literal["torch", "sklearn"],
        typer.Option(metavar="torch|sklearn", help="Of the linear probe. [default: torch]"),
    ] = "torch",
    tokens: Tokens = "cls",
    image_size: ImageSize = None,
    batch_size: BatchSize = 64,
    num_workers: NumThreads = None,
    device: Device = "auto",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", readable=False, help="JSON file that gets the results too."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Measure what a backbone's features say about labels, beside an untrained network and raw pixels.

    The labels are the sub-folders of --train-dir and --val-dir. Weighted k-NN, a linear probe and k-NN with few images
    of each class, all of frozen features; accuracy and balanced accuracy with 95% intervals, what is taken for what,
    and each class by itself. The images of --val-dir are judged and never fitted to.

    Photos of one signer resemble each other. With --group-regex '^(signer[0-9]+)' and such names, no signer stands on
    both sides, and the intervals say what other signers would change.

    One labelled folder is enough: where no --train-dir is named, and the run's own images have no labels or are those
    of --val-dir, these are judged by each other: k-NN leaves each out, or its signer; the other methods go by folds.

    Where BACKBONE is a run, or lies in the folder of one, the results are kept in RUN/evaluations; the same call
    replaces them.
    """
    if not weights_path(backbone).exists():
        raise MissingInputError(not_there(backbone))

    from sltdino.evaluation.evaluate import DEFAULTS, EvaluateOptions
    from sltdino.pretraining.evaluate import evaluate as evaluate_source

    options = EvaluateOptions(
        k=_each_once(k) or DEFAULTS.k, temp=temp, shots=_each_once(shots) or DEFAULTS.shots, solver=solver,
        group_regex=group_regex, tokens=tokens, image_size=image_size, batch_size=batch_size,
        num_workers=workers_or_default(num_workers), device=device,
    )  # fmt: skip
    with contextlib.closing(ProgressLine()) as progress:
        report = evaluate_source(
            backbone, train_dirs=train_dirs or (), val_dirs=val_dirs or (), which=which, options=options,
            output=output, on_progress=(lambda done, total: None) if quiet else progress,
        )  # fmt: skip
    _show(report.record, report.kept, as_json=as_json)


def _each_once(numbers: list[int] | None) -> tuple[int, ...]:
    return tuple(dict.fromkeys(numbers or ()))


def _show(record: dict[str, Any], kept: tuple[Path, ...], *, as_json: bool) -> None:
    for bad in record["bad_images"][:_SHOWN_BAD]:
        print(printable(f"unreadable: {bad['path']}: {bad['reason']}"), file=sys.stderr)
    if as_json:
        for note in record["notes"]:
            print(printable(f"note: {note}"), file=sys.stderr)
        print_json({**record, "kept": kept})
    else:
        from sltdino.report.text import evaluation_page

        typer.echo(evaluation_page.render(record, kept))
