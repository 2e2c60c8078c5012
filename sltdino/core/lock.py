"""The lock that keeps a folder to one writer."""

import errno
import os
import socket
import time
import weakref
from functools import cache
from pathlib import Path

from sltdino.core import files
from sltdino.errors import RunInUseError

_NO_FLOCK = files.UNSUPPORTED | {errno.ENOLCK, errno.EINVAL}
_TRIES, _PAUSE = 3, 0.05  # a reader that looks who holds the lock has it for an instant


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
        with files.os_errors(path):
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


def is_held(path: Path) -> bool:
    """Whether a process holds the lock file at `path`: a look that changes nothing, and False when in doubt."""
    if path.with_name(path.name + "-held").exists():
        return True
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


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

    for remaining in reversed(range(_TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not remaining:
                raise RunInUseError(
                    f"{path.parent}: in use by {_holder(path)}; wait for it, stop it, or choose another --output-dir"
                ) from None
            time.sleep(_PAUSE)
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
