"""Facts about the folder that runs are written to: file system, room, speed, locks, links."""

import os
import shutil
import time
from pathlib import Path

from sltdino.core import files
from sltdino.core.lock import FolderLock
from sltdino.core.machine import Facts
from sltdino.errors import CannotCreateError, StorageError

_CHUNK, _MOST_CHUNKS, _MOST_SECONDS = 1 << 20, 32, 1.0


def output_folder(folder: Path) -> Facts:
    """Try the folder, or the nearest one above it that exists, with temporary files that are removed again.

    Raises:
        CannotCreateError: nothing can be created there. StorageError: writing fails, or the disk is full. Their
            messages have the reason and no path.
    """
    try:
        return _tried(folder)
    except (CannotCreateError, StorageError) as error:
        reason = str(error).partition(": ")[2].partition(";")[0]
        raise type(error)(reason) from error


def _tried(folder: Path) -> Facts:
    with files.os_errors(folder):
        existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        room = shutil.disk_usage(existing)
    links = files.probe(existing)
    return {
        "exists": existing == folder,
        "file_system": file_system(existing),
        "total_bytes": room.total,
        "free_bytes": room.free,
        "written_bytes_per_second": _write_speed(existing),
        "flock": _has_flock(existing),
        "hard_links": links,
    }


def file_system(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """Its type, such as `ext4` or `nfs4`, where Linux tells."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return None
    absolute, best, found = folder.resolve(), -1, None
    for line in lines:
        before, _, after = line.partition(" - ")
        mounted = before.split()[4].encode().decode("unicode_escape")  # a space is \\040 there
        if absolute.is_relative_to(mounted) and len(mounted) >= best:  # later ones cover earlier ones
            best, found = len(mounted), after.split()[0]
    return found


def _write_speed(folder: Path) -> int:
    """Bytes per second until they are on the medium, of a file of 32 MiB or of one second."""
    path, chunk = files.temporary_path(folder), os.urandom(_CHUNK)  # random: some file systems compress
    written, begun = 0, time.monotonic()
    try:
        with files.os_errors(path), path.open("xb") as file:
            while written < _MOST_CHUNKS * _CHUNK and time.monotonic() - begun < _MOST_SECONDS:
                written += file.write(chunk)
            file.flush()
            files.flush_to_disk(file.fileno())
    finally:
        path.unlink(missing_ok=True)
    return round(written / (time.monotonic() - begun))


def _has_flock(folder: Path) -> bool:
    path = files.temporary_path(folder)
    lock = FolderLock(path)
    try:
        return not lock.notice
    finally:
        lock.release()
        path.unlink(missing_ok=True)
