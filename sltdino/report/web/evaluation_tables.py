"""The results of `sltdino evaluate` as tables, the confusion matrix among them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sltdino.report.web.html import Html, details, element, facts, join, paragraph, scrollable, subsection, table
from sltdino.report.web.settings_table import code

FEATURES = ("trained", "untrained", "raw pixels")
_MOST_CLASSES = 60
"""Of a matrix; with more, the pairs that are confused most often are told instead."""
_MOST_PAIRS = 15


def evaluation_tables(evaluations: Sequence[Mapping[str, Any]]) -> list[Html]:
    """A part for every evaluation, the newest first and open."""
    return [
        details(f"{_title(evaluation)}: {_headline(evaluation)}", _evaluation(evaluation), printed=True)
        if at
        else subsection(_title(evaluation), _evaluation(evaluation))
        for at, evaluation in enumerate(reversed(evaluations))
    ]


def results_table(evaluation: Mapping[str, Any], field: str, *, caption: str) -> Html:
    """A row for each method: its accuracy on every kind of features, and what the trained ones gain over the others."""
    cells = {(_method(row), row.get("features")): _with_interval(row, field) for row in evaluation["results"]}
    gains = {(_method(row), row.get("over")): _with_interval(row, field, "+") for row in evaluation.get("gains", [])}
    told = [name for name in FEATURES[1:] if field == "accuracy" and any(over == name for _, over in gains)]
    rows = [
        [method, *(cells.get((method, name)) for name in FEATURES), *(gains.get((method, name)) for name in told)]
        for method in dict.fromkeys(method for method, _ in cells)
    ]
    return table(["method", *FEATURES, *(f"trained less {name}" for name in told)], rows, caption=caption)


def confusion_matrix(labels: Sequence[str], matrix: Sequence[Sequence[int]], *, method: str) -> Html:
    """Counts by true label (rows) and predicted one (columns); the darker, the larger the share of its row."""
    caption = f"Confusion by {method}: rows are true, columns predicted, colours shares of the row"
    head = element("tr", element("td"), *(element("th", element("span", label), scope="col") for label in labels))
    rows = [
        element(
            "tr",
            element("th", element("span", label), scope="row"),
            *(_cell(count, sum(row), right=at == column) for column, count in enumerate(row)),
        )
        for at, (label, row) in enumerate(zip(labels, matrix, strict=True))
    ]
    content = element(
        "table",
        element("caption", caption),
        element("thead", head),
        element("tbody", *rows),
        class_="confusion",
    )
    return scrollable(content, label=caption)


def most_confused(labels: Sequence[str], matrix: Sequence[Sequence[int]]) -> list[list[object]]:
    """Rows of true label, predicted label, count and share of the true ones; the most frequent first."""
    pairs = [
        (count, at, column)
        for at, row in enumerate(matrix)
        for column, count in enumerate(row)
        if at != column and count
    ]
    worst = sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))[:_MOST_PAIRS]
    return [[labels[at], labels[column], count, f"{count / sum(matrix[at]):.0%}"] for count, at, column in worst]


def _evaluation(evaluation: Mapping[str, Any]) -> Html:
    labels, confusion = evaluation["labels"], evaluation["confusion"]
    matrix, method = confusion.get("matrix", []), str(confusion.get("method", ""))
    parts = [
        results_table(evaluation, "accuracy", caption="Accuracy, with 95% intervals"),
        paragraph(evaluation["protocol"], kind="note"),
    ]
    if matrix and len(labels) <= _MOST_CLASSES:
        parts.append(confusion_matrix(labels, matrix, method=method))
    if rows := most_confused(labels, matrix):
        caption = f"Most often confused by {method}"
        pairs = table(["true", "predicted", "images", "of the true ones"], rows, caption=caption)
        parts.append(details("Most often confused", pairs, printed=True))
    balanced = results_table(evaluation, "balanced_accuracy", caption="Balanced accuracy: the mean over the classes")
    parts.append(details("Balanced accuracy", balanced, printed=True))
    if evaluation["per_class"]:
        parts.append(details("By class", _per_class(evaluation["per_class"]), printed=True))
    notes = [element("li", note) for note in evaluation.get("notes", [])]
    parts += [element("ul", *notes)] if notes else []
    return join([*parts, details("What was compared with what", facts(_of_what(evaluation)), printed=True)])


def _per_class(classes: Sequence[Mapping[str, Any]]) -> Html:
    names = ("precision", "recall", "f1")
    rows = [[row.get("label"), row.get("count"), *(_percent(row.get(name)) for name in names)] for row in classes]
    return table(["class", "images", "precision", "recall", "F1"], rows, caption="By class")


def _of_what(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    groups = evaluation["groups"]
    yield "backbone", code(evaluation["backbone"])
    yield "checkpoint", code(evaluation["checkpoint"]) if evaluation["checkpoint"] else None
    yield "step", evaluation["step"]
    yield "untrained", evaluation.get("untrained")
    if not evaluation["train_dirs"]:
        yield "labelled", "the images that it is tested on, which are judged by each other"
    for side, name in (("train", "labelled"), ("val", "tested on"))[not evaluation["train_dirs"] :]:
        of = f" of {groups[side]:,} groups" if groups else ""
        counts = f"{sum(evaluation[f'{side}_counts']):,} images{of}: "
        yield name, join([counts, join(map(code, evaluation[f"{side}_dirs"]), ", ")])
    yield "groups by", code(groups["regex"]) if groups else None
    bad = evaluation.get("bad_images")
    yield "could not be read", len(bad) if bad else None


def _title(evaluation: Mapping[str, Any]) -> str:
    """`Evaluation of checkpoint_last.pt, step 1,900 (2026-11-24 10:03)`."""
    step = "" if evaluation["step"] is None else f", step {evaluation['step']:,}"
    when = evaluation["timestamp"].replace("T", " ")[:16]
    return f"Evaluation of {Path(evaluation['checkpoint'] or evaluation['backbone']).name}{step} ({when})"


def _headline(evaluation: Mapping[str, Any]) -> str:
    """`20-NN 46.2%, linear probe 61.7%`, of the trained features."""
    trained = [row for row in evaluation["results"] if row.get("features") == "trained" and not row.get("shots")]
    told = [f"{_method(row)} {_percent(row['accuracy'])}" for row in trained if _percent(row.get("accuracy"))]
    return ", ".join(told) or "nothing measured"


def _method(result: Mapping[str, Any]) -> str:
    match result.get("method"):
        case "knn":
            return f"{result.get('k')}-NN"
        case "few-shot":
            return f"{result.get('shots')} image{'s' if result.get('shots') != 1 else ''} a class"
        case other:
            return "linear probe" if other == "linear" else str(other)


def _percent(share: object) -> str | None:
    return f"{share:.1%}" if isinstance(share, int | float) else None


def _with_interval(row: Mapping[str, Any], field: str, sign: str = "") -> str | None:
    """`46.2 [41.5, 51.0]`, in percent; None where it was not measured."""
    if row.get(field) is None:
        return None
    value, low, high = (round(100 * number, 1) + 0.0 for number in (row[field], *row[f"{field}_interval"]))  # no -0.0
    return f"{value:{sign}.1f}% [{low:{sign}.1f}, {high:{sign}.1f}]"


def _cell(count: int, total: int, *, right: bool) -> Html:
    share = round(10 * count / total) if total else 0
    return element("td", f"{count:,}" if count else "·", class_=f"heat-{share}{' right' if right else ''}")
