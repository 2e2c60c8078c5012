"""Folders that appear whole or not at all."""

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sltdino.core.files import flush_folder, os_errors

_FOLDER = ".sltdino-{}.folder"
"""Name of a folder that is being filled; its process holds a lock on it."""
_JUST_MADE = 60.0
"""Seconds in which a folder without a lock may be one that a living process has not locked yet."""


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a temporary folder beside `path`; it takes the name when the body ends well, and is removed when it fails.

    What `path` was before, a folder or nothing, is replaced as a whole. The caller decides whether it may be. What a
    killed process left half filled in the same place is removed first.

    Raises:
        CannotCreateError, StorageError: as `files.new_file`; an old folder is as it was.
    """
    token = secrets.token_hex(8)
    temporary, old = path.parent / _FOLDER.format(token), path.parent / f".sltdino-{token}.old"
    with os_errors(path), ExitStack() as held:
        _remove_abandoned(path.parent)
        try:
            temporary.mkdir()
            _lock(held, temporary)
            yield temporary
            flush_folder(temporary)
            if path.is_dir():
                path.rename(old)  # a rename cannot replace a folder that holds something
            try:
                temporary.rename(path)
            except OSError:
                if old.exists():
                    old.rename(path)
                raise
            flush_folder(path.parent)
            if old.exists():
                shutil.rmtree(old)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _lock(stack: ExitStack, folder: Path) -> bool:
    """Lock a folder until the stack is left or the process dies; False where another process has the lock, or the
    file system has none."""
    import fcntl  # not on Windows, where the other functions of this module work

    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        stack.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_abandoned(parent: Path) -> None:
    """Remove the half filled folders of dead processes: nobody has their locks any more."""
    for folder in parent.glob(_FOLDER.format("*")):
        with ExitStack() as held, suppress(FileNotFoundError):  # another process has removed it
            is_old = time.time() - folder.lstat().st_mtime > _JUST_MADE
            if is_old and _lock(held, folder):
                shutil.rmtree(folder, ignore_errors=True)
