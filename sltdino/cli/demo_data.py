"""`sltdino demo-data hands|face DIR`."""

from pathlib import Path
from typing import Annotated

import typer

from sltdino.cli import completion
from sltdino.core.settings_presets import STREAMS
from sltdino.core.settings_schema import did_you_mean, printable
from sltdino.errors import SettingsError


def demo_data(
    stream: Annotated[
        str, typer.Argument(metavar="hands|face", help="What the crops show.", autocompletion=completion.streams)
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write, a sub-folder for each label.")],
    count: Annotated[
        int, typer.Option(metavar="INT", min=1, help="Images in all. [default: 500]", show_default=False)
    ] = 500,
    seed: Annotated[
        int, typer.Option(metavar="INT", min=0, help="Seed of everything drawn. [default: 0]", show_default=False)
    ] = 0,
) -> None:
    """Draw synthetic crops to try the other commands on."""
    if stream not in STREAMS:
        raise SettingsError(
            f"demo-data: unknown stream {stream!r}{did_you_mean(stream, STREAMS) or '; use hands or face'}"
        )

    from sltdino.data import synthetic

    written = synthetic.write_demo_crops(stream, folder, count=count, seed=seed)
    typer.echo(f"{written} images in {printable(str(folder))}")
