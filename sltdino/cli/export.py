"""`sltdino export SOURCE`."""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sltdino.cli import completion
from sltdino.cli.backbone_options import Which
from sltdino.cli.results import print_json
from sltdino.core.settings_schema import printable
from sltdino.core.starter import weights_path
from sltdino.errors import SettingsError

if TYPE_CHECKING:
    from sltdino.exporting.outputs import ExportReport

_NO_SOURCE = "SOURCE: missing; name a run folder or a checkpoint"
_NO_OUTPUT = "--output: missing; pass -o PATH, the file to write"
_WIDTH = 80


def export(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="SOURCE",
            help="Run folder, checkpoint or file of weights; or starter.",
            autocompletion=completion.runs_and_weights,
            readable=False,
        ),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="See --list-formats. [default: slt]",
            autocompletion=completion.formats,
        ),
    ] = "slt",
    out: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", readable=False, help="File to write; for hf, a folder."),
    ] = None,
    which: Which = "last",
    student: Annotated[bool, typer.Option("--student", help="The student's backbone, not the teacher's.")] = False,
    image_size: Annotated[
        int | None, typer.Option(metavar="INT", min=1, help="Store positions for this size. [default: the training's]")
    ] = None,
    list_formats: Annotated[bool, typer.Option("--list-formats", help="Show the formats and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Write the backbone of a run for another program, and check that it reads back the same."""
    if not list_formats and (source is None or out is None):
        raise SettingsError(*_missing(source, out))

    from sltdino.exporting import formats

    if list_formats or source is None or out is None:
        rows = {name: row.description for name, row in formats.FORMATS.items()}
        lines = [f"{name:<13}{text}" for name, text in rows.items()]
        if as_json:
            print_json(rows)
        else:
            typer.echo("\n".join(lines))
        return
    report = formats.export(source, format=target, out=out, which=which, student=student, image_size=image_size)
    if as_json:
        content = {**report._asdict(), "input": report.input._asdict()}
        print_json(content)
    else:
        typer.echo("\n".join(map(printable, _lines(report))))


def _missing(source: Path | None, out: Path | None) -> Iterator[str]:
    if source is None:
        yield _NO_SOURCE
    elif not weights_path(source).exists():
        yield f"SOURCE: {source}: there is no such run folder or file; check the path"
    if out is None:
        yield _NO_OUTPUT


def _lines(report: "ExportReport") -> Iterator[str]:
    """The report for a person, in 80 columns apart from names and code, which must stay whole to be copied."""
    yield f"wrote {report.path}"
    yield f"  {report.format}, {report.num_bytes / 1e6:.1f} MB, {report.num_tensors} tensors"
    yield f"  sha256 {report.sha256}"
    yield from _wrapped(
        f"verified in {report.verified_in}: largest relative difference {_figure(report.max_relative_error)}"
    )
    if report.other_sizes:
        sizes = ", ".join(f"{_figure(error)} at {size}" for size, error in report.other_sizes.items())
        yield from _wrapped(f"at other sizes, where positions are resampled: {sizes}")
    if report.layer_norm_eps_effect:
        yield from _wrapped(
            f"by default, its LayerNorms use epsilon {report.layer_norm_eps:g}, not the training's, "
            f"which moves the features by {_figure(report.layer_norm_eps_effect)}"
        )
    for note in report.notes:
        yield from _wrapped(f"note: {note}")
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (report.input.mean, report.input.std))
    size = report.input.image_size
    yield from _wrapped(
        f"feed it RGB of 0..1 less {mean}, over {std}, resized bicubically (Pillow's BICUBIC, or antialias=True) "
        f"to {size} x {size}"
    )
    yield f"  its metadata: {report.metadata_file}"
    yield "load it:"
    yield from (f"  {line}".rstrip() for line in report.load.split("\n"))


def _figure(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-") if value else "0"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
