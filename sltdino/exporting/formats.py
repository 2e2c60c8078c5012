"""The export formats, and the command's one function."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

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
from sltdino.errors import RunFolderError, SettingsError, SltDinoError
from sltdino.exporting import to_slt
from sltdino.exporting.backbone import TrainedBackbone, Which, load_trained_backbone
from sltdino.exporting.verify import Proof


class Format(NamedTuple):
    """A row of the table."""

    write: Callable[[TrainedBackbone, Path], Proof]
    description: str


FORMATS = {"slt": Format(to_slt.write, "SLT: load_dinov2_backbone('file::PATH:slt_vitsmall_patch16')")}


class ExportReport(NamedTuple):
    """What was written, and how it was proven."""

    path: Path
    format: str
    sha256: str
    num_bytes: int
    max_relative_error: float
    layer_norm_eps_effect: float


def export(source: Path, *, format: str, out: Path, which: Which = "last") -> ExportReport:
    """Write the teacher's backbone of a run folder or checkpoint for another program, and prove the file.

    Raises:
        SettingsError: there is no such format, or it cannot hold this backbone.
        RunFolderError: `out` is a file of the run, or would be overwritten by its own sidecar.
        MissingInputError, CheckpointError: the source cannot be read, or the file does not give equal features.
        CannotCreateError, StorageError: `out` cannot be written.
    """
    if format not in FORMATS:
        raise SettingsError(f"--format: {format!r} is not one of {', '.join(FORMATS)}")
    return write_backbone(load_trained_backbone(source, which=which), format=format, out=out)


def write_backbone(backbone: TrainedBackbone, *, format: str, out: Path) -> ExportReport:
    """`export` for a backbone in memory."""
    check_output(out)
    proof = FORMATS[format].write(backbone, out)
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    return ExportReport(out, format, digest, out.stat().st_size, proof.max_relative_error, proof.layer_norm_eps_effect)


def check_output(out: Path) -> None:
    """Make the folder of an export, and refuse a name whose file, or whose sidecar, would replace something of value.

    Raises:
        RunFolderError: as `refuse_output`. CannotCreateError: the folder cannot be made.
    """
    refuse_output(out)
    with files.os_errors(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)


def refuse_output(out: Path, *, run: Path | None = None, names: CheckpointSettings = DEFAULT_NAMES) -> None:
    """Refuse a name whose file, or whose sidecar, would replace something of value; nothing is written.

    Args:
        run: a folder that will hold a run whose files have `names`.

    Raises:
        RunFolderError: `out` is a file of a run, or its own sidecar; or the sidecar is a file of others.
        CannotCreateError: `out` is a folder or a device.
    """
    files.refuse_what_is_no_file(out)
    sidecar = out.with_suffix(".json")
    if sidecar == out:
        raise RunFolderError(f"{out}: the metadata is written to this name; end the weights' name in .pt")
    to_be_run = run is not None and out.parent.resolve() == run.resolve()
    if to_be_run or (out.parent / PARAMS).exists():
        names = names if to_be_run else read_names(out.parent)
        run_files = {names.last_name, names.best_name, names.history_file, previous_name(names)}
        for written in (out, sidecar):
            if written.name in run_files | {PARAMS, ARTIFACTS, STATUS, BAD_IMAGES, LOCK}:
                raise RunFolderError(f"{out}: {written.name} is a file of the run in that folder; choose another name")
    if sidecar.exists() and not _is_sidecar(sidecar):
        raise RunFolderError(f"{out}: its metadata would replace {sidecar}, which no export wrote; choose another name")


def _is_sidecar(path: Path) -> bool:
    try:
        content = json_files.read(path)
    except SltDinoError:
        return False
    return isinstance(content, dict) and isinstance(content.get("backbone"), dict)
