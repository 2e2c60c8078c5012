"""Files of weights that other programs wrote, read as data: PyTorch's formats and safetensors."""

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sltdino.core import checkpoint, files, json_files, restricted_pickle
from sltdino.core.file_kinds import kind_of
from sltdino.core.restricted_pickle import StoredTensor
from sltdino.errors import CheckpointError, MissingInputError, RunFolderError

WEIGHTS_OF_FOLDER = ("model.safetensors", "pytorch_model.bin")
"""Names of the weights in a folder or repository of Hugging Face, in the order in which they are looked for."""
_LARGEST_HEADER_TEXT = 1 << 20
_MOST_GROWTH = 8
"""How much larger weights may be than their file: 8-bit numbers grow to float32, and two names may share theirs."""


class WeightsFile(NamedTuple):
    """What a file holds, and what is known about it beyond its weights."""

    path: Path
    content: Mapping[str, Any]
    """At its top level; tensors, or `restricted_pickle.StoredTensor`."""
    config: dict[str, Any]
    """config.json beside the weights, as Hugging Face and timm write it; else empty."""
    preprocessor: dict[str, Any]
    """preprocessor_config.json beside the weights; else empty."""
    header: dict[str, Any]
    """A safetensors file's own metadata, its JSON values decoded; else empty."""
    sidecar: dict[str, Any]
    """What an export of ours wrote beside exactly these weights, where their format has no place for it; else empty."""
    placeholders: tuple[str, ...]
    """Names of the objects in it that are no data and were passed over."""

    @property
    def weights_only_safe(self) -> bool:
        """Whether it holds tensors and plain values only."""
        return not self.placeholders


def read(path: Path) -> WeightsFile:
    """Read a file of weights, or a folder with a config.json and one file of weights. No code in it can run.

    Raises:
        MissingInputError: there is no such file, or the folder holds no weights.
        CheckpointError: it is damaged, compressed, of another kind, or needs a package that is not installed.
        StorageError: it cannot be read.
    """
    file = _file_of(path)
    config, preprocessor = (_json_beside(file, name) for name in ("config.json", "preprocessor_config.json"))
    header: dict[str, Any] = {}
    placeholders: tuple[str, ...] = ()
    with files.os_errors(file, reading=True):
        with file.open("rb") as opened:
            head = opened.read(512)
        if file.suffix == ".safetensors" or head[8:9] == b"{":
            content, header = _read_safetensors(file)
        elif head[:2] == b"PK":
            checkpoint.verify(file)
            content, placeholders = _read_torch(file)
        elif head[:1] == b"\x80":
            content, placeholders = _read_torch(file)
        else:
            raise _foreign(file, kind_of(file))
        sidecar = _sidecar_of(file)
    if not isinstance(content, Mapping):
        raise _foreign(file, "it holds no mapping of names to weights")
    return WeightsFile(file, content, config, preprocessor, header, sidecar, placeholders)


