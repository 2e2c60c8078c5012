"""Exports on the disk: what they may replace, and that each appears whole, with its proof beside it."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sltdino.core import files, json_files
from sltdino.core.run_files import ARTIFACTS, BAD_IMAGES, LOCK, PARAMS, STATUS, previous_name, read_names
from sltdino.errors import RunFolderError, SltDinoError
from sltdino.exporting.backbone import TrainedBackbone
from sltdino.exporting.verify import Proof, refused

FOLDER_SIDECAR = "sltdino.json"
FOLDER_WEIGHTS = "model.safetensors"
FOLDER_FILES = {"config.json", "preprocessor_config.json", FOLDER_WEIGHTS, FOLDER_SIDECAR}
HEADER_KEY = "sltdino"
"""Under which a file of our own names holds the metadata, as JSON. In safetensors it stays the only key: several would
be written in an order that changes."""


class ExportReport(NamedTuple):
    """What was written, and how it was proven."""

    path: Path
    format: str
    sha256: str
    """Of the file; of a folder, of its weights."""
    num_bytes: int
    num_tensors: int
    verified_in: str
    versions: dict[str, str]
    max_relative_error: float
    layer_norm_eps: float
    layer_norm_eps_effect: float
    other_sizes: dict[str, float]
    load: str
    """Python that loads it."""
    input: "NetworkInput"
    notes: tuple[str, ...] = ()


class NetworkInput(NamedTuple):
    """What a consumer must feed: RGB values of 0..1, less `mean`, over `std`."""

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Recipe(NamedTuple):
    """What a format puts beside the weights."""

    format: str
    load: str
    input: NetworkInput
    facts: tuple[tuple[str, Any], ...] = ()
    """For the sidecar, beyond the metadata of the backbone."""
    notes: tuple[str, ...] = ()


def network_input(backbone: TrainedBackbone) -> NetworkInput:
    """The input of a consumer that normalises as it is told, so as the training did."""
    return NetworkInput(backbone.network.image_size, backbone.mean, backbone.std)


def said(backbone: TrainedBackbone) -> dict[str, Any]:
    """What is known about the backbone."""
    return {key: value for key, value in backbone.metadata.items() if value is not None}


def sidecar_of(out: Path, format: str) -> Path:
    """Where the metadata of an export lies; SLT's formats have it under the weights' name with another suffix."""
    if format == "hf":
        return out / FOLDER_SIDECAR
    return out.with_suffix(".json") if format.startswith("slt") else out.with_name(f"{out.name}.json")


def write_file(
    backbone: TrainedBackbone,
    out: Path,
    recipe: Recipe,
    *,
    save: Callable[[BinaryIO], object],
    check: Callable[[Path], Proof],
) -> ExportReport:
    """Write `out` under a temporary name, prove what was written, give it its name, and write the metadata beside it.

    Raises:
        CheckpointError: what `check` raises; then nothing was written, and an old export stands.
        CannotCreateError, StorageError: as `files.new_file`.
    """
    reports: list[ExportReport] = []

    def prove(written: Path) -> None:
        proof = _proven(check, written, recipe.format)
        reports.append(_report(out, recipe, proof, weights=written, num_bytes=written.stat().st_size))

    with files.new_file(out, before_rename=prove) as file:
        save(file)
    (report,) = reports
    json_files.write(sidecar_of(out, recipe.format), _record(backbone, recipe, report))
    return report


def write_folder(
    backbone: TrainedBackbone,
    out: Path,
    recipe: Recipe,
    *,
    save: Callable[[Path], object],
    check: Callable[[Path], Proof],
) -> ExportReport:
    """`write_file` for a folder: complete and proven under a temporary name before it takes its own."""
    with files.new_folder(out) as folder:
        save(folder)
        proof = _proven(check, folder, recipe.format)
        size = sum(file.stat().st_size for file in folder.iterdir())
        report = _report(out, recipe, proof, weights=folder / FOLDER_WEIGHTS, num_bytes=size)
        json_files.write(folder / FOLDER_SIDECAR, _record(backbone, recipe, report))
    return report


def check_output(out: Path, *, format: str) -> None:
    """Make the folder of an export, and refuse a name under which it, or its sidecar, would replace something of value.

    Raises:
        RunFolderError: `out` is a file of a run, or its own sidecar; or what is there was not written by an export.
        CannotCreateError: the folder cannot be made.
    """
    prepare_output(out, format=format)
    sidecar = sidecar_of(out, format)
    if format == "hf":
        _refuse_foreign_folder(out)
        return
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


def prepare_output(out: Path, *, format: str) -> None:
    """Make the folder of an output, and refuse the name of a file of a run.

    Raises:
        RunFolderError, CannotCreateError: as `check_output`.
    """
    sidecar = sidecar_of(out, format)
    if sidecar == out:
        raise RunFolderError(f"{out}: the metadata is written to this name; end the weights' name in .pt")
    if (out.parent / PARAMS).exists():
        names = read_names(out.parent)
        run_files = {names.last_name, names.best_name, names.history_file, previous_name(names)}
        for written in (out, sidecar):
            if written.parent == out.parent and written.name in {
                *run_files, PARAMS, ARTIFACTS, STATUS, BAD_IMAGES, LOCK,
            }:  # fmt: skip
                raise RunFolderError(f"{out}: {written.name} is a file of the run in that folder; choose another name")
    with files.os_errors(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)


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


def _proven(check: Callable[[Path], Proof], written: Path, format: str) -> Proof:
    try:
        return check(written)
    except (SltDinoError, OSError):
        raise
    except Exception as error:  # a consumer's reader may raise anything at a file that is not as it should be
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise refused(f"the reader of {format}", reason) from error


def _report(out: Path, recipe: Recipe, proof: Proof, *, weights: Path, num_bytes: int) -> ExportReport:
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ExportReport(
        path=out,
        format=recipe.format,
        sha256=digest,
        num_bytes=num_bytes,
        load=recipe.load,
        input=recipe.input,
        notes=recipe.notes,
        **proof._asdict(),
    )


def _record(backbone: TrainedBackbone, recipe: Recipe, report: ExportReport) -> dict[str, Any]:
    """The sidecar: whose weights these are, what the consumer must know, and the proof."""
    proof = {key: value for key, value in report._asdict().items() if key in Proof._fields}
    return {
        **said(backbone),
        "file": report.path.name,
        "format": report.format,
        "sha256": report.sha256,
        "num_bytes": report.num_bytes,
        "num_tensors": report.num_tensors,
        "input": recipe.input._asdict(),
        **dict(recipe.facts),
        "verification": proof,
        "load": report.load.split("\n"),
    }
