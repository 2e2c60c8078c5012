"""Several runs on one page: what came out, what was set differently, and their curves over each other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sltdino.report.history import History, history_of
from sltdino.report.side_by_side import RESULTS, look_at, run_letters
from sltdino.report.summary import RunReader
from sltdino.report.web.chart_kinds import EVALUATION, KNN, TRAINING, Chart
from sltdino.report.web.charts import draw, lines_of, side_by_side
from sltdino.report.web.html import Html, Section, document, element, paragraph, section, subsection, table
from sltdino.report.web.run_page import GRADES, title_of
from sltdino.report.web.settings_table import code, value_text


class Shown(NamedTuple):
    """A run in the comparison."""

    letter: str
    title: str
    facts: Mapping[str, Any]
    history: History


def comparison_page(runs: Sequence[Path]) -> str:
    """The whole page about two runs or more.

    Raises:
        MissingInputError, RunFolderError, StorageError: as `side_by_side.look_at`.
    """
    content = look_at(runs)
    shown = [_shown(letter, run) for letter, run in zip(run_letters(len(runs)), runs, strict=True)]
    intro = paragraph(f"{len(shown)} runs side by side, each with a letter.{_best(shown, content)}")
    return document(
        f"{len(shown)} runs",
        _runs(shown),
        _results(shown, content),
        _settings(shown, content),
        _curves(shown),
        intro=intro,
    )


def _best(shown: Sequence[Shown], content: Mapping[str, Any]) -> str:
    """Which of them has the best features, as far as that can be said."""
    measured = next(row for row in RESULTS if row.title == "k-NN, best")
    values = [value for value in content["results"].get(measured.title, []) if value is not None]
    if len(content["protocols"]) > 1:
        return " Their k-NN accuracies do not compare: they were measured differently."
    if len(values) < 2:
        return " Which of them is best is not known: fewer than two measured k-NN."
    best = [shown[at] for at in content["best"].get(measured.title, [])]
    names = " and ".join(f"{run.letter} ({run.title})" for run in best)
    return f" Best k-NN: {names}, {measured.shown(max(values))}." if best else " All have the same k-NN accuracy."


def _shown(letter: str, run: Path) -> Shown:
    reader = RunReader(run)
    facts = reader.facts()
    return Shown(letter, title_of(run, facts), facts, history_of(reader.digest))


def _runs(shown: Sequence[Shown]) -> Section:
    parts = []
    for run in shown:
        verdict = run.facts["verdict"]
        word, kind = GRADES[verdict["grade"]]
        said = paragraph(element("strong", f"{word}: "), verdict["why"], kind=kind)
        what = paragraph(run.facts["what"]["text"], "; ", code(run.facts["run"]))
        parts.append(subsection(f"{run.letter}: {run.title}", said, what))
    return section("runs", "Runs", *parts)


def _results(shown: Sequence[Shown], content: Mapping[str, Any]) -> Section:
    rows: list[list[object]] = []
    for row in RESULTS:
        if row.title in content["results"]:
            best = content["best"].get(row.title, [])
            texts = [None if value is None else row.shown(value) for value in content["results"][row.title]]
            cells = [element("strong", f"{text} ★") if at in best else text for at, text in enumerate(texts)]
            rows.append([row.title, *cells])
    parts = [table(["result", *(run.letter for run in shown)], rows, caption="What came out, a column for each run")]
    parts += [paragraph("★ the best of its row.", kind="note")] if content["best"] else []
    if len(content["protocols"]) > 1:
        told = "; ".join(content["protocols"])
        parts.append(paragraph(f"k-NN was not measured alike, so it does not compare: {told}.", kind="warn"))
    return section("results", "Results", *parts)


def _settings(shown: Sequence[Shown], content: Mapping[str, Any]) -> Section:
    rows = [[code(key), *map(value_text, values)] for key, values in content["settings"].items()]
    same = paragraph("All settings are the same.")
    header = ["setting", *(run.letter for run in shown)]
    return section(
        "settings", "Settings that differ", table(header, rows, caption="A column for each run") if rows else same
    )


def _curves(shown: Sequence[Shown]) -> Section:
    kinds = {"How good": ((KNN, *EVALUATION), "evaluations"), **{name: (of, "steps") for name, of in TRAINING.items()}}
    parts = [
        subsection(heading, side_by_side(figures))
        for at, (heading, (charts, source)) in enumerate(kinds.items())
        if (figures := _figures(charts, shown, source, anchor=f"compared-{at}"))
    ]
    note = paragraph(
        "A line for each run, its letter at its end; thick lines are smoothed. Point at or tap a chart for its values.",
        kind="note",
    )
    return section("curves", "Curves", note, *parts) if parts else section("curves", "Curves", paragraph("None yet."))


def _figures(charts: Sequence[Chart], shown: Sequence[Shown], source: str, *, anchor: str) -> list[Html]:
    """A chart for every field: lines of one run and of several fields would be too many to tell apart."""
    figures: list[Html] = []
    for chart in charts:
        for field, name in chart.fields.items():
            title = chart.title if len(chart.fields) == 1 else f"{chart.title}: {name}"
            of_field = chart._replace(title=title, fields={field: name})
            lines = [
                line._replace(name=run.title, short=run.letter)
                for run in shown
                for line in lines_of(of_field, getattr(run.history, source))
            ]
            if lines:
                figures.append(draw(of_field, lines, anchor=f"{anchor}-{len(figures)}"))
    return figures
