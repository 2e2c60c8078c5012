"""The evaluations that a run folder keeps: one file each, beside the run's own, which a running run may get too."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sltdino.core import files, json_files
from sltdino.errors import RunFolderError

EVALUATIONS = "evaluations"
SCHEMA = 1
_NAME = re.compile(r".+-[0-9a-f]{12}\.json")
_KINDS: dict[str, type[Any] | tuple[type[Any], ...]] = {
    "timestamp": str, "backbone": str, "checkpoint": (str, type(None)), "step": (int, type(None)), "train_dirs": list,
    "val_dirs": list, "labels": list, "train_counts": list, "val_counts": list, "groups": (dict, type(None)),
    "protocol": str, "results": list, "confusion": dict, "per_class": list,
}  # fmt: skip


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
    if isinstance(schema, int) and schema > SCHEMA:
        raise RunFolderError(f"{path}: of schema {schema}, and this version reads {SCHEMA}; update sltdino")
    wrong = [key for key, kind in _KINDS.items() if schema != SCHEMA or not isinstance(record.get(key), kind)]
    if wrong:
        raise RunFolderError(f"{path}: not what `sltdino evaluate` writes there ({wrong[0]}); remove it")
    return record  # type: ignore[no-any-return]
