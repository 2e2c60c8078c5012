"""`sltdino embed BACKBONE INPUT…`."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sltdino.cli.backbone_options import Backbone, BatchSize, Device, ImageSize, NumThreads, Tokens, Which
from sltdino.cli.progress_line import ProgressLine
from sltdino.cli.results import print_json
from sltdino.core.machine import workers_or_default
from sltdino.core.settings_schema import printable
from sltdino.core.starter import weights_path
from sltdino.errors import SettingsError

if TYPE_CHECKING:
    from sltdino.evaluation.embed import EmbedReport


def embed(
    backbone: Backbone,
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Folders of crops, searched, and images.")],
    out: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder to write. [required]")
    ] = None,
    which: Which = "last",
    tokens: Tokens = "cls",
    dtype: Annotated[
        Literal["float32", "float16"], typer.Option(metavar="float32|float16", help="As stored. [default: float32]")
    ] = "float32",
    target: Annotated[
        Literal["npz", "safetensors"],
        typer.Option("--format", metavar="npz|safetensors", help="Of the file of each clip. [default: npz]"),
    ] = "npz",
    image_size: ImageSize = None,
    batch_size: BatchSize = 64,
    num_workers: NumThreads = None,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the features that DIR holds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Write the features of crops, clip by clip, a row for every frame.

    Crops named <video>_f000123.jpg are the clip <video> of their folder; a file a clip, with the arrays cls and/or mean
    [T, D], frames [T], status [T] (0 fine, 1 no image, 2 black, 3 unreadable) and valid [T]. Row t is frame first + t;
    rows that are not valid are zeros. The other images of a folder are one clip, in natural order of their names, which
    its file holds as names [T].

    The same call continues one that was interrupted, and takes in new clips of the same folders. DIR/index.json lists
    the clips.
    """
    if out is None:
        raise SettingsError(*_missing(backbone, inputs), "--output: missing; pass -o DIR, the folder to write")

    from sltdino.evaluation.embed import EmbedOptions
    from sltdino.evaluation.embed import embed as embed_clips
    from sltdino.exporting.backbone import load_trained_backbone

    options = EmbedOptions(
        tokens=tokens, dtype=dtype, format=target, image_size=image_size,
        batch_size=batch_size, num_workers=workers_or_default(num_workers), device=device,
    )  # fmt: skip
    source, origin = load_trained_backbone(backbone, which=which), {"source": str(backbone.absolute())}
    with contextlib.closing(ProgressLine()) as progress:
        report = embed_clips(
            source, inputs, out, options=options, origin=origin, overwrite=overwrite,
            on_progress=(lambda done, total: None) if quiet else progress,
        )  # fmt: skip
    _show(report, as_json=as_json)


def _show(report: "EmbedReport", *, as_json: bool) -> None:
    for line in (*report.notices, *(f"unreadable: {bad['path']}: {bad['reason']}" for bad in report.bad_images)):
        print(printable(line), file=sys.stderr)
    if as_json:
        print_json({**report._asdict(), "counts": report.counts._asdict()})
    else:
        typer.echo(_as_text(report))


def _missing(backbone: Path, inputs: list[Path]) -> Iterator[str]:
    if not weights_path(backbone).exists():
        yield f"BACKBONE: {backbone}: there is no such run folder or file; check the path"
    for path in inputs:
        if not path.exists():
            yield f"INPUT: {path}: there is no such folder or image; check the path"


def _as_text(report: "EmbedReport") -> str:
    counts = report.counts
    clips = "1 clip" if counts.clips == 1 else f"{counts.clips:,} clips"
    before = f" ({report.clips_before:,} of them before)" if report.clips_before else ""
    rate = f", {report.images_per_second:.0f} images/s" if report.images_per_second else ""
    return "\n".join(
        (
            f"{clips}{before}, {counts.images:,} images in {counts.frames:,} frames{rate}",
            f"without features: {counts.missing:,} missing, {counts.black:,} black, {counts.bad:,} unreadable",
            printable(str(report.index_file)),
        )
    )
