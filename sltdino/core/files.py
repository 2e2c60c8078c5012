"""Files that appear whole or not at all, and the lock that keeps a folder to one writer."""

import errno
import os
import secrets
import shutil
import socket
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO

from sltdino.errors import CannotCreateError, RunInUseError, SltDinoError, StorageError

TEMPORARY = ".sltdino-{}.tmp"
"""Name of a file that is being written; short, so that any legal target name leaves room for it."""

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_CANNOT_CREATE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG,
    errno.EEXIST, errno.ENOTEMPTY, errno.EINVAL, errno.EILSEQ,
}  # fmt: skip
_UNSUPPORTED = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_NO_HARD_LINKS = _UNSUPPORTED | {errno.EPERM, errno.EMLINK, errno.EXDEV, errno.EACCES, errno.EINVAL}
_NO_FLOCK = _UNSUPPORTED | {errno.ENOLCK, errno.EINVAL}
_LOCK_TRIES, _LOCK_PAUSE = 3, 0.05  # a reader that looks who holds the lock has it for an instant


@contextmanager
def new_file(path: Path, *, before_rename: Callable[[Path], None] | None = None) -> Iterator[BinaryIO]:
    """Write `path` through a temporary file in the same folder; it appears complete and on the disk, or not at all.

    `before_rename` is called with the complete temporary file just before it takes the name; an error there keeps the
    old file.

    Raises:
        CannotCreateError: the folder does not let us create the file.
        StorageError: writing failed or the disk is full. The temporary file is gone, an old file is as it was.
    """
    temporary = temporary_path(path.parent)
    with os_errors(path):
        try:
            with os.fdopen(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666), "wb") as file:
                yield file
                file.flush()
                flush_to_disk(file.fileno())
            if before_rename is not None:
                before_rename(temporary)
            os.replace(temporary, path)
            flush_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def os_errors(path: Path, *, reading: bool = False) -> Iterator[None]:
    """Turn an `OSError` about `path` into the `StorageError` or `CannotCreateError` that a user can act on."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError with an OSError behind it
        cause = _os_error_behind(error)
        if cause is None:
            raise
        raise storage_error(path, cause, reading=reading) from error


def storage_error(path: Path, error: OSError, *, reading: bool = False) -> SltDinoError:
    """The error for a failed write of `path`, or a failed read: what, why, and what to do."""
    reason = error.strerror or str(error) or type(error).__name__
    if reading:
        return StorageError(f"{path}: cannot be read ({reason}); check its permissions and the disk")
    if error.errno in _DISK_FULL:
        return StorageError(f"{path}: the disk is full ({reason}); free some space, then resume: what was saved stands")
    if error.errno == errno.EFBIG:
        return StorageError(f"{path}: larger than a file may be here ({reason}); raise `ulimit -f`, then resume")
    if error.errno in _CANNOT_CREATE:
        return CannotCreateError(f"{path}: cannot be created ({reason}); check the folder, or choose another one")
    return StorageError(f"{path}: writing failed ({reason}); check the disk, then resume: what was saved stands")


def temporary_path(folder: Path) -> Path:
    """A name in `folder` that nobody uses; what a killed process left under such a name is removed by the next one."""
    return folder / TEMPORARY.format(secrets.token_hex(8))


def remove_leftovers(folder: Path) -> int:
    """Remove the temporary files of processes that were killed; only the holder of the folder's lock may do this."""
    with os_errors(folder):
        leftovers = list(folder.glob(TEMPORARY.format("*")))
        for path in leftovers:
            path.unlink(missing_ok=True)
    return len(leftovers)


def flush_to_disk(descriptor: int) -> None:
    """Return when the file's bytes are on the medium."""
    if sys.platform == "darwin":  # there, fsync only hands the bytes to the drive's cache
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
        except OSError as error:
            if error.errno not in _UNSUPPORTED | {errno.EINVAL, errno.ENOTTY}:
                raise
    os.fsync(descriptor)


