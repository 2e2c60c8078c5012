"""Files that appear whole or not at all."""

import errno
import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sltdino.errors import CannotCreateError, SltDinoError, StorageError

TEMPORARY = ".sltdino-{}.tmp"
"""Name of a file that is being written; short, so that any legal target name leaves room for it."""

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_CANNOT_CREATE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG,
    errno.EEXIST, errno.ENOTEMPTY, errno.EINVAL, errno.EILSEQ,
}  # fmt: skip
UNSUPPORTED = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_NO_HARD_LINKS = UNSUPPORTED | {errno.EPERM, errno.EMLINK, errno.EXDEV, errno.EACCES, errno.EINVAL}


@contextmanager
def new_file(path: Path, *, before_rename: Callable[[Path], None] | None = None) -> Iterator[BinaryIO]:
    """Write `path` through a temporary file in the same folder; it appears complete and on the disk, or not at all.

    `before_rename` is called with the complete temporary file just before it takes the name; an error there keeps the
    old file.

    Raises:
        CannotCreateError: the folder does not let us create the file.
        StorageError: writing failed or the disk is full. The temporary file is gone, an old file is as it was.
    """
    refuse_what_is_no_file(path)
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


def refuse_what_is_no_file(path: Path) -> None:
    """Keep a file from taking the place of a folder, or of a device such as /dev/null.

    Raises:
        CannotCreateError: such a thing has that name.
    """
    with os_errors(path):
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "a device or pipe"
            raise CannotCreateError(f"{path}: is {kind}; name a file")


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
            if error.errno not in UNSUPPORTED | {errno.EINVAL, errno.ENOTTY}:
                raise
    os.fsync(descriptor)


def flush_folder(folder: Path) -> None:
    """Return when the names in `folder` are on the medium: a rename counts only from here on."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED | {errno.EINVAL}:  # SMB and FUSE without fsync of folders
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


def sha256(path: Path) -> str:
    """The digest of a file's bytes, in hexadecimal.

    Raises:
        StorageError: it cannot be read.
    """
    with os_errors(path, reading=True), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def same_file(one: Path, other: Path) -> bool:
    """Whether both names exist and are one file."""
    return one.exists() and other.exists() and one.samefile(other)


def probe(folder: Path) -> bool:
    """Write, flush and remove a small file in `folder`; True when the folder also has hard links.

    Raises:
        CannotCreateError, StorageError: nothing can be written there.
    """
    first, second = temporary_path(folder), temporary_path(folder)
    with os_errors(folder):
        try:
            with new_file(first) as file:
                file.write(b"probe")
            return second_name(first, second)
        finally:
            first.unlink(missing_ok=True)  # an error itself where `folder` is a file
            second.unlink(missing_ok=True)


def check_free_space(folder: Path, bytes_needed: int) -> None:
    """Raise StorageError unless so many bytes are free on the disk of `folder`, which may be still to be made."""
    free = free_space(folder)
    if free < bytes_needed:
        raise StorageError(
            f"{folder}: {bytes_needed / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free; "
            "free some space or choose another --output-dir"
        )


def free_space(folder: Path) -> int:
    """Bytes free on the disk of `folder`, or of its first parent that exists."""
    with os_errors(folder, reading=True):
        return shutil.disk_usage(_existing(folder)).free


def check_writable(folder: Path) -> None:
    """Refuse a folder that could not be made or written to, by its permissions alone: `probe` knows, but writes.

    Raises:
        CannotCreateError: naming what stands in the way.
    """
    existing = _existing(folder)
    if not existing.is_dir():
        raise CannotCreateError(f"{folder}: cannot be created ({existing} is not a folder); choose another one")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise CannotCreateError(f"{folder}: cannot be created ({existing} cannot be written to); choose another one")


def _existing(folder: Path) -> Path:
    """The folder itself or the first of its parents that exists, in whatever form."""
    return next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))


def _os_error_behind(error: BaseException | None) -> OSError | None:
    while error is not None:
        if isinstance(error, OSError):
            return error
        error = error.__cause__ or error.__context__
    return None
