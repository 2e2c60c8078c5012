"""The export formats, and the command's one function."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sltdino.core import files
from sltdino.core.run_files import previous_name, read_names
from sltdino.errors import RunFolderError, SettingsError
from sltdino.export import to_slt
from sltdino.export.backbone import TrainedBackbone, Which, load_trained_backbone
from sltdino.export.verify import Proof


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
    _refuse_run_files(out)
    with files.os_errors(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
    proof = FORMATS[format].write(backbone, out)
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    return ExportReport(out, format, digest, out.stat().st_size, proof.max_relative_error, proof.layer_norm_eps_effect)


def _refuse_run_files(out: Path) -> None:
    names = read_names(out.parent)
    run_files = {names.last_name, names.best_name, names.history_file, previous_name(names)}
    run_files |= {"params.json", "artifacts.json", "status.json", "bad_images.jsonl"}
    for written in (out, out.with_suffix(".json")):
        if written.name in run_files and (out.parent / "params.json").exists():
            raise RunFolderError(f"{out}: {written.name} is a file of the run in that folder; choose another name")
