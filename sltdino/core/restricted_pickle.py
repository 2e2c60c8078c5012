"""PyTorch files of other programs as data: tensors and plain values, everything else an inert placeholder.

`torch.load(weights_only=True)` refuses a whole file for one object that is no data, as the `argparse.Namespace` in
every checkpoint of DINO. Here such an object is passed over and named. Nothing that a file names is imported or called.
"""

import io
import math
import os
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeGuard

import torch
from torch import Tensor

from sltdino.errors import CheckpointError

_LARGEST_PICKLE = 64 << 20
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_REFUSED_OPCODES = {"EXT1", "EXT2", "EXT4", "INST", "OBJ", "PERSID", "BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER"}
"""Never written by `torch.save`; some of them reach beyond `find_class` or allocate before they read."""
_DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip


class Unpickled(NamedTuple):
    """What a file holds, and the names of what was passed over in it."""

    content: Any
    placeholders: tuple[str, ...]


class Inert:
    """Stands for an object that is no data: it takes whatever the file does to it, and does nothing."""

    __slots__ = ()

    def __new__(cls, *_args: object, **_kwargs: object) -> "Inert":
        return object.__new__(cls)

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        pass

    def _ignore(self, *_args: object) -> None:
        pass

    # BUILD, APPENDS, ADDITEMS and SETITEMS end here, for the class as for its instances
    __setstate__ = append = extend = add = __setitem__ = _ignore


class _Mapping(dict[Any, Any]):
    """For `OrderedDict`, whose attributes (a state dict's `_metadata`) are of no use here."""

    __slots__ = ()

    def __setstate__(self, _state: object = None) -> None:
        pass


class _Storage(NamedTuple):
    """Numbers in the file, not yet read."""

    dtype_name: str
    key: str
    read: Callable[[str, int], bytes]


class StoredTensor:
    """A tensor whose numbers are still in the file."""

    __slots__ = ("layout",)
    layout: tuple[object, ...]

    def __new__(cls, *layout: object) -> "StoredTensor":
        self = object.__new__(cls)
        self.layout = layout
        return self

    def __setstate__(self, _state: object = None) -> None:
        pass

    def load(self) -> Tensor:
        """The tensor, on the CPU.

        Raises:
            ValueError: its description does not fit the numbers it refers to.
        """
        storage, offset, size, stride = self.layout[:4]
        if not (isinstance(storage, _Storage) and _is_count(offset) and _is_shape(size) and _is_shape(stride)):
            raise ValueError("a tensor's description is damaged")
        dtype = _DTYPES[storage.dtype_name]
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        numbers = math.prod(size)
        if numbers == 0:
            return torch.empty(0, dtype=dtype)
        if numbers > last + 1 - offset:
            raise ValueError(f"a tensor of {numbers:,} numbers refers to {last + 1 - offset:,}")
        raw = storage.read(storage.key, (last + 1) * dtype.itemsize)
        return torch.frombuffer(bytearray(raw), dtype=dtype).as_strided(size, stride, offset).clone()


class _Parameter:
    """For `torch._utils._rebuild_parameter(data, requires_grad, hooks)`: the data."""

    __slots__ = ()

    def __new__(cls, data: object = None, *_rest: object) -> Any:
        return data

    def __setstate__(self, _state: object = None) -> None:
        pass


_KNOWN: dict[tuple[str, str], type] = {
    ("collections", "OrderedDict"): _Mapping,
    ("torch._utils", "_rebuild_tensor_v2"): StoredTensor,
    ("torch._utils", "_rebuild_parameter"): _Parameter,
}


class _Unpickler(pickle.Unpickler):
    """Every global a pickle can name goes through `find_class`, which here looks into a table and nowhere else."""

    def __init__(self, file: BinaryIO, read: Callable[[str, int], bytes]) -> None:
        super().__init__(file, encoding="latin1")
        self.read_storage = read
        self.passed_over: dict[str, None] = {}
        self.storages: dict[str, str] = {}

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in of ours, a storage's name, or the placeholder; never an import."""
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return name
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        self.passed_over[f"{module}.{name}"] = None
        return Inert

    def persistent_load(self, pid: Any) -> Any:
        """`("storage", type, key, location, numel, …)`."""
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"):
            raise pickle.UnpicklingError("an external object that is no storage")
        dtype_name, key = pid[1], pid[2]
        if dtype_name not in _DTYPES or not isinstance(key, str):
            return Inert()
        self.storages[key] = dtype_name
        return _Storage(dtype_name, key, self.read_storage)


