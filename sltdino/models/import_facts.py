"""What a file of weights says about itself: heads, epsilon and the normalisation that its weights expect."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sltdino.core.foreign_weights import WeightsFile
from sltdino.errors import CheckpointError
from sltdino.models.import_layouts import Layout
from sltdino.models.normalisation import Triple

OUR_HEADER = "sltdino"
"""Under which a safetensors or ONNX file of our own names holds the metadata, as JSON. In safetensors it stays the only
key: several would be written in an order that changes."""
_OF_THE_BACKBONE = (
    "stream", "algorithm", "best_loss", "epochs", "global_step", "backbone", "trained_with", "checkpoint", "network",
)  # fmt: skip
"""What an export's sidecar says about the weights, and not about the export."""
_PLAIN = (str, int, float, bool, list, dict, type(None))


class Facts(NamedTuple):
    """What is said; None for what is not."""

    num_heads: int | None
    layer_norm_eps: float | None
    mean: Triple | None
    std: Triple | None
    metadata: dict[str, Any]
    """All of what the file says, as it says it."""


def find_facts(file: WeightsFile, layout: Layout, *, width: int, depth: int, notes: list[str]) -> Facts:
    """Facts of config.json and preprocessor_config.json beside the weights, else of the file's own metadata.

    Raises:
        CheckpointError: config.json describes another network than ours, or the normalisation is none.
    """
    metadata = _metadata(file)
    config = _config(file, {"hidden_size": width, "num_hidden_layers": depth}, notes)
    backbone = _mapping(metadata.get("vit")) or _mapping(metadata.get("backbone")) or metadata
    trained_with = _mapping(metadata.get("vit")) or _mapping(metadata.get("trained_with"))
    picture = file.preprocessor if layout.name.startswith("hf-") else {}
    picture = {"mean": picture.get("image_mean"), "std": picture.get("image_std")} if picture else {}
    # SLT's consumers always feed ImageNet's normalisation: what the run was trained with was folded into the weights
    said = _mapping(metadata.get("input")) if layout.name == "sltdino" else _mapping(file.sidecar.get("input"))
    mean, std = _normalisation(file, (picture, _mapping(config.get("pretrained_cfg")), said))
    return Facts(
        _count(config.get("num_attention_heads")) or _count(backbone.get("num_heads")),
        _positive(config.get("layer_norm_eps")) or _positive(trained_with.get("layer_norm_eps")),
        mean,
        std,
        {**metadata, **({"config": config} if config else {})},
    )


def _config(file: WeightsFile, sizes: Mapping[str, int], notes: list[str]) -> dict[str, Any]:
    """config.json where it may be about these weights: it stands in their folder, as may other files."""
    config = file.config
    if not config:
        return {}
    known = config.keys() & {"num_attention_heads", "pretrained_cfg"}
    if not known or any(config.get(key, size) != size for key, size in sizes.items()):
        notes.append("config.json: passed over, because it is not about these weights")
        return {}
    if config.get("hidden_act", "gelu") != "gelu":
        raise CheckpointError(
            f"{file.path}: config.json says hidden_act {config['hidden_act']!r}, and our blocks compute gelu; "
            "take another model",
            code="E-WEIGHTS",
        )
    return config


def _metadata(file: WeightsFile) -> dict[str, Any]:
    """Of a safetensors header, what stands beside the weights of a PyTorch file, or our sidecar, if it is plain."""
    said: dict[str, Any] = {}
    exported = {key: file.sidecar[key] for key in _OF_THE_BACKBONE if key in file.sidecar}
    ours, beside = _mapping(file.header.get(OUR_HEADER)), _mapping(file.content.get("metadata"))
    for source in (file.header, ours, beside, exported):
        said |= {str(key): value for key, value in source.items() if isinstance(value, _PLAIN)}
    return said


def _normalisation(file: WeightsFile, rows: Sequence[Mapping[str, Any]]) -> tuple[Triple, Triple] | tuple[None, None]:
    """The mean and std of the first row that has any; an unusable one is no reason to take another's instead."""
    said = next((row for row in rows if row.get("mean") is not None or row.get("std") is not None), None)
    if said is None:
        return None, None
    mean, std = _triple(said.get("mean")), _triple(said.get("std"))
    if mean is None or std is None or min(std) <= 0:
        raise CheckpointError(
            f"{file.path}: what it, or the JSON beside it, says of its input is no mean and std of three channels "
            f"(mean {str(said.get('mean'))[:60]}, std {str(said.get('std'))[:60]}); correct it",
            code="E-WEIGHTS",
        )
    return mean, std


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None


def _positive(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1 else None


def _triple(value: object) -> Triple | None:
    if not isinstance(value, list | tuple) or len(value) != 3:
        return None
    first, second, third = value
    if not all(isinstance(item, int | float) and abs(item) < 1000 for item in value):
        return None
    return float(first), float(second), float(third)
