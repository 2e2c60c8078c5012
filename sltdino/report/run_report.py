"""The page of a run: is it healthy, is it good, what did it learn; then what it was made of and what it made."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sltdino.core.json_files import now
from sltdino.core.run_files import read_params
from sltdino.report.charts import evaluation_charts, side_by_side, training_charts
from sltdino.report.file_table import files_section
from sltdino.report.history import History, read_history
from sltdino.report.html import Html, Section, document, facts, join, paragraph, section
from sltdino.report.settings_table import code, settings_section, software_section
from sltdino.report.summary import summarize

_MOST_NAMED = 5


def run_page(run: Path) -> str:
    """The whole page about a run folder, in whatever state the run is. Reads every image of a sample and every file.

    Raises:
        MissingInputError: `run` holds no run. RunFolderError: one of its files is damaged.
        StorageError: one of them cannot be read.
    """
    summary, params, history = summarize(run), read_params(run), read_history(run)
    sections = [
        _glance(summary),
        _goodness(history),
        _curves(history, params),
        settings_section(params),
        files_section(run),
        software_section(params),
    ]
    return document(title_of(run, params), *(part for part in sections if part is not None), intro=_verdict(summary))


def title_of(run: Path, params: Mapping[str, Any]) -> str:
    """The name of the experiment, or of the folder."""
    experiment = params.get("experiment")
    name = experiment.get("name") if isinstance(experiment, Mapping) else None
    return str(name or run.absolute().name or run)


def _verdict(summary: Mapping[str, Any]) -> Html:
    health = summary["health"]
    state = ": ".join(filter(None, (summary["state"], summary["message"])))
    kind = "bad" if health["collapsed"] else "good" if health["verdict"] == "healthy" else "warn"
    text = ": ".join(filter(None, (health["verdict"], health["remedy"])))
    return join([paragraph(summary["what"]["text"]), paragraph(f"{text}", kind=kind), paragraph(state)])


def _glance(summary: Mapping[str, Any]) -> Section:
    progress, speed, knn = summary["progress"], summary["speed"], summary["knn"]
    rows: list[tuple[str, object]] = [
        ("run folder", code(summary["run"])),
        ("step", progress["step"]),
        ("epoch", f"{progress['epoch']} of {progress['epochs']}"),
        ("speed", speed["images_per_second"] and f"{speed['images_per_second']:.0f} images/s"),
        ("k-NN", knn["last"] and f"{knn['last']:.1%}"),
        ("read on", now()[:19].replace("T", " ") + " UTC"),
    ]
    notices = [paragraph(text, kind="warn") for text in summary["notices"]]
    return section("glance", "At a glance", facts(rows), *notices)


def _goodness(history: History) -> Section:
    figures = evaluation_charts(history)
    none = paragraph("Not measured: give labelled images with --val-dir, or run sltdino evaluate.")
    return section("good", "How good", side_by_side(figures) if figures else none)


def _curves(history: History, params: Mapping[str, Any]) -> Section:
    charts = training_charts(history, params)
    if not charts:
        return section("curves", "Curves", paragraph("No step was logged yet."))
    return section("curves", "Curves", paragraph(*_legend(history), kind="note"), *charts)


def _legend(history: History) -> Sequence[str]:
    said = [
        "Thin lines and bands are what was logged, thick ones are fitted to 13% of the points around each. "
        "Point at a chart for its values. "
    ]
    if history.epochs:
        said.append("Strokes along the top: ends of epochs. ")
    if history.resumes:
        steps = ", ".join(f"{resume.step:,}" for resume in history.resumes[:_MOST_NAMED])
        said.append(f"Dashed: resumed at step {steps}{' and later' if len(history.resumes) > _MOST_NAMED else ''}. ")
    if history.spans:
        told = "; ".join(f"{span.name}, steps {span.first:,} to {span.last:,}" for span in history.spans[:_MOST_NAMED])
        said.append(f"Shaded: {told}{' and later' if len(history.spans) > _MOST_NAMED else ''}.")
    return said
