"""What a file that holds no weights is, by its content: for messages about it."""

from pathlib import Path
from typing import Any

from sltdino.core import json_files
from sltdino.errors import SltDinoError

_PICTURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_AFTER_ONNX_VERSION = b"\x12\x1a\x22\x28\x32\x3a\x42"
"""Tags of the fields that may follow `ir_version` in the protobuf message ModelProto of onnx.proto."""


def kind_of(path: Path) -> str:
    """What a file is that is no archive, pickle or safetensors file: `it is an ONNX model, which …`.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if not head.strip(b"\0"):
        return "it is empty or zeroed"
    if head[257:262] == b"ustar":
        return "it is a tar archive, of PyTorch before 0.2 or of other files"
    if head[:2] == b"\x1f\x8b":
        return "it is compressed with gzip; unpack it first"
    if head[:4] == b"GGUF":
        return "it is a GGUF file"
    if head[:1] == b"\x08" and 0 < head[1] < 64 and head[2:3] in _AFTER_ONNX_VERSION:
        return "it is an ONNX model, which onnxruntime reads and sltdino does not"
    for start, name in _PICTURES.items():
        if head.startswith(start):
            return f"it is a {name} picture"
    if head[:1] == b"\x80":
        return "it is a pickle, of PyTorch before 1.6 or of other programs"
    if head[8:9] == b"{":
        return "it is a safetensors file"
    if head.lstrip()[:1] in (b"{", b"["):
        return _kind_of_json(path)
    return "it is neither a file of torch.save nor of safetensors"


def _kind_of_json(path: Path) -> str:
    try:
        content: Any = json_files.read(path)
    except SltDinoError:
        return "it is text"
    if not isinstance(content, dict):
        return "it is JSON"
    if isinstance(content.get("file"), str) and isinstance(content.get("verification"), dict):
        return f"it is JSON that tells about an export; the weights are in {content['file'][:200]}"
    return "it is JSON that tells about a run" if "algorithm" in content else "it is JSON"