def flush_folder(folder: Path) -> None:
    """Return when the names in `folder` are on the medium: a rename counts only from here on."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED | {errno.EINVAL}:  # SMB and FUSE without fsync of folders
            raise
    finally:
        os.close(descriptor)


def second_name(source: Path, target: Path) -> bool:
    """Make `target` another name of `source`, replacing it atomically; True for a hard link, False for a flushed copy.

    Raises:
        CannotCreateError, StorageError: as `new_file`; an old `target` is as it was.
    """
    temporary = temporary_path(target.parent)
    with os_errors(target):
        try:
            os.link(source, temporary)
            os.replace(temporary, target)
            return True
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
        finally:
            temporary.unlink(missing_ok=True)  # still there when both names were one file: such a rename does nothing
        with source.open("rb") as old, new_file(target) as new:
            shutil.copyfileobj(old, new, 1 << 20)
        return False


def probe(folder: Path) -> bool:
    """Write, flush and remove a small file in `folder`; True when the folder also has hard links.

    Raises:
        CannotCreateError, StorageError: nothing can be written there.
    """
    first, second = temporary_path(folder), temporary_path(folder)
    try:
        with new_file(first) as file:
            file.write(b"probe")
        return second_name(first, second)
    finally:
        first.unlink(missing_ok=True)
        second.unlink(missing_ok=True)


class FolderLock:
    """Holds a folder for this process until `release`, or until the process ends in whatever way.

    Where the file system has no `flock`, a file that exists while the lock is held takes its place; `notice` says so.

    Raises:
        RunInUseError: another process holds it; the message names its pid and host.
        CannotCreateError, StorageError: the lock file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.notice = ""
        self._held_file: Path | None = None
        self._descriptor = -1
        with os_errors(path):
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            self._descriptor = os.open(path, flags, 0o666)
            try:
                if not _flock(self._descriptor, path):
                    self._hold_by_file(path.with_name(path.name + "-held"))
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, _this_process(), 0)
            except BaseException:
                self.release()
                raise
        _close_locks_in_forks()
        _LOCKS.add(self)

    def release(self) -> None:
        """Let others have the folder. Doing it twice does nothing."""
        if self._held_file is not None:
            self._held_file.unlink(missing_ok=True)
            self._held_file = None
        self._close()

    def _hold_by_file(self, held: Path) -> None:
        try:
            descriptor = os.open(held, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        except FileExistsError:
            raise RunInUseError(
                f"{held.parent}: held by {_holder(held)}, by a lock file because this file system has no flock; "
                f"if that process is gone: rm {held}"
            ) from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(_this_process())
        self._held_file = held
        self.notice = f"the file system of {held.parent} has no flock: {held.name} holds the folder, also after a kill"

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)  # and no LOCK_UN: in a forked child that would end its parent's lock
            self._descriptor = -1

    def _forget_in_child(self) -> None:
        self._held_file = None
        self._close()


_LOCKS: "weakref.WeakSet[FolderLock]" = weakref.WeakSet()


@cache
def _close_locks_in_forks() -> None:
    """Keep loader workers from holding a lock that their killed parent had."""

    def forget() -> None:
        for lock in list(_LOCKS):
            lock._forget_in_child()

    os.register_at_fork(after_in_child=forget)


def _flock(descriptor: int, path: Path) -> bool:
    """Whether the file system knows `flock`; when it returns True, this process has the lock."""
    import fcntl  # not on Windows, where the other functions of this module work

    for remaining in reversed(range(_LOCK_TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not remaining:
                raise RunInUseError(
                    f"{path.parent}: in use by {_holder(path)}; wait for it, stop it, or choose another --output-dir"
                ) from None
            time.sleep(_LOCK_PAUSE)
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                raise
            return False
    raise AssertionError("unreachable")


def _this_process() -> bytes:
    return f"pid {os.getpid()} on {socket.gethostname()}\n".encode(errors="replace")


def _holder(path: Path) -> str:
    """What the holder wrote about itself; anyone may have written it, so only a short printable line counts."""
    with path.open("rb") as file:
        text = file.read(200).decode(errors="replace").strip()
    return text if text.startswith("pid ") and text.isprintable() else "another process"


def _os_error_behind(error: BaseException | None) -> OSError | None:
    while error is not None:
        if isinstance(error, OSError):
            return error
        error = error.__cause__ or error.__context__
    return None
