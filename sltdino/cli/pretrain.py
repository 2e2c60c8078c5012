"""`sltdino pretrain hands|face`: one command with two presets."""

from collections.abc import Callable
from typing import Annotated, Literal

import typer

from sltdino.cli.help import EXAMPLE, PlainCommand, PlainGroup, show_help_without_command
from sltdino.cli.options import BARE_PRINT_CONFIG, Typed, takes_settings
from sltdino.cli.training import show, show_dry_run
from sltdino.core.settings_files import load_settings
from sltdino.core.settings_presets import STREAMS
from sltdino.core.settings_text import settings_json, settings_toml
from sltdino.errors import SettingsError

_NO_IMAGES = "--train-dir: missing"

app = typer.Typer(cls=PlainGroup, help="Pre-train a backbone on folders of crops.")
app.callback(invoke_without_command=True)(show_help_without_command)


def _command(stream: str) -> Callable[..., None]:
    def pretrain(
        typed: Typed,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Check, estimate and time the run; write nothing.")
        ] = False,
        print_config: Annotated[
            Literal["toml", "json"] | None,
            typer.Option(
                BARE_PRINT_CONFIG, metavar="[=toml|json]", help="Print every setting with its origin, and stop."
            ),
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    ) -> None:
        try:
            settings, origins = load_settings(stream, files=typed.files, sets=typed.sets, flags=typed.flags)
        except SettingsError as error:
            if print_config is None:
                raise
            raise _with_way_to_defaults(error, stream) from error

        from sltdino import pretraining

        if print_config is not None:
            planned = pretraining.planned_settings(settings, origins=origins)
            typer.echo(settings_json(planned) if print_config == "json" else settings_toml(planned), nl=False)
        elif dry_run:
            show_dry_run(
                lambda reporter: pretraining.dry_run(settings, origins=origins, reporter=reporter),
                typed,
                as_json=as_json,
            )
        else:
            show(
                lambda reporter: pretraining.pretrain(
                    settings, origins=origins, config_files=typed.files, reporter=reporter
                ),
                typed,
                as_json=as_json,
            )

    return takes_settings(pretrain, stream=stream)


def _with_way_to_defaults(error: SettingsError, stream: str) -> SettingsError:
    """What `--print-config` cannot do without images, something else can."""
    way = f"; the images settle what is auto; `sltdino config init {stream} -` prints the defaults"
    return SettingsError(*(f"{text}{way if text.startswith(_NO_IMAGES) else ''}" for text in error.problems))


for _stream in STREAMS:
    _text = (
        f"Pre-train on {_stream} crops.\n\n{EXAMPLE.format(stream=_stream)}\n\n"
        "Flags win over --set items, these over --config files, these over defaults."
    )
    app.command(_stream, cls=PlainCommand, help=_text)(_command(_stream))
