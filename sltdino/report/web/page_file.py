"""Where a page may be written: over an older page of ours, never over anything else unasked, never among images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sltdino.core import files
from sltdino.core.run_files import own_files, read_names, read_params
from sltdino.errors import CannotCreateError
from sltdino.report.web.html import is_own_page


def check_place(path: Path, runs: Sequence[Path], *, overwrite: bool = False) -> None:
    """Refuse a place for a page before the work of making it.

    Raises:
        CannotCreateError: it is a folder, a file of one of the runs, in a folder that a run learned from or was
            validated on, or, without `overwrite`, a file that is no page of ours; or its folder does not exist.
    """
    files.refuse_what_is_no_file(path)
    if not path.absolute().parent.is_dir():
        raise CannotCreateError(f"--html {path}: there is no folder {path.absolute().parent}; make it first")
    for run in runs:
        for name in own_files(run, read_names(run)):
            if files.same_file(name, path):
                raise CannotCreateError(f"--html {path}: is a file of the run; choose another name")
        for folder in _image_folders(read_params(run)):
            if path.resolve().is_relative_to(folder.resolve()):
                raise CannotCreateError(f"--html {path}: lies among the images of {run}, in {folder}; choose another")
    if path.exists() and not overwrite and not _is_page(path):
        raise CannotCreateError(f"--html {path}: exists, and no report; choose another name, or add --overwrite")


def write_page(path: Path, page: str) -> None:
    """Write a page whole or not at all, in the place of an older one.

    Raises:
        CannotCreateError, StorageError: as `files.new_file`.
    """
    with files.new_file(path) as file:
        file.write(page.encode())


def _is_page(path: Path) -> bool:
    with files.os_errors(path, reading=True), path.open("rb") as file:
        return is_own_page(file.read(4096))


def _image_folders(params: Mapping[str, Any]) -> list[Path]:
    named = params.get("train_dirs")
    folders = list(named) if isinstance(named, list) else []
    settings = params.get("settings")
    evaluation = settings.get("evaluation") if isinstance(settings, Mapping) else None
    if isinstance(evaluation, Mapping) and evaluation.get("val_dir"):
        folders.append(evaluation["val_dir"])
    return [Path(str(folder)) for folder in folders]
