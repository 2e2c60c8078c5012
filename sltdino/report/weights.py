"""What a file of weights is: where it comes from, which network, who can load it, and whether it is sound."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sltdino.core import files, foreign_weights
from sltdino.core.foreign_weights import WeightsFile
from sltdino.core.json_files import data
from sltdino.core.restricted_pickle import StoredTensor
from sltdino.core.settings_base import known
from sltdino.errors import CheckpointError
from sltdino.models.import_weights import OWN, ImportedBackbone, import_backbone
from sltdino.models.vit import VisionTransformer
from sltdino.report.curves import number
from sltdino.report.text.page import rows, short, short_number
from sltdino.report.weights_loaders import loaders

SOURCES = {
    OWN: "a checkpoint of sltdino",
    "sltdino": "a backbone in the names of sltdino",
    "slt": "a backbone for SLT's own ViT",
    "dino": "a ViT in the names of facebookresearch/dino, which are timm's too",
    "ibot": "a ViT in the names of bytedance/ibot",
    "dinov2": "a ViT in the names of facebookresearch/dinov2",
    "dinov2-registers": "a ViT with registers in the names of facebookresearch/dinov2",
    "timm": "a ViT in the names of timm",
    "timm-classifier": "a ViT with a classifier in the names of timm",
    "torchvision": "a ViT in the names of torchvision",
    "hf-vit": "a ViT in the names of Hugging Face transformers (ViTModel)",
    "hf-dinov2": "a ViT in the names of Hugging Face transformers (Dinov2Model)",
    "hf-dinov2-registers": "a ViT in the names of Hugging Face transformers (Dinov2WithRegistersModel)",
}
"""In words, by layout."""
_FIRST = 10


def describe(path: Path) -> dict[str, Any]:
    """The facts of a file of weights, or a folder with a config.json and one, as plain values for JSON.

    A file that holds weights of no network that ours can be is described too: `problem` says what is wrong with it.

    Raises:
        MissingInputError: there is no such file. StorageError: it cannot be read.
        CheckpointError: it holds no weights at all, or is damaged.
    """
    file = foreign_weights.read(path)
    imported: ImportedBackbone | None = None
    problem = ""
    try:
        imported = import_backbone(path)
    except CheckpointError as error:
        problem = str(error).removeprefix(f"{file.path}: ")
    return {
        "path": str(file.path),
        "bytes": file.path.stat().st_size,
        "sha256": files.sha256(file.path),
        "container": _container(file.path),
        "what": SOURCES[imported.layout] if imported else "weights of no network that sltdino knows",
        "layout": imported.layout if imported else None,
        "problem": problem,
        "weights_only_safe": file.weights_only_safe,
        "placeholders": list(file.placeholders),
        **_tensors(file),
        "network": network_facts(imported.network) if imported else None,
        "normalisation": {"mean": list(imported.mean), "std": list(imported.std)} if imported else None,
        "heads": _heads(imported.heads) if imported else {},
        "checkpoint": _checkpoint(file.content) if imported and imported.layout == OWN else None,
        "loaders": [loader._asdict() for loader in loaders(file, imported)] if imported else [],
        "metadata": data(imported.metadata) if imported else {},
        "notes": list(imported.notes) if imported else [],
    }


def network_facts(network: VisionTransformer) -> dict[str, Any]:
    """The architecture of a network."""
    vit = network.vit
    return {
        "embed_dim": known(vit.embed_dim),
        "depth": known(vit.depth),
        "num_heads": known(vit.num_heads),
        "patch_size": known(vit.patch_size),
        "image_size": network.image_size,
        "grid": network.grid_size,
        "registers": known(vit.registers),
        "layer_scale": known(vit.layer_scale) > 0,
        "mlp_ratio": round(known(vit.mlp_ratio), 4),
        "layer_norm_eps": known(vit.layer_norm_eps),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }


def stored_tensors(content: object) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested values, by its dotted key; those still in the file are read one by one.

    Raises:
        ValueError, KeyError: a tensor is damaged.
    """
    pending: list[tuple[str, object]] = [("", content)]
    seen: set[int] = set()  # a pickle's containers can hold themselves, and one another a billion times
    while pending:
        where, value = pending.pop()
        if isinstance(value, StoredTensor | Tensor):
            yield where, value.load() if isinstance(value, StoredTensor) else value
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            items = list(value.items() if isinstance(value, Mapping) else enumerate(value))
            pending += [(f"{where}.{key}" if where else str(key), item) for key, item in reversed(items)]


def _tensors(file: WeightsFile) -> dict[str, Any]:
    count, numbers = 0, 0
    dtypes: dict[str, int] = {}
    bad_values, bad_keys = 0, []
    first: list[dict[str, Any]] = []
    try:
        for key, tensor in stored_tensors(file.content):
            count, numbers = count + 1, numbers + tensor.numel()
            dtype = str(tensor.dtype).removeprefix("torch.")
            dtypes[dtype] = dtypes.get(dtype, 0) + 1
            if len(first) < _FIRST:
                first.append({"key": key, "shape": [] if tensor.is_nested else list(tensor.shape), "dtype": dtype})
            if bad := _non_finite(tensor):
                bad_values += bad
                bad_keys.append(key)
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{file.path}: {error}; use another copy of it", code="E-WEIGHTS-CORRUPT") from error
    return {
        "tensors": count,
        "numbers": numbers,
        "dtypes": dict(sorted(dtypes.items())),
        "non_finite": {"values": bad_values, "tensors": len(bad_keys), "first_keys": bad_keys[:_FIRST]},
        "first_keys": first,
    }


