"""What differs between two files of weights, two runs, or one of each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sltdino.core.json_files import data
from sltdino.core.run_files import PARAMS
from sltdino.core.settings_schema import printable
from sltdino.errors import MissingInputError
from sltdino.models.import_weights import import_backbone
from sltdino.report.side_by_side import look_at, tables, written
from sltdino.report.text.page import WIDTH, short
from sltdino.report.weights import network_facts

_MASK_TOKEN = "mask_token"
_TITLE = 22
_COLUMN = (WIDTH - _TITLE - 2) // 2


class Side(NamedTuple):
    """One of the two."""

    path: str
    kind: str
    """`run`, or the layout of a file."""
    network: dict[str, Any]
    """Empty for a run without a checkpoint."""
    metadata: dict[str, Any]
    weights: dict[str, Tensor]
    """In our names."""


def compare(a: Path, b: Path) -> dict[str, Any]:
    """The differences between two sources of weights, as plain values for JSON: A's value first, null for none.

    Weights are compared in our names, whatever the files call them: of the teacher, in the last checkpoint of a run.

    Raises:
        MissingInputError, CheckpointError, RunFolderError: one of them cannot be read.
    """
    one, other = _side(a), _side(b)
    weights = compare_weights(one.weights, other.weights)
    network = _differences(one.network, other.network)
    runs = look_at([a, b]) if one.kind == other.kind == "run" else {"settings": {}, "results": {}}
    return {
        "a": {"path": one.path, "kind": one.kind},
        "b": {"path": other.path, "kind": other.kind},
        "equal": weights["equal"] and not network,
        "same_backbone": weights["same_backbone"] and not network,
        "network": network,
        "metadata": _differences(one.metadata, other.metadata),
        **runs,
        "weights": weights,
    }


def compare_weights(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, Any]:
    """Names in one only, other shapes, and for each group of tensors the largest difference over the largest value."""
    shared = [key for key in a if key in b]
    shapes = {key: [list(a[key].shape), list(b[key].shape)] for key in shared if a[key].shape != b[key].shape}
    groups: dict[str, float] = {}
    for key in shared:
        if key not in shapes:
            group = _group(key)
            groups[group] = max(groups.get(group, 0.0), _relative(a[key], b[key]))
    only_a, only_b = ([key for key in x if key not in y] for x, y in ((a, b), (b, a)))
    unequal = {*only_a, *only_b, *(key for key in shared if not torch.equal(a[key], b[key]))}
    return {
        "equal": bool(shared) and not unequal,
        "same_backbone": bool(shared) and not any(_is_backbone(key) for key in unequal),
        "max_relative_difference": groups,
        "shapes": shapes,
        "only_a": only_a,
        "only_b": only_b,
    }


def render(content: Mapping[str, Any]) -> str:
    """The page that `sltdino inspect A B` prints, in 80 columns."""
    sides = [f"{name.upper()}  {content[name]['path']}  [{content[name]['kind']}]" for name in ("a", "b")]
    lines = [*map(printable, sides), "", _verdict(content)]
    for title in ("network", "metadata"):
        lines += _table(title, content[title])
    if "runs" in content:
        lines += map(printable, tables(content))
    lines += _weights_lines(content["weights"])
    return "\n".join(line.rstrip() for line in lines)


def _verdict(content: Mapping[str, Any]) -> str:
    if content["equal"]:
        return "equal: the same weights, bit for bit"
    if content["same_backbone"]:
        return "the same backbone, bit for bit; what stands beside it differs"
    return "not equal"


def _weights_lines(weights: Mapping[str, Any]) -> list[str]:
    groups = weights["max_relative_difference"]
    lines = [(short(group, _TITLE - 3), f"{value:.2g}") for group, value in groups.items() if value]
    if same := [group for group, value in groups.items() if not value]:
        lines.append(("equal", f"{len(same)} of {len(groups)} groups"))
    lines += [(short(key, _TITLE - 3), f"{one} against {other}") for key, (one, other) in weights["shapes"].items()]
    lines += [
        (f"only in {name.upper()}", short(", ".join(weights[f"only_{name}"]), WIDTH - _TITLE))
        for name in ("a", "b")
        if weights[f"only_{name}"]
    ]
    head = ["", f"{'weights':<{_TITLE}}largest difference, as a share of the largest value"]
    return [*head, *(f"  {title:<{_TITLE - 2}}{text}" for title, text in lines)] if lines else []


def _side(path: Path) -> Side:
    is_run = path.is_dir() and (path / PARAMS).exists()
    try:
        imported = import_backbone(path)
    except MissingInputError:
        if not is_run:
            raise
        return Side(str(path), "run", {}, {}, {})  # no checkpoint yet; its settings can be compared
    heads = {f"{name}.{key}": value for name, head in imported.heads.items() for key, value in head.items()}
    weights = {**imported.network.state_dict(), **heads}
    if not weights[_MASK_TOKEN].any():
        del weights[_MASK_TOKEN]  # a file without one is read with zeros
    facts = network_facts(imported.network) | {"mean": list(imported.mean), "std": list(imported.std)}
    return Side(str(path), "run" if is_run else imported.layout, facts, _flat(data(imported.metadata)), weights)


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {key: [a.get(key), b.get(key)] for key in {**a, **b} if a.get(key) != b.get(key)}


def _flat(values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{where}{key}.") if isinstance(value, dict) else {f"{where}{key}": value}
    return flat


def _is_backbone(key: str) -> bool:
    """Whether features depend on it."""
    return not key.startswith(("head.", "patch_head.")) and key != _MASK_TOKEN


def _group(key: str) -> str:
    """`blocks.3` of `blocks.3.attn.qkv.weight`, `norm` of `norm.bias`."""
    parts = key.split(".")
    return ".".join(parts[:2]) if parts[0] == "blocks" else parts[0]


def _relative(a: Tensor, b: Tensor) -> float:
    largest = max(a.abs().max().item(), b.abs().max().item()) if a.numel() else 0.0
    return (a - b).abs().max().item() / largest if largest else 0.0


def _table(title: str, differences: Mapping[str, list[Any]]) -> list[str]:
    if not differences:
        return []
    lines = ["", f"{title:<{_TITLE}}{'A':<{_COLUMN}}  B"]
    only: dict[str, list[str]] = {"A": [], "B": []}
    for key, (one, other) in differences.items():
        if one is None or other is None:
            only["A" if other is None else "B"].append(key)
        else:
            shown = [short(written(value), _COLUMN) for value in (one, other)]
            lines.append(f"  {short(key, _TITLE - 3):<{_TITLE - 2}}{shown[0]:<{_COLUMN}}  {shown[1]}")
    for side, keys in only.items():
        if keys:
            lines.append(f"  {f'only in {side}':<{_TITLE - 2}}{short(', '.join(keys), WIDTH - _TITLE)}")
    return lines