def plain_tensors(path: Path, values: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict in float32, contiguous, on the CPU; what is no tensor is left out.

    Raises:
        CheckpointError: a tensor is damaged, not dense, not of real numbers, larger than its data, or not finite; or
            they share their data, and are together far larger than the file.
    """
    plain: dict[str, Tensor] = {}
    left = _MOST_GROWTH * path.stat().st_size
    for key, value in values.items():
        tensor = _loaded(path, value)
        if tensor is None:
            continue
        where = f"{path}: {key}"
        _refuse_unless_plain(tensor, where)
        left -= tensor.numel() * torch.float32.itemsize
        if left < 0:
            # thousands of names can stand for the same numbers
            raise CheckpointError(
                f"{path}: its weights are together over {_MOST_GROWTH} times as large as the file; it was not loaded",
                code="E-CKPT-SIZE",
            )
        plain[key] = _float32(tensor, where)
    return plain


def is_dense(tensor: Tensor) -> bool:
    """Whether its numbers are there and lie in rows and columns: no sparse, quantized, nested or meta tensor."""
    return (
        not tensor.is_nested
        and tensor.layout == torch.strided
        and not tensor.is_quantized
        and tensor.device.type == "cpu"
    )


def is_larger_than_its_data(tensor: Tensor) -> bool:
    """Whether a few bytes pose as terabytes."""
    return tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


def _loaded(path: Path, value: object) -> Tensor | None:
    try:
        value = value.load() if isinstance(value, StoredTensor) else value
    except (ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"{path}: {error}; use another copy of it", code="E-WEIGHTS-CORRUPT") from error
    return value if isinstance(value, Tensor) else None


def _refuse_unless_plain(tensor: Tensor, where: str) -> None:
    if not is_dense(tensor) or tensor.is_complex():
        raise CheckpointError(f"{where} is not a dense tensor of real numbers; convert it first", code="E-WEIGHTS")
    if is_larger_than_its_data(tensor):
        raise CheckpointError(f"{where} is larger than its data; it was not loaded", code="E-CKPT-SIZE")


def _float32(tensor: Tensor, where: str) -> Tensor:
    try:
        plain = tensor.detach().to(torch.float32).contiguous().clone()
    except RuntimeError as error:  # some formats of 4 bits and less have no conversion
        raise CheckpointError(
            f"{where} is of {tensor.dtype}, which is not read; convert it first", code="E-WEIGHTS"
        ) from error
    if not bool(torch.isfinite(plain).all()):
        raise CheckpointError(f"{where} is not finite; use another copy of it", code="E-WEIGHTS")
    return plain


def _file_of(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise MissingInputError(f"{path}: there is no such file or folder; check the path")
    found = [path / name for name in WEIGHTS_OF_FOLDER if (path / name).is_file()]
    if not found:
        several = " (weights in several files are not read)" if any(path.glob("*.index.json")) else ""
        raise MissingInputError(
            f"{path}: holds neither {' nor '.join(WEIGHTS_OF_FOLDER)}{several}; name the file of weights"
        )
    return found[0]


def _json_beside(file: Path, name: str) -> dict[str, Any]:
    path = file.parent / name
    if not path.is_file():
        return {}
    try:
        content = json_files.read(path)
    except RunFolderError as error:  # what it says is for the files of a run
        content = error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a JSON object; correct it, or move it away", code="E-WEIGHTS-CORRUPT")
    return content


def _sidecar_of(file: Path) -> dict[str, Any]:
    """The JSON under the file's name with .json added, when it has the file's digest; it may be anybody's."""
    path = file.with_name(f"{file.name}.json")
    try:
        content = json_files.read(path) if path.is_file() else {}
    except RunFolderError:
        return {}
    if not isinstance(content, dict) or not isinstance(content.get("sha256"), str):
        return {}
    with file.open("rb") as opened:
        return content if hashlib.file_digest(opened, "sha256").hexdigest() == content["sha256"] else {}


def _read_torch(path: Path) -> tuple[Any, tuple[str, ...]]:
    try:
        with path.open("rb") as file:
            return checkpoint.read_tensors(file), ()
    except pickle.UnpicklingError:  # something in it is no data: the restricted reader passes over that
        return restricted_pickle.read(path)
    except OSError:
        raise
    except Exception as error:  # a hostile file can make the reader raise anything; here nothing else can
        reason = (str(error).splitlines() or [""])[0][:200]
        raise _foreign(path, f"PyTorch cannot read it: {type(error).__name__} {reason}") from error


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise CheckpointError(
            f"{path}: safetensors files need a package that is not installed: pip install 'sltdino[safetensors]'",
            code="E-EXTRA",
        ) from error
    try:
        with safe_open(path, framework="pt", device="cpu") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}, _decoded(opened.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path}: damaged ({error}); use another copy of it", code="E-WEIGHTS-CORRUPT") from error


def _decoded(header: Mapping[str, str]) -> dict[str, Any]:
    """A safetensors header holds text only; what is JSON in it is read as such."""
    decoded: dict[str, Any] = {}
    for key, text in header.items():
        try:
            decoded[key] = json.loads(text) if len(text) <= _LARGEST_HEADER_TEXT else text
        except (ValueError, RecursionError):
            decoded[key] = text
    return decoded


def _foreign(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: no weights that can be read ({reason}); name a run, or a .pth, .pt, .bin or .safetensors file",
        code="E-WEIGHTS-FOREIGN",
    )