def _heads(heads: Mapping[str, Mapping[str, Tensor]]) -> dict[str, list[int]]:
    """Number and width of the prototypes of each head that has some, which a forged checkpoint may lack."""
    found = {name: head.get("prototypes.weight") for name, head in heads.items()}
    return {name: list(matrix.shape) for name, matrix in found.items() if matrix is not None and matrix.dim() == 2}


def _non_finite(tensor: Tensor) -> int:
    """How many values are not finite; none is looked at where a few bytes pose as a large tensor, which is refused."""
    if not foreign_weights.is_dense(tensor) or not (tensor.is_floating_point() or tensor.is_complex()):
        return 0
    if foreign_weights.is_larger_than_its_data(tensor):
        return 0
    # torch does not compare floats of 8 bits
    return int((~torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor)).sum())


def _checkpoint(content: Mapping[str, Any]) -> dict[str, Any]:
    progress, settings = content["progress"], content["settings"]
    facts = {key: progress.get(key) for key in ("global_step", "total_steps", "epoch", "best", "best_loss", "knn")}
    facts |= {key: settings.get(key) for key in ("algorithm", "stream", "epochs")}
    return {"schema_version": content["schema_version"], **data(facts)}


def _container(path: Path) -> str:
    with files.os_errors(path, reading=True), path.open("rb") as file:
        head = file.read(9)
    if head[:2] == b"PK":
        return "torch.save"
    return "torch.save, in the format before PyTorch 1.6" if head[:1] == b"\x80" else "safetensors"


def render(facts: Mapping[str, Any]) -> str:
    """The page that `sltdino inspect FILE` prints."""
    pairs = [
        ("file", f"{facts['path']}"),
        ("size", f"{facts['bytes']:,} bytes, {facts['container']}"),
        ("sha256", facts["sha256"]),
        ("what", facts["what"] if not facts["layout"] else f"{facts['what']} [{facts['layout']}]"),
        ("checkpoint", _checkpoint_text(facts["checkpoint"])),
        ("network", _network_text(facts["network"])),
        ("tensors", _tensors_text(facts)),
        ("finite", _finite_text(facts["non_finite"])),
        ("input", _input_text(facts["normalisation"])),
        ("safe", _safe_text(facts)),
        *(("head", f"{name}: {shape[0]:,} prototypes of width {shape[1]}") for name, shape in facts["heads"].items()),
        *(("loads in", loader["name"]) for loader in facts["loaders"] if loader["takes"]),
        *(("not in", f"{loader['name']}: {loader['why']}") for loader in facts["loaders"] if not loader["takes"]),
        *(("metadata", text) for text in _metadata_texts(facts["metadata"])),
        *(("note", note) for note in facts["notes"]),
    ]  # fmt: skip
    if facts["problem"]:
        first = [f"{row['key']}  {row['dtype']} {row['shape']}" for row in facts["first_keys"]]
        pairs += [("problem", facts["problem"]), *(("holds", text) for text in first)]
    return rows((title, text) for title, text in pairs if text)


def _checkpoint_text(facts: Mapping[str, Any] | None) -> str:
    if facts is None:
        return ""
    best = facts["best"] if isinstance(facts["best"], dict) else {}
    was = f"; best so far: {best.get('metric')} {best.get('value')} in epoch {best.get('epoch')}" if best else ""
    epochs = "?" if number(facts["epochs"]) is None else short_number(facts["epochs"])
    return (
        f"{facts['algorithm']} on {facts['stream']}: step {facts['global_step']} of {facts['total_steps']}, "
        f"epoch {facts['epoch']} of {epochs}{was}"
    )


def _network_text(facts: Mapping[str, Any] | None) -> str:
    if facts is None:
        return ""
    extras = [f"{facts['registers']} registers"] if facts["registers"] else []
    extras += ["LayerScale"] if facts["layer_scale"] else []
    extras += [f"MLP ratio {facts['mlp_ratio']:g}", f"LayerNorm epsilon {facts['layer_norm_eps']:g}"]
    return (
        f"ViT of width {facts['embed_dim']}, depth {facts['depth']}, {facts['num_heads']} heads, patch "
        f"{facts['patch_size']} at {facts['image_size']} px ({facts['grid']} x {facts['grid']} positions), "
        f"{', '.join(extras)}; {facts['parameters']:,} parameters"
    )


def _tensors_text(facts: Mapping[str, Any]) -> str:
    dtypes = ", ".join(f"{count:,} {dtype}" for dtype, count in facts["dtypes"].items())
    return f"{facts['tensors']:,} of {facts['numbers']:,} numbers: {dtypes}" if facts["tensors"] else "none"


def _finite_text(facts: Mapping[str, Any]) -> str:
    if not facts["values"]:
        return "yes: every value"
    first = ", ".join(facts["first_keys"][:3])
    return f"NO: {facts['values']:,} values in {facts['tensors']:,} tensors are not, first in {first}"


def _input_text(facts: Mapping[str, Any] | None) -> str:
    return "" if facts is None else f"RGB, mean {_numbers(facts['mean'])}, std {_numbers(facts['std'])}"


def _numbers(values: list[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _safe_text(facts: Mapping[str, Any]) -> str:
    if facts["weights_only_safe"]:
        return "yes: tensors and plain values only"
    return f"NO: holds objects, which sltdino passes over: {', '.join(facts['placeholders'])}"


def _metadata_texts(metadata: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {short(json.dumps(value, ensure_ascii=False), 200)}" for key, value in metadata.items()]