def read(path: Path) -> Unpickled:
    """The content of a file of `torch.save`, zip or older, in which tensors are `StoredTensor`.

    A zip archive must have been verified before (`checkpoint.verify`).

    Raises:
        CheckpointError: it is neither, or damaged, or built to do harm.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        return _read_zip(path) if is_zip else _read_legacy(path)
    except CheckpointError:
        raise
    except OSError:
        raise
    except Exception as error:  # a hostile file can make the reader raise anything; here nothing else can
        reason = (str(error).splitlines() or [""])[0][:200]
        raise CheckpointError(
            f"{path}: cannot be read as weights ({type(error).__name__} {reason}); use another copy of it",
            code="E-WEIGHTS-CORRUPT",
        ) from error


def _read_zip(path: Path) -> Unpickled:
    with zipfile.ZipFile(path) as archive:
        places = {record.filename: (record.header_offset, record.file_size) for record in archive.infolist()}
        root = next((name.removesuffix("data.pkl") for name in places if name.endswith("/data.pkl")), None)
        if root is None:
            raise CheckpointError(
                f"{path}: a zip archive without weights of PyTorch; name a .pth, .pt, .bin or .safetensors file",
                code="E-WEIGHTS-FOREIGN",
            )
        if f"{root}byteorder" in places and archive.read(f"{root}byteorder") != b"little":
            raise CheckpointError(f"{path}: saved on a big-endian machine, which is not read", code="E-WEIGHTS-FOREIGN")
        data = archive.read(f"{root}data.pkl")

    def read_storage(key: str, num_bytes: int) -> bytes:
        # stored, not compressed, so that its numbers lie behind the record's own header of 30 bytes and two texts
        offset, size = places[f"{root}data/{key}"]
        with path.open("rb") as file:
            file.seek(offset + 26)
            lengths = struct.unpack("<HH", file.read(4))
            file.seek(sum(lengths), os.SEEK_CUR)
            return _exactly(file.read(min(size, num_bytes)), num_bytes)

    unpickler = _Unpickler(io.BytesIO(_checked(io.BytesIO(data))), read_storage)
    content = unpickler.load()
    return Unpickled(content, tuple(unpickler.passed_over))


def _read_legacy(path: Path) -> Unpickled:
    """The format before PyTorch 1.6: five pickles, then each storage as its length and its numbers."""
    places: dict[str, tuple[int, int]] = {}

    def read_storage(key: str, num_bytes: int) -> bytes:
        start, end = places[key]
        with path.open("rb") as file:
            file.seek(start)
            return _exactly(file.read(min(end - start, num_bytes)), num_bytes)

    size = path.stat().st_size
    with path.open("rb") as file:

        def next_pickle() -> _Unpickler:
            return _Unpickler(io.BytesIO(_checked(file)), read_storage)

        if next_pickle().load() != _LEGACY_MAGIC:
            raise CheckpointError(
                f"{path}: a pickle, but not one of torch.save; save its weights with torch.save",
                code="E-WEIGHTS-FOREIGN",
            )
        next_pickle().load(), next_pickle().load()  # protocol and machine
        main = next_pickle()
        content = main.load()
        for key in next_pickle().load():
            numbers = int.from_bytes(file.read(8), "little")
            start = file.tell()
            end = start + numbers * _DTYPES[main.storages[key]].itemsize
            places[key] = (start, end)
            if end > size:
                raise CheckpointError(f"{path}: cut short; use another copy of it", code="E-WEIGHTS-CORRUPT")
            file.seek(end)
    return Unpickled(content, tuple(main.passed_over))


def _checked(file: BinaryIO) -> bytes:
    """The next pickle of a file, whole, after a look at its opcodes that runs none of them."""
    start, last_size = file.tell(), 0
    for opcode, argument, position in pickletools.genops(file):
        last_size = (position or start) - start
        if last_size > _LARGEST_PICKLE:
            raise ValueError(f"over {_LARGEST_PICKLE >> 20} MiB of objects")
        if opcode.name in _REFUSED_OPCODES:
            raise ValueError(f"the opcode {opcode.name}, which torch.save never writes")
        # the memo is an array: a large index would allocate without limit
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > last_size:
            raise ValueError("a memo index beyond the file")
    end = file.tell()
    file.seek(start)
    return file.read(end - start)


def _exactly(raw: bytes, num_bytes: int) -> bytes:
    if len(raw) != num_bytes:
        raise ValueError(f"a storage has {len(raw):,} of the {num_bytes:,} bytes that a tensor refers to")
    return raw


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 1 << 63  # more does not fit into what torch is given


def _is_shape(value: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(value, tuple) and all(_is_count(item) for item in value)
