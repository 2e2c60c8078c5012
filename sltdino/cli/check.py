"""`sltdino check DIR…`."""

import contextlib
import time
from pathlib import Path
from typing import Annotated

import typer

from sltdino.cli.progress_line import ProgressLine
from sltdino.cli.results import print_json
from sltdino.core.machine import workers_or_default

NOT_CLEAN = 65
"""Exit code of --strict, as of any data that cannot be used as it is."""

_WORTH_A_LINE = 2.0  # seconds of comparing


def check(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of crops, searched, and images.")],
    val_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Held-out images: their copies in training are looked for.")
    ] = None,
    group_regex: Annotated[
        str, typer.Option(metavar="REGEX", help="Its one capture group, found in a file name, is the image's signer.")
    ] = "",
    exclude_list: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            readable=False,
            help="List for `pretrain --exclude`. [default: exclude-<DIR>.txt here, if anything is excluded]",
        ),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Also list these: leaks, near, repeats, blurred; repeatable."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Do not list these: broken, black, constant, copies; repeatable."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", readable=False, help="Page with the worst of them.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="--html may replace a file that is no page.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help=f"Exit with {NOT_CLEAN} when there is something to exclude.")
    ] = False,
    num_workers: Annotated[
        int | None, typer.Option(metavar="INT", min=0, help="Processes that decode. [default: a core each, at most 8]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Look at a data set before days are spent on it: what is broken, empty, doubled, leaked, blurred or uneven.

    Every image is decoded once. Copies are found by their pixels, near-copies by a perceptual hash and a look at both;
    crops named <video>_f000123.jpg are frames of the clip <video>, and neighbours in time are told from copies across
    clips. With --val-dir, what stands on both sides is found: the same image, clip or signer.

    The list leaves out what is broken, black, constant, and all but one of the images with the same pixels; near-copies
    and blurred images, which may be wanted, with --drop. Nothing is written into DIR. Findings exit with 0.
    """
    from sltdino.report.check import CheckOptions, check_data
    from sltdino.report.text.check_page import check_text

    options = CheckOptions(
        val_dir=val_dir, group_regex=group_regex, drop=tuple(drop or ()), keep=tuple(keep or ()),
        exclude_list=exclude_list, html=html, overwrite=overwrite, num_workers=workers_or_default(num_workers),
    )  # fmt: skip
    with contextlib.closing(_Progress()) as progress:
        report = check_data(folders, options=options, on_progress=progress)
    if as_json:
        print_json(report.facts)
    else:
        typer.echo(check_text(report))
    if strict and report.facts["excluded"]["number"]:
        raise typer.Exit(NOT_CLEAN)


class _Progress:
    """A line for each stage."""

    def __init__(self) -> None:
        self._stage, self._started = "", 0.0
        self._line = ProgressLine()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self.close()
            self._stage, self._line, self._started = stage, ProgressLine(stage), time.monotonic()
        if stage == "images" or time.monotonic() - self._started > _WORTH_A_LINE:
            self._line(done, total)

    def close(self) -> None:
        """What is printed next has a line of its own."""
        self._line.close()
