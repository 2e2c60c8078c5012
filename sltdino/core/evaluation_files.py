"""The evaluations that a run folder keeps: one file each, beside the run's own, which a running run may get too."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sltdino.core import files, json_files
from sltdino.core.settings_schema import printable
from sltdino.errors import RunFolderError

EVALUATIONS = "evaluations"
SCHEMA = 1
_NAME = re.compile(r".+-[0-9a-f]{12}\.json")
_Share = Annotated[float, Field(ge=0, le=1)]
_Gain = Annotated[float, Field(ge=-1, le=1)]
_Interval = Field(min_length=2, max_length=2)
_Count = Annotated[int, Field(ge=0, le=2**53)]


class _Read(BaseModel):
    """What readers take for granted of a file that others may have written; what newer versions add is let through."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Method(_Read):
    method: str
    k: _Count | None = None
    shots: _Count | None = None


class _Result(_Method):
    features: str
    accuracy: _Share
    accuracy_interval: Annotated[list[_Share], _Interval]
    balanced_accuracy: _Share
    balanced_accuracy_interval: Annotated[list[_Share], _Interval]


class _Difference(_Method):
    over: str
    accuracy: _Gain
    accuracy_interval: Annotated[list[_Gain], _Interval]


class _Class(_Read):
    label: str
    count: _Count
    precision: _Share
    recall: _Share
    f1: _Share


class _Confusion(_Read):
    method: str = ""
    matrix: list[list[_Count]] = []


class _Groups(_Read):
    regex: str
    train: _Count
    val: _Count
    dropped: _Count


class _Record(_Read):
    timestamp: str
    backbone: str
    checkpoint: str | None
    step: _Count | None
    train_dirs: list[str]
    val_dirs: list[str]
    labels: list[str]
    train_counts: list[_Count]
    val_counts: list[_Count]
    groups: _Groups | None
    protocol: str
    results: list[_Result]
    gains: list[_Difference] = []
    confusion: _Confusion
    per_class: list[_Class]
    notes: list[str] = []
    bad_images: list[Any] = []
    untrained: str | None = None


def evaluation_file(run: Path, name: str, what: Mapping[str, object]) -> Path:
    """Where an evaluation is kept: the same file for the same `what`, such as checkpoint, images and protocol."""
    digest = hashlib.blake2b(json_files.dumps(what).encode(), digest_size=6).hexdigest()
    return run / EVALUATIONS / f"{json_files.text(name)[:80]}-{digest}.json"


def write_evaluation(path: Path, record: Mapping[str, object]) -> None:
    """Write an evaluation of this `SCHEMA` whole or not at all, in the place of an earlier one; no lock is needed.

    Raises:
        CannotCreateError, StorageError: as `files.new_file`. ValueError, TypeError: as `json_files.dumps`.
    """
    with files.os_errors(path.parent):
        path.parent.mkdir(exist_ok=True)
    json_files.write(path, record)


def read_evaluations(run: Path) -> list[dict[str, Any]]:
    """What `sltdino evaluate` found out about the run in a folder, oldest first; empty when it was never asked.

    Raises:
        RunFolderError: a file is damaged, or a newer version wrote it. StorageError: it cannot be read.
    """
    return sorted(map(_read, evaluation_files(run)), key=lambda record: str(record["timestamp"]))


def evaluation_files(run: Path) -> list[Path]:
    """The files of the evaluations of a run, by name."""
    folder = run / EVALUATIONS
    with files.os_errors(folder, reading=True):
        found = list(folder.iterdir()) if folder.is_dir() else []
    return sorted(path for path in found if _NAME.fullmatch(path.name))


def _read(path: Path) -> dict[str, Any]:
    record = json_files.read(path)
    schema = record.get("schema") if isinstance(record, dict) else None
    if type(schema) is int and SCHEMA < schema < 2**53:
        raise RunFolderError(f"{path}: of schema {schema}, and this version reads {SCHEMA}; update sltdino")
    if wrong := "schema" if schema != SCHEMA else _wrong(record):
        raise RunFolderError(f"{path}: not what `sltdino evaluate` writes there ({printable(wrong)}); remove it")
    return record  # type: ignore[no-any-return]


def _wrong(record: object) -> str:
    """Where a record is not what it should be; empty where all is well."""
    try:
        found = _Record.model_validate(record)
    except ValidationError as error:
        return ".".join(map(str, error.errors(include_url=False, include_input=False)[0]["loc"])) or "no object"
    number, matrix = len(found.labels), found.confusion.matrix
    if matrix and {number} != {len(matrix), *map(len, matrix)}:
        return "confusion.matrix"
    return next((key for key in ("train_counts", "val_counts") if len(getattr(found, key)) != number), "")
