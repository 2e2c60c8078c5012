"""The report on a run as a page: is it healthy, is it good, what did it learn; then what made it, and what it made."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from sltdino.core.evaluation_files import read_evaluations
from sltdino.core.json_files import now
from sltdino.core.run_files import read_params
from sltdino.report.history import History, history_of, interventions_told
from sltdino.report.pictures.sections import run_pictures
from sltdino.report.run_images import run_images
from sltdino.report.summary import RunReader
from sltdino.report.text.page import duration, percent, short_number
from sltdino.report.web.charts import evaluation_charts, side_by_side, training_charts
from sltdino.report.web.data_sheet import data_section
from sltdino.report.web.evaluation_tables import evaluation_tables
from sltdino.report.web.file_table import files_section
from sltdino.report.web.glossary import glossary_section
from sltdino.report.web.html import Html, Section, document, element, facts, join, paragraph, section
from sltdino.report.web.settings_table import breakable, code, settings_section, software_section

GRADES = {
    "good": ("Good", "good"),
    "so-so": ("So-so", "warn"),
    "bad": ("Bad", "bad"),
    "too early": ("Too early to say", "note"),
}
"""A verdict's word, and the kind of paragraph it stands in."""
_MOST_NAMED = 5


def run_page(run: Path) -> str:
    """The whole page about a run folder, in whatever state the run is.

    Needs no lock. Reads the run's files whole, a sample of its images, and runs its network for the pictures.

    Raises:
        MissingInputError: `run` holds no run. RunFolderError: one of its files is damaged.
        StorageError: one of them cannot be read.
    """
    reader = RunReader(run)
    seen, params = reader.facts(), read_params(run)
    history, images = history_of(reader.digest), cache(lambda: run_images(run, params))
    sections = [
        _glance(seen),
        _goodness(history, read_evaluations(run), seen),
        _curves(history, params),
        *run_pictures(run, images=images),
        data_section(run, params, images),
        settings_section(params),
        files_section(run),
        software_section(params),
        glossary_section(),
    ]
    return document(title_of(run, seen), *(part for part in sections if part is not None), intro=_verdict(seen))


def title_of(run: Path, seen: Mapping[str, Any]) -> str:
    """The name of the experiment, or of the folder."""
    return str(seen["what"]["name"] or run.absolute().name or run)


def _verdict(seen: Mapping[str, Any]) -> Html:
    verdict, findings = seen["verdict"], seen["health"]["findings"]
    word, kind = GRADES[verdict["grade"]]
    parts = [paragraph(seen["what"]["text"]), paragraph(element("strong", f"{word}: "), verdict["why"], kind=kind)]
    if verdict["what_next"] or verdict["command"]:
        command = code(verdict["command"]) if verdict["command"] else ""
        parts.append(
            paragraph("Next: ", verdict["what_next"], ": " if command and verdict["what_next"] else "", command)
        )
    for finding in findings:
        remedy = "" if finding["remedy"] == verdict["what_next"] else finding["remedy"]  # which stands above
        text = f"{finding['text']}{': ' if remedy else ''}{remedy}"
        title = element("strong", f"{finding['name'].capitalize()} since step {finding['since_step']:,}: ")
        parts.append(paragraph(title, text, kind="bad" if finding["collapsed"] else "warn"))
    return join(parts)


def _glance(seen: Mapping[str, Any]) -> Section:
    notices = [paragraph(text, kind="warn") for text in seen["notices"]]
    if seen["bad_images"]:
        text = f"{seen['bad_images']:,} images cannot be read; they are listed under Data sheet."
        notices.append(paragraph(text, kind="warn"))
    if seen["unreadable_records"]:
        text = f"{seen['unreadable_records']:,} lines of the metrics are torn or no records; they are left out."
        notices.append(paragraph(text, kind="warn"))
    notices += [paragraph(f"Adapted: {text}.", kind="warn") for text in interventions_told(seen["interventions"])]
    return section("glance", "At a glance", facts(_facts(seen)), *notices)


