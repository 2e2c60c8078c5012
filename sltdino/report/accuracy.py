"""How good the features of a run are: what was measured along the way, and by `sltdino evaluate`."""

from collections.abc import Mapping, Sequence
from typing import Any

from sltdino.report.curves import number

FEATURES = ("trained", "untrained", "raw pixels")
"""What an evaluation compares, in the order of the tables."""
LABEL_FREE = ("rankme", "feature_std", "alignment", "uniformity", "clip_retrieval")
"""What `eval` records say of features without labels."""


def accuracies(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """k-NN along the way, of the evaluations that were made as the last one; each None where it was not measured."""
    rows = [(row, knn) for row in _alike(evaluations, "protocol") if (knn := number(row.get("knn"))) is not None]
    first, last = (rows[0][0], rows[-1][0]) if rows else ({}, {})
    return {
        "untrained": number(first.get("knn")) if first.get("epoch") == 0 else None,
        "raw_pixels": number(last.get("knn_pixels")),
        "last": number(last.get("knn")),
        "best": max((knn for row, knn in rows if row.get("epoch")), default=None),
        "protocol": str(last.get("protocol", "")),
        "steps": [row["step"] for row, _ in rows],
        "curve": [knn for _, knn in rows],
    }


def label_free(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Start, last value and curve of each label-free measure that was taken."""
    rows = _alike(evaluations, "sample")
    found = {name: [x for row in rows if (x := number(row.get(name))) is not None] for name in LABEL_FREE}
    return {name: {"start": x[0], "last": x[-1], "curve": x} for name, x in found.items() if x}


def stored(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a page needs of a stored evaluation, from its file."""
    counts = [count for value in record["val_counts"] if (count := number(value)) is not None]
    return {
        **{key: record[key] for key in ("timestamp", "checkpoint", "step", "protocol")},
        "labels": len(record["labels"]),
        "val_images": round(sum(counts)),
        "methods": _methods(record["results"]),
    }


def method_title(result: Mapping[str, Any]) -> str:
    """How a result of an evaluation was measured: `20-NN`, `linear probe`, `5 shots a class`."""
    match result.get("method"):
        case "knn":
            return f"{result.get('k')}-NN"
        case "few-shot":
            shots = result.get("shots")
            return f"{shots} shot{'' if shots == 1 else 's'} a class"
        case "linear":
            return "linear probe"
        case other:
            return str(other)


def _methods(results: Sequence[Any]) -> list[dict[str, Any]]:
    """A row for each method: the accuracy of each kind of features, and the interval of the trained ones."""
    rows: dict[str, dict[str, Any]] = {}
    for result in results:
        accuracy = number(result.get("accuracy")) if isinstance(result, Mapping) else None
        if accuracy is None:
            continue
        row = rows.setdefault(method_title(result), {"method": method_title(result), "interval": None})
        row[str(result.get("features"))] = accuracy
        if result.get("features") == "trained":
            row["interval"] = result.get("accuracy_interval")
    return list(rows.values())


def _alike(evaluations: Sequence[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    """Those judged as the last one: a resumed run may have gone on with other images, which compare with none."""

    def judged(row: Mapping[str, Any]) -> tuple[Any, Any]:
        return row.get(key), row.get("judged_on")

    measured = [row for row in evaluations if row.get(key) is not None] or list(evaluations)
    return [row for row in measured if judged(row) == judged(measured[-1])]
