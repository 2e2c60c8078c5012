"""Checkpoints: tensors and plain values in a file that is verified before it counts and before it is read."""

import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from sltdino.core import files
from sltdino.core.file_kinds import kind_of
from sltdino.errors import CheckpointError, DivergedError, MissingInputError, StorageError

FORMAT = "sltdino-checkpoint"
SCHEMA_VERSION = 1
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From each older schema version to the next one, as pure functions of the whole checkpoint."""

_SLT_KEYS = {"student", "teacher", "head", "teacher_head", "optimizer", "metadata"}
_MOST_RECORDS = 1_000_000


def save(path: Path, state: Mapping[str, Any], *, before_rename: Callable[[], None] | None = None) -> None:
    """Write `state` so that `path` is the complete, verified checkpoint or what it was before.

    Tensors are written from the CPU, tuples as lists, and the format and schema version are added. `before_rename` is
    called when the new checkpoint is complete under a temporary name.

    Raises:
        DivergedError: a tensor is not finite. TypeError: a value is not data; both name the key. Nothing was written.
        CannotCreateError, StorageError: as `files.new_file`; also when what was written does not read back.
    """
    tree = {key: _data(value, key) for key, value in state.items()}
    tree |= {"format": FORMAT, "schema_version": SCHEMA_VERSION}

    def check(temporary: Path) -> None:
        with temporary.open("rb") as written:
            try:
                _verify(written, path)
            except CheckpointError as error:
                reason = str(error).rpartition(";")[0]
                raise StorageError(f"{reason} right after writing; check the disk: what was saved stands") from error
        if before_rename is not None:
            before_rename()

    with files.new_file(path, before_rename=check) as file:
        torch.save(tree, file)


def load(path: Path) -> dict[str, Any]:
    """The state in a checkpoint, on the CPU, in the present schema. No code in the file can run.

    Raises:
        MissingInputError: there is no such file.
        CheckpointError: it is damaged, not a checkpoint of this software, or of a newer one.
        StorageError: it cannot be read.
    """
    with _opened(path) as file, files.os_errors(path, reading=True):
        _verify(file, path)
        state = _unpickle(file, path)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        if isinstance(state, dict) and state.keys() >= _SLT_KEYS:
            raise CheckpointError(
                f"{path}: a checkpoint of the old SLT scripts, which is not resumable: its heads differ from ours; "
                "start a new run with --init-from, which takes its backbone",
                code="E-CKPT-LEGACY",
            )
        raise _foreign(path, "it holds something else")
    return _migrated(state, path)


def verify(path: Path) -> None:
    """Read every byte of a checkpoint and compare it with its checksum.

    Raises:
        MissingInputError, CheckpointError, StorageError: as `load`.
    """
    with _opened(path) as file, files.os_errors(path, reading=True):
        _verify(file, path)


def _opened(path: Path) -> BinaryIO:
    if not path.exists():
        raise MissingInputError(f"{path}: there is no such checkpoint; check the path")
    if not path.is_file():
        raise MissingInputError(f"{path}: not a file, but a checkpoint is one; name the file")
    with files.os_errors(path, reading=True):
        return path.open("rb")


def _verify(file: BinaryIO, path: Path) -> None:
    """PyTorch reads flipped bytes and zeroed pages without a word: its CRC check is switched off. This one is not."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(4)
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            _check_records(records, size, path)
            damaged = archive.testzip()
    except zipfile.BadZipFile as error:
        if head[:2] == b"PK" or not head.strip(b"\0"):
            raise _corrupt(path, f"cut short or overwritten, {size:,} bytes are left") from error
        raise _foreign(path, kind_of(path)) from error
    except (EOFError, NotImplementedError, UnicodeDecodeError, ValueError, RuntimeError) as error:
        raise _corrupt(path, f"its list of records is damaged ({error})") from error
    if damaged is not None:
        raise _corrupt(path, f"record {damaged} fails its CRC")
    file.seek(0)


def _check_records(records: list[zipfile.ZipInfo], size: int, path: Path) -> None:
    """Refuse what could make the reader allocate more than the file's own size, or read another record than we did."""
    for record in records:
        if not 0 <= record.header_offset < size:
            raise _corrupt(path, f"record {record.filename} would lie outside the file")
        stored = record.compress_type == zipfile.ZIP_STORED and record.file_size == record.compress_size
        if not stored or record.flag_bits & 1:
            raise CheckpointError(
                f"{path}: record {record.filename} is compressed or encrypted, as in no checkpoint; it was not loaded",
                code="E-CKPT-COMPRESSED",
            )
    names = {record.filename for record in records}
    if len(names) != len(records) or len(records) > _MOST_RECORDS or sum(record.file_size for record in records) > size:
        raise CheckpointError(
            f"{path}: its records repeat or overlap, which those of no checkpoint do; it was not loaded",
            code="E-CKPT-SIZE",
        )


def read_tensors(file: BinaryIO) -> Any:
    """`torch.load` of tensors and plain values; what PyTorch remarks on a pickle of others is for nobody."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.load(file, weights_only=True, map_location="cpu")


def _unpickle(file: BinaryIO, path: Path) -> Any:
    try:
        return read_tensors(file)
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0][:200]
        raise CheckpointError(
            f"{path}: holds something other than tensors and plain values, so it was not loaded ({reason}); "
            "use only checkpoints of sltdino",
            code="E-CKPT-UNSAFE",
        ) from error
    except Exception as error:  # a hostile file can make the reader raise anything; here nothing else can
        reason = (str(error).splitlines() or [""])[0][:200]
        raise _foreign(path, f"PyTorch cannot read it: {type(error).__name__} {reason}") from error


def _migrated(state: dict[str, Any], path: Path) -> dict[str, Any]:
    version = state.get("schema_version")
    if type(version) is not int or version < 1:
        raise _corrupt(path, f"its schema version is {version!r}")
    if version > SCHEMA_VERSION:
        raise CheckpointError(
            f"{path}: of schema {version}, and this sltdino reads up to {SCHEMA_VERSION}; "
            f"update sltdino to one that reads schema {version}",
            code="E-CKPT-VERSION",
        )
    while version < SCHEMA_VERSION:
        state = MIGRATIONS[version](state)
        version += 1
    return state | {"schema_version": version}


def _data(value: object, where: str) -> object:
    """A copy of `value` that holds only data: plain values, and CPU tensors without more storage than they show."""
    if isinstance(value, Tensor):
        return _finite(value, where)
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, list | tuple):
        return [_data(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"checkpoint: {where} has the key {key!r}; only text and integers can be keys")
        return {key: _data(item, f"{where}.{key}") for key, item in value.items()}
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise TypeError(f"checkpoint: {where} is a {kind}; only tensors and plain values can be saved")


def _finite(tensor: Tensor, where: str) -> Tensor:
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise TypeError(f"checkpoint: {where} is a {tensor.layout} tensor; only dense ones can be saved")
    if (tensor.is_floating_point() or tensor.is_complex()) and not bool(torch.isfinite(tensor).all()):
        raise DivergedError(
            f"checkpoint: {where} is not finite, so nothing was saved; the last checkpoint stands: "
            "lower the learning rate and resume from it"
        )
    plain = tensor.detach().to("cpu").contiguous()
    return plain if plain.untyped_storage().nbytes() == plain.nbytes else plain.clone()


def _corrupt(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: {reason}; use another copy of it", code="E-CKPT-CORRUPT")


def _foreign(path: Path, reason: str) -> CheckpointError:
    message = f"{path}: not an sltdino checkpoint ({reason}); name a checkpoint of a run"
    return CheckpointError(message, code="E-CKPT-FOREIGN")
