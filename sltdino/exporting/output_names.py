"""Which names an export may write to: never a file of a run, nor what no export of its format wrote."""

from pathlib import Path
from typing import Any

from sltdino.core import files, json_files
from sltdino.core.run_files import (
    ARTIFACTS,
    BAD_IMAGES,
    DEFAULT_NAMES,
    LOCK,
    PARAMS,
    STATUS,
    previous_name,
    read_names,
)
from sltdino.core.settings import CheckpointSettings
from sltdino.errors import RunFolderError, SltDinoError

FOLDER_SIDECAR = "sltdino.json"
FOLDER_WEIGHTS = "model.safetensors"
FOLDER_FILES = {"config.json", "preprocessor_config.json", FOLDER_WEIGHTS, FOLDER_SIDECAR}


def sidecar_of(out: Path, format: str) -> Path:
    """Where the metadata of an export lies; SLT's formats have it under the weights' name with another suffix."""
    if format == "hf":
        return out / FOLDER_SIDECAR
    return out.with_suffix(".json") if format.startswith("slt") else out.with_name(f"{out.name}.json")


def check_output(out: Path, *, format: str) -> None:
    """Make the folder of an export, and refuse a name under which it, or its sidecar, would replace something of value.

    Raises:
        RunFolderError, CannotCreateError: as `prepare_output` and `refuse_replacement`.
    """
    prepare_output(out, format=format)
    refuse_replacement(out, format=format)


def prepare_output(out: Path, *, format: str) -> None:
    """Make the folder of an output.

    Raises:
        RunFolderError: as `refuse_output`. CannotCreateError: as there, or the folder cannot be made.
    """
    refuse_output(out, format=format)
    with files.os_errors(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)


def refuse_output(
    out: Path, *, format: str, run: Path | None = None, names: CheckpointSettings = DEFAULT_NAMES
) -> None:
    """Refuse the name of a file of a run, and what no file can be written to; nothing is written.

    Args:
        run: a folder that will hold a run whose files have `names`.

    Raises:
        RunFolderError: `out`, or its sidecar, is a file of a run, or they are one file.
        CannotCreateError: `out` is a folder or a device.
    """
    if format != "hf":
        files.refuse_what_is_no_file(out)
    sidecar = sidecar_of(out, format)
    if sidecar == out:
        raise RunFolderError(f"{out}: the metadata is written to this name; end the weights' name in .pt")
    to_be_run = run is not None and out.parent.resolve() == run.resolve()
    if not to_be_run and not (out.parent / PARAMS).exists():
        return
    names = names if to_be_run else read_names(out.parent)
    run_files = {names.last_name, names.best_name, names.history_file, previous_name(names)}
    for written in (out, sidecar):
        if written.parent == out.parent and written.name in {*run_files, PARAMS, ARTIFACTS, STATUS, BAD_IMAGES, LOCK}:
            raise RunFolderError(f"{out}: {written.name} is a file of the run in that folder; choose another name")


def refuse_replacement(out: Path, *, format: str) -> None:
    """Refuse a name under which something is that no export of this format wrote; nothing is written.

    Raises:
        RunFolderError: naming what is there.
    """
    if format == "hf":
        _refuse_foreign_folder(out)
        return
    sidecar = sidecar_of(out, format)
    if sidecar.exists():
        written = _read_sidecar(sidecar)
        if not written:
            raise RunFolderError(
                f"{out}: its metadata would replace {sidecar}, which no export wrote; choose another name"
            )
        if written.get("file", out.name) != out.name:
            raise RunFolderError(
                f"{out}: its metadata would replace that of {written['file']} in {sidecar}; choose another name"
            )
    elif out.is_file():
        raise RunFolderError(f"{out}: exists, and no {format} export wrote it; remove it, or choose another name")


def _refuse_foreign_folder(out: Path) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir() or out.is_symlink():
        raise RunFolderError(f"{out}: is not a folder, and this format writes one; choose another name")
    names = {path.name for path in out.iterdir()}
    if not names:
        return
    if FOLDER_SIDECAR not in names or not _read_sidecar(out / FOLDER_SIDECAR):
        raise RunFolderError(f"{out}: holds something, and no export wrote it; remove it, or choose another name")
    if others := sorted(names - FOLDER_FILES):
        raise RunFolderError(
            f"{out}: an earlier export, but {others[0]} was added to it; move that, or choose another name"
        )


def _read_sidecar(path: Path) -> dict[str, Any]:
    """What an export wrote there; nothing when it is anything else."""
    try:
        content = json_files.read(path)
    except SltDinoError:
        return {}
    return content if isinstance(content, dict) and isinstance(content.get("backbone"), dict) else {}
