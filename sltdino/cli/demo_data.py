"""`sltdino demo-data hands|face DIR`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from sltdino.cli import completion
from sltdino.cli.results import print_json
from sltdino.core.machine import MOST_WORKERS, usable_cores
from sltdino.core.settings_presets import STREAMS
from sltdino.core.settings_schema import did_you_mean, printable
from sltdino.errors import SettingsError

_FEWEST = 6  # the sixth shows the first held-out signer
_WORTH_A_PROCESS = 100  # images; a process takes as long to start as to draw fifty


def demo_data(
    stream: Annotated[
        str, typer.Argument(metavar="hands|face", help="What the crops show.", autocompletion=completion.streams)
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write, a sub-folder for each label.")],
    count: Annotated[
        str, typer.Option(metavar="INT", help="Images in all. [default: 500]", show_default=False)
    ] = "500",
    seed: Annotated[
        str, typer.Option(metavar="INT", help="Seed of everything drawn. [default: 0]", show_default=False)
    ] = "0",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was drawn as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")] = False,
) -> None:
    """Draw synthetic crops to try the other commands on; the same call completes an interrupted drawing."""
    if stream not in STREAMS:
        raise SettingsError(
            f"demo-data: unknown stream {stream!r}{did_you_mean(stream, STREAMS) or '; use hands or face'}"
        )

    num_images, first = _whole("--count", count, least=_FEWEST), _whole("--seed", seed, least=0)

    from rich.console import Console
    from rich.progress import Progress

    from sltdino.data import synthetic

    workers = max(1, min(usable_cores(), MOST_WORKERS, num_images // _WORTH_A_PROCESS))
    console = Console(stderr=True)
    takes_a_bar = console.is_terminal and not console.is_dumb_terminal and not quiet
    with Progress(console=console, disable=not takes_a_bar) as progress:
        task = progress.add_task("drawing", total=num_images)
        drawn = synthetic.write_demo_crops(
            stream, folder, count=num_images, seed=first, workers=workers,
            on_drawn=lambda done: progress.update(task, completed=done),
        )  # fmt: skip
    if not quiet:
        folders = ["--train-dir", str(folder / "train"), "--val-dir", str(folder / "val")]
        typer.echo(printable(f"next: {shlex.join(['sltdino', 'pretrain', stream, *folders])}"), err=True)
    if as_json:
        print_json(drawn._asdict())
    else:
        typer.echo(
            f"{drawn.images} images of {len(drawn.labels)} labels in {printable(str(folder))}: "
            f"{drawn.signers['train']} signers in train, {drawn.signers['val']} others in val"
        )


def _whole(flag: str, text: str, *, least: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) >= least):
        raise SettingsError(f"{flag}: must be a whole number of at least {least} (got {text!r})")
    return int(text)