def _facts(seen: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    progress, speed, loss, knn = seen["progress"], seen["speed"], seen["loss"], seen["knn"]
    total, finished = progress["total_steps"], min(progress["finished_epochs"], progress["epochs"])
    yield "state", breakable(": ".join(filter(None, (seen["state"], seen["message"]))))
    yield "health", seen["health"]["verdict"]
    yield "steps", f"{progress['step']:,}" + (f" of {total:,} ({percent(progress['step'] / total)})" if total else "")
    yield "epochs", f"{short_number(finished)} of {short_number(progress['epochs'])} finished"
    yield "images seen", progress["images_seen"]
    yield "time", duration(progress["seconds"]) if progress["seconds"] else None
    yield "time left", duration(speed["eta_seconds"]) if speed["eta_seconds"] is not None else None
    median = speed["median_images_per_second"]
    yield "speed, median", None if median is None else f"{median:.0f} images/s"
    if loss["epochs"]:
        is_cls = seen["what"]["algorithm"] == "dino" and loss["log_k"] is not None  # others add a term for patches
        compared = f" (guessing: {loss['log_k']:.3f})" if is_cls else ""
        yield "loss by epoch", f"{loss['epochs'][0]:.3f} to {loss['epochs'][-1]:.3f}{compared}"
    if knn["last"] is not None:
        start = "" if knn["untrained"] is None else f", {knn['start']} {knn['untrained']:.1%}"
        pixels = "" if knn["raw_pixels"] is None else f", raw pixels {knn['raw_pixels']:.1%}"
        yield "k-NN accuracy", f"{knn['last']:.1%} at last{start}{pixels}"
    if seen["best"] is not None:
        best = seen["best"]
        value = f"k-NN {best['value']:.1%}" if best.get("metric") == "knn" else f"loss {best['loss']:.3f}"
        yield "best epoch", f"{best['epoch']}, {value}"
    else:
        yield "best epoch", f"none: {seen['why_no_best']}"
    yield "run folder", code(seen["run"])
    yield "this page is of", f"{now()[:16].replace('T', ' ')} UTC"


def _goodness(history: History, evaluations: Sequence[Mapping[str, Any]], seen: Mapping[str, Any]) -> Section:
    figures = evaluation_charts(history)
    parts: list[Html] = []
    if figures:
        protocol = seen["knn"]["protocol"]
        parts += [paragraph(f"k-NN: {protocol}.", kind="note")] if protocol else []
        parts.append(side_by_side(figures))
    parts += evaluation_tables(evaluations)
    if not parts:
        command = code(f"sltdino evaluate {seen['run']} --train-dir LABELLED --val-dir LABELLED")
        parts.append(paragraph("Not measured: train with labelled images under --val-dir, or run ", command, "."))
    return section("good", "How good", *parts)


def _curves(history: History, params: Mapping[str, Any]) -> Section:
    charts = training_charts(history, params)
    if not charts:
        return section("curves", "Curves", paragraph("No step was logged yet."))
    return section("curves", "Curves", paragraph(" ".join(_legend(history)), kind="note"), *charts)


def _legend(history: History) -> Iterator[str]:
    yield (
        "Thin lines are what was logged, and bands its lowest and highest where a point stands for several records; "
        "thick lines are smoothed (local linear fits to 13% of the points)."
    )
    yield "Point at a chart, or tap it, for its values; every chart has its numbers in a table below."
    if history.epochs:
        yield "Strokes along the top: ends of epochs."
    if history.resumes:
        steps = ", ".join(f"{step:,}" for step in history.resumes[:_MOST_NAMED])
        yield f"Dashed: resumed at step {steps}{' and later' if len(history.resumes) > _MOST_NAMED else ''}."
    if history.interventions:
        yield f"Dotted: adapted against a collapse at step {', '.join(f'{step:,}' for step in history.interventions)}."
    if history.spans:
        told = "; ".join(f"{span.name}, steps {span.first:,} to {span.last:,}" for span in history.spans[:_MOST_NAMED])
        yield f"Shaded: {told}{'; and later ones' if len(history.spans) > _MOST_NAMED else ''}."
