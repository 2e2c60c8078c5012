"""The list of what a run made: an entry a name, replaced in place, order kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sltdino.core import json_files, run_files
from sltdino.core.lock import FolderLock


def placed(
    artifacts: list[dict[str, Any]], path: Path | str, *, name: str | None, metadata: Mapping[str, object]
) -> list[dict[str, Any]]:
    """The list with an entry for `path`, in the place of the one of the same name or at the end."""
    entry = {
        "name": name if name is not None else Path(path).name,
        "path": str(Path(path).absolute()),
        "timestamp": json_files.now(),
        "metadata": json_files.finite(metadata),
    }
    names = [known.get("name") for known in artifacts]
    if entry["name"] not in names:
        return [*artifacts, entry]
    index = names.index(entry["name"])
    return [*artifacts[:index], entry, *artifacts[index + 1 :]]


def register(run: Path, path: Path, *, name: str, metadata: Mapping[str, object]) -> None:
    """Record a file that was made from the run in a folder; nothing else there changes.

    A training holds the folder and keeps its own copy of the list, which the next save would write over ours: then
    nothing is recorded.

    Raises:
        RunInUseError: another process holds the folder. RunFolderError: the list is damaged.
        CannotCreateError, StorageError: the folder cannot be written to.
    """
    lock = FolderLock(run / run_files.LOCK)
    try:
        entries = placed(run_files.read_artifacts(run), path, name=name, metadata=metadata)
        json_files.write(run / run_files.ARTIFACTS, entries)
    finally:
        lock.release()
