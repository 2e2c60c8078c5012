"""What a run shows to its trackers beside its records: its settings, its notes, its crops, and how it ended."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sltdino.core.changes import RUN_CONTROL
from sltdino.core.run_dir import RunDir
from sltdino.core.run_files import read_metrics
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_base import known
from sltdino.core.settings_schema import flatten
from sltdino.core.tracked import TrackedRun
from sltdino.errors import SltDinoError
from sltdino.pretraining.progress import Reporter
from sltdino.report.pictures.crop_sheet import crop_sheet
from sltdino.types import Batch

PICTURED = 8
"""Images of a batch whose crops are shown."""
_NOT_HYPERPARAMETERS = RUN_CONTROL | {"track", "experiment.name", "experiment.notes", "experiment.tags"}


def open_trackers(run: RunDir, settings: PretrainSettings, reporter: Reporter, *, steps_done: int) -> None:
    """Open the trackers that the settings name; where they show the run is said, and so is what goes wrong later."""
    if not settings.track:
        return
    what = settings.experiment
    tracked = TrackedRun(
        run.path, what.name, what.notes, what.tags, _hyperparameters(settings), steps_done,
        read_metrics(run.path, run.names.history_file),
    )  # fmt: skip

    def say_failure(text: str) -> None:
        try:
            run.notice(text)
        except SltDinoError as second:  # a full disk, which the run's own files will meet
            text += f" (status.json does not say so: {second})"
        reporter.warn(text)

    for line in run.trackers.open(settings.track, tracked, on_failure=say_failure):
        reporter.say(line)
    if what.notes:
        run.trackers.text("experiment/notes", what.notes, step=steps_done)
    if what.tags:
        run.trackers.text("experiment/tags", ", ".join(what.tags), step=steps_done)


@contextmanager
def trackers_closed(run: RunDir) -> Iterator[None]:
    """Tell the trackers at the end how the run ended, whether well or with an error."""
    try:
        yield
    except BaseException as error:
        run.trackers.close(getattr(error, "exit_code", 1))
        raise
    run.trackers.close(0)


def show_crops(run: RunDir, settings: PretrainSettings, batch: Batch, *, step: int) -> None:
    """Show the crops that step was made of, as the student saw them."""
    crops = settings.augmentation

    def sheet() -> Any:
        return crop_sheet(
            batch, mean=crops.mean, std=crops.std, patch_size=known(settings.vit.patch_size), num_images=PICTURED
        )

    run.trackers.image("crops", sheet, step=step)


def _hyperparameters(settings: PretrainSettings) -> dict[str, bool | int | float | str]:
    """By dotted key, as trackers take them: lists in a line, what is not set left out."""
    values = flatten(settings.model_dump(mode="json"))
    return {
        key: ", ".join(map(str, value)) if isinstance(value, list) else value
        for key, value in values.items()
        if value is not None and key not in _NOT_HYPERPARAMETERS
    }
