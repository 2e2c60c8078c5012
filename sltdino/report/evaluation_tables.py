"""The results of `sltdino evaluate` as tables, the confusion matrix among them."""

from collections.abc import Mapping, Sequence
from typing import Any

from sltdino.report.html import Html, details, element, facts, join, paragraph, scrollable, subsection, table
from sltdino.report.settings_table import code

_MOST_CLASSES = 60
"""Of a matrix; with more, the pairs that are confused most often are told instead."""
_MOST_PAIRS = 15


def evaluation_tables(evaluations: Sequence[Mapping[str, Any]]) -> list[Html]:
    """A part for every evaluation, the newest first and open."""
    parts = [(f"Evaluation of {_when(evaluation)}", _evaluation(evaluation)) for evaluation in reversed(evaluations)]
    return [
        subsection(title, content) if not at else details(title, content, printed=True)
        for at, (title, content) in enumerate(parts)
    ]


def results_table(results: Sequence[Mapping[str, Any]], *, caption: str) -> Html:
    """Every method on every kind of features: accuracies with their 95 % intervals."""
    header = ["method", "features", "accuracy", "interval", "balanced", "interval"]
    rows = [
        [
            _method(result),
            result.get("features"),
            _percent(result.get("accuracy")),
            _interval(result.get("accuracy_interval")),
            _percent(result.get("balanced_accuracy")),
            _interval(result.get("balanced_accuracy_interval")),
        ]
        for result in results
    ]
    return table(header, rows, caption=caption)


def confusion_matrix(labels: Sequence[str], matrix: Sequence[Sequence[int]], *, method: str) -> Html:
    """Counts by true label (rows) and predicted one (columns); the darker, the larger the share of its row."""
    caption = f"Confusion matrix, {method}: rows are true, columns predicted, colours shares of the row"
    head = element("tr", element("td"), *(element("th", element("span", label), scope="col") for label in labels))
    rows = [
        element(
            "tr",
            element("th", label, scope="row"),
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
    labels, confusion = evaluation.get("labels", []), evaluation.get("confusion") or {}
    parts = [
        paragraph(evaluation.get("protocol", "")),
        results_table(evaluation.get("results", []), caption="Accuracy, and 95% intervals"),
    ]
    if matrix := confusion.get("matrix"):
        method = str(confusion.get("method", ""))
        if len(labels) <= _MOST_CLASSES:
            parts.append(confusion_matrix(labels, matrix, method=method))
        if rows := most_confused(labels, matrix):
            caption = f"Most often confused, {method}"
            parts.append(table(["true", "predicted", "images", "of the true ones"], rows, caption=caption))
    if classes := evaluation.get("per_class"):
        parts.append(details("By class", _per_class(classes), printed=True))
    return join([*parts, facts(_of_what(evaluation))])


def _per_class(classes: Sequence[Mapping[str, Any]]) -> Html:
    names = ("precision", "recall", "f1")
    rows = [[row.get("label"), row.get("count"), *(_percent(row.get(name)) for name in names)] for row in classes]
    return table(["class", "images", "precision", "recall", "F1"], rows, caption="By class")


def _of_what(evaluation: Mapping[str, Any]) -> list[tuple[str, object]]:
    groups = evaluation.get("groups")
    told = groups and f"{groups.get('train')} in training, {groups.get('val')} held out, by {groups.get('regex')}"
    return [
        ("backbone", code(evaluation.get("backbone", ""))),
        ("step", evaluation.get("step")),
        ("compared with", join(map(code, evaluation.get("train_dirs", [])), ", ")),
        ("images", sum(evaluation.get("train_counts", []))),
        ("tested on", join(map(code, evaluation.get("val_dirs", [])), ", ")),
        ("test images", sum(evaluation.get("val_counts", []))),
        ("groups", told),
    ]


def _when(evaluation: Mapping[str, Any]) -> str:
    return str(evaluation.get("timestamp", "an unknown time")).replace("T", " ")[:16]


def _method(result: Mapping[str, Any]) -> str:
    match result.get("method"):
        case "knn":
            return f"{result.get('k')}-NN"
        case "few-shot":
            return f"{result.get('shots')} images a class"
        case other:
            return "linear probe" if other == "linear" else str(other)


def _percent(share: object) -> str | None:
    return f"{share:.1%}" if isinstance(share, int | float) else None


def _interval(bounds: object) -> str | None:
    if not isinstance(bounds, list) or len(bounds) != 2 or None in bounds:
        return None
    return f"{bounds[0]:.1%} to {bounds[1]:.1%}"


def _cell(count: int, total: int, *, right: bool) -> Html:
    share = round(10 * count / total) if total else 0
    return element("td", f"{count:,}" if count else "·", class_=f"heat-{share}{' right' if right else ''}")
