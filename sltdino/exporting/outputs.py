"""Exports on the disk: what they may replace, and that each appears whole, with its proof beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sltdino.core import files, json_files
from sltdino.core.folders import new_folder
from sltdino.errors import SltDinoError
from sltdino.exporting.backbone import TrainedBackbone
from sltdino.exporting.output_names import FOLDER_SIDECAR, FOLDER_WEIGHTS, sidecar_of
from sltdino.exporting.verify import Proof, refused


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
    """Python that loads it, and runs it on a picture."""
    input: "NetworkInput"
    metadata_file: Path
    """The sidecar."""
    notes: tuple[str, ...] = ()


class NetworkInput(NamedTuple):
    """What a consumer must feed: the picture, resized to a square, in RGB values of 0..1, less `mean`, over `std`."""

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: str = "bicubic, antialiased"
    """As Pillow's BICUBIC does, and `torch.nn.functional.interpolate` with antialias=True."""


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


def picture_lines(given: NetworkInput) -> list[str]:
    """Python that makes `images` `[1, 3, S, S]` of a file with Pillow (`Image`) and numpy (`np`), which it names."""
    size, mean, std = given.image_size, list(given.mean), list(given.std)
    return [
        "picture = Image.open('crop.jpg').convert('RGB')",
        f"picture = picture.resize(({size}, {size}), Image.Resampling.BICUBIC)",
        f"mean, std = {mean}, {std}",
        "pixels = (np.asarray(picture) / 255 - mean) / std",
        "images = pixels.transpose(2, 0, 1)[None].astype('float32')",
    ]


def said(backbone: TrainedBackbone) -> dict[str, Any]:
    """What is known about the backbone."""
    return {key: value for key, value in backbone.metadata.items() if value is not None}


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
    json_files.write(report.metadata_file, _record(backbone, recipe, report))
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
    with new_folder(out) as folder:
        save(folder)
        proof = _proven(check, folder, recipe.format)
        size = sum(file.stat().st_size for file in folder.iterdir())
        report = _report(out, recipe, proof, weights=folder / FOLDER_WEIGHTS, num_bytes=size)
        json_files.write(folder / FOLDER_SIDECAR, _record(backbone, recipe, report))
    return report


def _proven(check: Callable[[Path], Proof], written: Path, format: str) -> Proof:
    try:
        return check(written)
    except (SltDinoError, OSError):
        raise
    except Exception as error:  # a consumer's reader may raise anything at a file that is not as it should be
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise refused(f"the reader of {format}", reason) from error


def _report(out: Path, recipe: Recipe, proof: Proof, *, weights: Path, num_bytes: int) -> ExportReport:
    return ExportReport(
        path=out,
        format=recipe.format,
        sha256=files.sha256(weights),
        num_bytes=num_bytes,
        load=recipe.load,
        input=recipe.input,
        metadata_file=sidecar_of(out, recipe.format),
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
