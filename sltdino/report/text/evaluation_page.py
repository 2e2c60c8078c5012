"""The page that `sltdino evaluate` prints: figures with their intervals, what is taken for what, what is left out."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sltdino.core.settings_schema import printable
from sltdino.report.accuracy import FEATURES, method_title
from sltdino.report.text.page import WIDTH, counted, rows, short

_MOST_LABELS = 20
"""Rows of the tables by class; a larger confusion matrix is left to the file."""
_METHOD, _CELL, _GAIN, _LABEL = 20, 20, 22, 16  # columns


def render(record: Mapping[str, Any], kept: Sequence[Path] = ()) -> str:
    """The page, 80 columns wide apart from names, of an evaluation as its file has it."""
    parts = [
        rows(_head(record)),
        "\n".join(_accuracies("accuracy in %", "accuracy", record["results"])),
        "\n".join(_accuracies("balanced accuracy", "balanced_accuracy", record["results"])),
        "\n".join(_gains(record["gains"])),
        "\n".join(_confusion(record)),
        "\n".join(_per_class(record)),
        rows(_foot(record, kept)),
    ]
    return "\n\n".join(part for part in parts if part)


def _head(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    checkpoint = "" if record["checkpoint"] is None else f", {record['checkpoint']}"
    step = "" if record["step"] is None else f" at step {record['step']:,}"
    yield "backbone", f"{record['backbone']}{checkpoint}{step}"
    groups, one_sided = record["groups"], not record["train_dirs"]
    if one_sided:
        yield (
            "train",
            f"the validation images{'' if groups is None else ' of other groups'}: they are judged by each other",
        )
    for side in ("val",) if one_sided else ("train", "val"):
        counts, folders = record[f"{side}_counts"], ", ".join(map(str, record[f"{side}_dirs"]))
        of_groups = "" if groups is None else f" of {counted(groups[side], 'group')}"
        labels = counted(sum(count > 0 for count in counts), "label")
        yield side, f"{counted(sum(counts), 'image')} of {labels}{of_groups}: {folders}"
    if groups is not None:
        dropped = "no training image is of a group that val has"
        if one_sided:
            dropped = "no image is judged by its own group"
        if groups["dropped"]:
            dropped = f"{counted(groups['dropped'], 'training image')} left out, whose groups val has"
        yield "groups", f"by {groups['regex']}; {dropped}"
    yield "untrained", record["untrained"]
    yield "protocol", record["protocol"]


def _accuracies(title: str, field: str, results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield title.ljust(_METHOD) + "".join(name.rjust(_CELL) for name in FEATURES)
    cells = {
        (method_title(row), row["features"]): _with_interval(row[field], row[f"{field}_interval"]) for row in results
    }
    for method in dict.fromkeys(method for method, _ in cells):
        yield f"  {method}".ljust(_METHOD) + "".join(cells.get((method, name), "").rjust(_CELL) for name in FEATURES)


def _gains(gains: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """How much better the trained features are; an interval without 0 is a difference that other images would show."""
    yield "trained less the others".ljust(WIDTH - 2 * _GAIN) + "".join(name.rjust(_GAIN) for name in FEATURES[1:])
    cells = {
        (method_title(row), row["over"]): _with_interval(row["accuracy"], row["accuracy_interval"], sign="+")
        for row in gains
    }
    for method in dict.fromkeys(method for method, _ in cells):
        differences = "".join(cells[method, name].rjust(_GAIN) for name in FEATURES[1:])
        yield f"  {method}".ljust(WIDTH - 2 * _GAIN) + differences


def _confusion(record: Mapping[str, Any]) -> Iterator[str]:
    labels, matrix = record["labels"], record["confusion"]["matrix"]
    method = f"{record['confusion']['method']} of the trained features"
    if len(labels) > _MOST_LABELS:
        where = "; --json has all of it" if matrix else ", and for a file"
        yield f"confusion: {len(labels):,} labels are too many for a page{where}"
        return
    width = max(len(str(count)) for row in matrix for count in row) + 1
    width = max(width, min(max(len(printable(label)) for label in labels) + 1, (WIDTH - _LABEL - 2) // len(labels)))
    yield f"confusion by {method} (rows: true, columns: predicted)"
    yield " " * (_LABEL + 2) + "".join(short(label, width - 1).rjust(width) for label in labels)
    for label, row in zip(labels, matrix, strict=True):
        yield f"  {short(label, _LABEL):<{_LABEL}}" + "".join((str(n) if n else "·").rjust(width) for n in row)


def _per_class(record: Mapping[str, Any]) -> Iterator[str]:
    by_class = record["per_class"]
    shown = by_class
    title = "by class, in %"
    if len(by_class) > _MOST_LABELS:
        shown = sorted(by_class, key=lambda row: row["f1"])[:_MOST_LABELS]
        title = f"worst {_MOST_LABELS}, in %"
    counts = dict(zip(record["labels"], record["train_counts"], strict=True))
    yield title.ljust(_LABEL + 2) + "".join(name.rjust(11) for name in ("train", "val", "precision", "recall", "F1"))
    for row in shown:
        figures = "".join(f"{100 * row[key]:11.1f}" for key in ("precision", "recall", "f1"))
        yield f"  {short(row['label'], _LABEL):<{_LABEL}}{counts[row['label']]:11,}{row['count']:11,}{figures}"


def _foot(record: Mapping[str, Any], kept: Sequence[Path]) -> Iterator[tuple[str, str]]:
    for note in record["notes"]:
        yield "note", note
    if record["bad_images"]:
        yield "unreadable", f"{counted(len(record['bad_images']), 'image')}, left out"
    for path in kept:
        yield "kept in", str(path)


def _with_interval(value: float, ends: Sequence[float], sign: str = "") -> str:
    shown, low, high = (round(100 * number, 1) + 0.0 for number in (value, *ends))  # + 0.0: never -0.0
    return f"{shown:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"
