"""What the results of a study say: a table in Markdown, and of safety how often training did harm."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from quality_study import DONE, FAILED, NO_BUDGET

Record = Mapping[str, Any]
_NOTHING = "–"


class Mean(NamedTuple):
    """Of some values: how many, their mean, and their standard deviation."""

    number: int
    mean: float
    deviation: float
    """Of a sample: the squares' sum is divided by one less than the number. NaN for a single value."""

    @property
    def standard_error(self) -> float:
        """Of the mean."""
        return self.deviation / math.sqrt(self.number)


class Row(NamedTuple):
    """The results of a recipe, and those of the one that it is compared with."""

    recipe: str
    done: Sequence[Record]
    failed: Sequence[Record]
    reference: Sequence[Record]

    @property
    def is_baseline(self) -> bool:
        """Whether nothing was trained."""
        return all(record["budget"] == NO_BUDGET for record in self.done)


class Section(NamedTuple):
    """Results that can be compared."""

    data: str
    budget: str
    is_final: bool
    rows: Sequence[Row]

    @property
    def title(self) -> str:
        """What they are of."""
        judged = "trained on the whole of train, judged on val" if self.is_final else "folds inside train"
        return f"{self.data}, {self.budget}, {judged}"


def mean_of(values: Sequence[float]) -> Mean:
    """The mean and standard deviation of at least one value."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Mean(len(values), float(np.mean(values)), deviation)


def paired(records: Iterable[Record], reference: Iterable[Record]) -> Mean | None:
    """By how much k-NN is better than a reference's of the same seed and fold; None where no two have both alike."""
    others = {(record["seed"], record["fold"]): record["knn"] for record in reference}
    differences = [
        record["knn"] - others[place] for record in records if (place := (record["seed"], record["fold"])) in others
    ]
    return mean_of(differences) if differences else None


def sections(records: Iterable[Record], *, reference: str) -> list[Section]:
    """The results by data, budget and what they were judged on; a baseline, which has no budget, is with each."""
    kept = list(records)
    places = dict.fromkeys((record["data"], record["budget"], record["val_read"]) for record in kept)
    with_budget = {(data, final) for data, budget, final in places if budget != NO_BUDGET}
    found = []
    for data, budget, final in places:
        if budget == NO_BUDGET and (data, final) in with_budget:
            continue
        by_recipe: dict[str, list[Record]] = {}
        for record in kept:
            if (record["data"], record["val_read"]) == (data, final) and record["budget"] in (budget, NO_BUDGET):
                by_recipe.setdefault(record["recipe"], []).append(record)
        others = _of(by_recipe.get(reference, ()), DONE)
        rows = [Row(name, _of(of, DONE), _of(of, FAILED), others) for name, of in by_recipe.items()]
        found.append(Section(data, budget, final, rows))
    return found


def table(found: Iterable[Section], *, reference: str) -> str:
    """Markdown, in percent: mean ± standard deviation over seeds and folds, and the paired difference ± its standard
    error with the number of pairs."""
    parts = []
    for section in found:
        header = ["recipe", *(title.format(reference=reference) for title in _COLUMNS)]
        rows = [[row.recipe, *(cell(row) for cell in _COLUMNS.values())] for row in section.rows]
        lines = [header, ["---", *["---:"] * len(_COLUMNS)], *rows]
        made_by = dict.fromkeys(_maker(record) for row in section.rows for record in row.done)
        parts += [f"**{section.title}**", "", *(f"| {' | '.join(line)} |" for line in lines), "", *made_by, ""]
    return "\n".join(parts).rstrip()


def safety(found: Iterable[Section]) -> str:
    """How often training did harm, a line for each recipe, data set and budget."""
    return "\n".join(
        f"{section.data}, {section.budget}, {row.recipe}: {len(row.done) + len(row.failed)} runs, "
        f"{_count(row, 'collapse_found')} collapsed ({_count(row, 'ended_by_collapse')} of them ended by it), "
        f"{_num_below_start(row)} below their start, {len(row.failed)} failed"
        for section in found
        for row in section.rows
        if not row.is_baseline or row.failed
    )


def _of(records: Iterable[Record], status: str) -> list[Record]:
    return [record for record in records if record["status"] == status]


def _percent(field: str) -> Callable[[Row], str]:
    return lambda row: _mean([100 * record[field] for record in row.done])


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return _NOTHING
    found = mean_of(known)
    return f"{found.mean:.1f}" + (f" ± {found.deviation:.1f}" if found.number > 1 else "")


def _gain(row: Row) -> str:
    found = None if row.done == row.reference else paired(row.done, row.reference)
    if found is None:
        return _NOTHING
    error = f" ± {100 * found.standard_error:.1f}" if found.number > 1 else ""
    return f"{100 * found.mean:+.1f}{error} ({found.number})"


def _count(row: Row, field: str) -> int:
    return sum(bool(record[field]) for record in row.done)


def _num_below_start(row: Row) -> int:
    return sum(record["knn"] < record["knn_untrained"] for record in row.done)


def _trained(cell: Callable[[Row], object]) -> Callable[[Row], str]:
    return lambda row: _NOTHING if row.is_baseline else str(cell(row))


def _maker(record: Record) -> str:
    made_by, threads = record["environment"], record["threads"]
    return (
        f"- sltdino {made_by['sltdino']} {_short(made_by['git_revision'])}, torch {made_by['torch']}, {threads} "
        f"thread{'s' if threads > 1 else ''} and {record['workers']} workers a run, {record['jobs']} at once, on "
        f"{made_by['cpu_count']} x {record['processor']}"
    )


def _short(revision: str) -> str:
    commit, _, dirty = revision.partition("-")
    return f"{commit[:10]}-{dirty}" if dirty else commit[:10]


_COLUMNS: dict[str, Callable[[Row], str]] = {
    "runs": lambda row: str(len(row.done)),
    "20-NN": _percent("knn"),
    "20-NN less {reference}": _gain,
    "20-NN balanced": _percent("knn_balanced"),
    "linear probe": _percent("probe"),
    "probe balanced": _percent("probe_balanced"),
    "RankMe": lambda row: _mean([record["rankme"] for record in row.done]),
    "20-NN at the start": _percent("knn_untrained"),
    "collapsed": _trained(lambda row: _count(row, "collapse_found")),
    "below start": _trained(_num_below_start),
    "failed": lambda row: str(len(row.failed)),
    "images seen": _trained(lambda row: f"{np.mean([record['images_seen'] for record in row.done]):,.0f}"),
    "minutes": _trained(lambda row: _mean([record["train_seconds"] / 60 for record in row.done])),
}
