"""When the files of a run folder may be replaced by those of a new run."""

import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

from sltdino.core import files
from sltdino.core.evaluation_files import EVALUATIONS
from sltdino.core.json_lines import JsonLinesReader
from sltdino.core.run_files import (
    ARTIFACTS,
    BAD_IMAGES,
    PARAMS,
    STATUS,
    TENSORBOARD,
    WANDB,
    has_checkpoint,
    own_files,
    read_index,
    read_names,
)
from sltdino.core.settings import CheckpointSettings
from sltdino.core.tracker_tensorboard import remove_events
from sltdino.core.tracker_wandb import forget_page
from sltdino.errors import RunFolderError


def make_place(path: Path, names: CheckpointSettings, *, overwrite: bool) -> bool:
    """Remove the files of an earlier run that `refuse_unless_new` lets go; whether records of one were among them.

    Raises:
        RunFolderError: as `refuse_unless_new`. CannotCreateError, StorageError: a file cannot be removed.
    """
    own = refuse_unless_new(path, names, overwrite=overwrite)
    with files.os_errors(path):
        had_records = any(_holds_records(file) for file in own)
        for file in own:
            file.unlink()
        remove_events(path)
        forget_page(path)
        with suppress(OSError):  # not there, or it holds something of others
            (path / EVALUATIONS).rmdir()
    return had_records


def refuse_unless_new(path: Path, names: CheckpointSettings, *, overwrite: bool) -> list[Path]:
    """The files that a new run would have to remove; one that failed before its first step has nothing to lose.

    Raises:
        RunFolderError: the folder holds a run and `overwrite` was not given, or files of others under our names.
    """
    own = own_files(path, names)
    for name, kind, key in ((PARAMS, dict, "algorithm"), (STATUS, dict, "state"), (ARTIFACTS, list, "")):
        if path / name in own and not _is_ours(path / name, kind, key):
            raise RunFolderError(f"{path / name}: not written by sltdino; move it, or choose another --output-dir")
    earlier = read_names(path)  # a run's files may have had other names than the new one's
    logs = {BAD_IMAGES, names.history_file, earlier.history_file} if path / STATUS in own else set()
    begun = [file for file in dict.fromkeys([*own, *own_files(path, earlier)]) if _holds_records(file)]
    progress = [file for file in begun if file.name not in logs or not _is_from_before_the_first_step(file)]
    if progress and not overwrite:
        resumed = f"continue it with --resume auto or `sltdino resume {shlex.quote(str(path))}`, start again with"
        way_on = resumed if has_checkpoint(path) else "there is no checkpoint to go on from: start again with"
        raise RunFolderError(
            f"{path}: holds a run already ({progress[0].name}); {way_on} --overwrite, or choose another --output-dir"
        )
    return own


def other_files(path: Path, names: CheckpointSettings) -> list[str]:
    """Names in the folder of a run that are no files of the run, in order; hidden ones apart.

    Raises:
        StorageError: the folder cannot be read.
    """
    own = {file.relative_to(path).parts[0] for file in own_files(path, names)} | {TENSORBOARD, WANDB}
    with files.os_errors(path, reading=True):
        return sorted(name for name in os.listdir(path) if name not in own and not name.startswith("."))


def _holds_records(file: Path) -> bool:
    """Whether removing the file loses more than an index."""
    return file.name not in (PARAMS, STATUS, ARTIFACTS) and file.lstat().st_size > 0


def _is_from_before_the_first_step(file: Path) -> bool:
    """Whether a log holds only what the next start finds again: bad images, and what k-NN gave before training."""
    records = JsonLinesReader(file)
    if file.name == BAD_IMAGES:
        known = all("path" in record and "reason" in record for record in records)
    else:
        known = all(record.get("context") == "eval" and record.get("step") == 0 for record in records)
    return known and not records.unreadable


def _is_ours(path: Path, kind: type[Any], key: str) -> bool:
    content, wrong = read_index(path, kind)
    return path.is_file() and not wrong and (not key or key in content)
