"""The export formats, and the command's one function."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sltdino.core import artifacts
from sltdino.core.run_files import PARAMS
from sltdino.errors import SettingsError, SltDinoError
from sltdino.exporting import to_hf, to_onnx, to_safetensors, to_slt, to_slt_dinov2, to_timm
from sltdino.exporting.backbone import TrainedBackbone, Which, at_image_size, load_trained_backbone
from sltdino.exporting.output_names import check_output
from sltdino.exporting.outputs import ExportReport


class Format(NamedTuple):
    """A row of the table."""

    write: Callable[[TrainedBackbone, Path], ExportReport]
    description: str
    suffixes: tuple[str, ...] = ()
    """What the name of the file must end in; nothing: what it likes."""


FORMATS = {
    "slt": Format(to_slt.write, "SLT: load_dinov2_backbone('file::PATH:slt_vitsmall_patch16')"),
    "slt-dinov2": Format(to_slt_dinov2.write, "SLT with DINOv2: load_dinov2_backbone('file::PATH:dinov2_vits14')"),
    "timm": Format(to_timm.write, "timm: create_model and load_state_dict", (".safetensors", ".pt", ".pth")),
    "hf": Format(to_hf.write, "Hugging Face: a folder for AutoModel and AutoImageProcessor"),
    "onnx": Format(to_onnx.write, "ONNX Runtime: images in, CLS and patch tokens out", (".onnx",)),
    "safetensors": Format(to_safetensors.write, "our own names, metadata in the header", (".safetensors",)),
}


def export(
    source: Path,
    *,
    format: str,
    out: Path,
    which: Which = "last",
    student: bool = False,
    image_size: int | None = None,
) -> ExportReport:
    """Write the teacher's backbone of a run folder or checkpoint for another program, and prove what was written.

    A run folder records it in its artifacts.json, unless a training holds the folder; a note says so then.

    Args:
        student: write the student's backbone instead.
        image_size: store the positions for images of another size, in pixels.

    Raises:
        SettingsError: there is no such format, it cannot hold this backbone, or what it needs is not installed.
        RunFolderError: `out` is a file of the run, or something that no export wrote.
        MissingInputError, CheckpointError: the source cannot be read, or the file does not give equal features.
        CannotCreateError, StorageError: `out` cannot be written.
    """
    _check_format(format, out)
    backbone = load_trained_backbone(source, which=which, student=student)
    if image_size is not None:
        backbone = at_image_size(backbone, image_size)
    report = write_backbone(backbone, format=format, out=out)
    if not (source / PARAMS).is_file():
        return report
    name = artifact_name(format, student=student)
    try:
        artifacts.register(source, out.absolute(), name=name, metadata=artifact_metadata(backbone, report))
    except SltDinoError as error:
        return report._replace(notes=(*report.notes, f"not recorded in the run's artifacts.json: {error}"))
    return report


def write_backbone(backbone: TrainedBackbone, *, format: str, out: Path) -> ExportReport:
    """`export` for a backbone in memory."""
    _check_format(format, out)
    check_output(out, format=format)
    return FORMATS[format].write(backbone, out)


def artifact_name(format: str, *, student: bool = False) -> str:
    """The entry of an export in artifacts.json: one a format, of which the latest stands."""
    name = "exported_backbone" if format == "slt" else f"exported_{format.replace('-', '_')}"
    return f"{name}_student" if student else name


def artifact_metadata(backbone: TrainedBackbone, report: ExportReport) -> dict[str, Any]:
    """What artifacts.json says of an export: whose weights, and the proof in brief."""
    fields = ("format", "sha256", "num_tensors", "max_relative_error", "verified_in", "versions")
    return {**backbone.metadata, **{field: getattr(report, field) for field in fields}}


def _check_format(format: str, out: Path) -> None:
    if format not in FORMATS:
        raise SettingsError(f"--format: {format!r} is not one of {', '.join(FORMATS)}")
    suffixes = FORMATS[format].suffixes
    if suffixes and out.suffix.lower() not in suffixes:
        raise SettingsError(f"--output: {out}: the name of a file for {format} ends in {' or '.join(suffixes)}")
