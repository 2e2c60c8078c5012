"""The page that `sltdino inspect RUN` prints: the facts of a run in 80 columns, the verdict first."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sltdino.core.settings_schema import printable
from sltdino.report.curves import Curve, number
from sltdino.report.history import interventions_told
from sltdino.report.text.page import TITLE_WIDTH, WIDTH, duration, percent, row, short_number
from sltdino.report.text.plots import Glyphs, bar, chart, sparkline

_CURVE, _LINE = WIDTH - TITLE_WIDTH, 40
_HEIGHT = 4
_FEW = 3  # accuracies that need no chart
_EPISODES = 6
_OF_EVERY_RESUME = frozenset({"step", "timestamp", "context", "checkpoint", "records_cut", "non_finite"})
"""What else its record holds are settings that changed."""
_GRADES = {"good": "GOOD", "so-so": "SO-SO", "bad": "BAD", "too early": "TOO EARLY TO SAY"}


def render(facts: Mapping[str, Any], glyphs: Glyphs) -> str:
    """The page, from `sltdino.report.summary.summarize`. Nothing in it can drive a terminal."""
    what = facts["what"]
    name = f" ({what['name']})" if what["name"] else ""
    lines = row("run", f"{facts['run']}{name}")
    lines += _verdict(facts["verdict"])
    lines += row("what", what["text"])
    lines += row("state", ": ".join(filter(None, (facts["state"], facts["message"]))))
    lines += _progress(facts["progress"], facts["speed"], glyphs)
    lines += _speed(facts["speed"], glyphs)
    lines += _loss(facts["loss"], what["num_prototypes"], glyphs)
    lines += _accuracy(facts["knn"], glyphs)
    lines += _label_free(facts["label_free"], glyphs)
    lines += _evaluated(facts["evaluations"])
    lines += _health(facts["health"])
    for place, text in enumerate(interventions_told(facts["interventions"])):
        lines += row("" if place else "adapted", text)
    lines += row("best", _best(facts))
    lines += _resumes(facts["resumes"])
    if facts["bad_images"]:
        lines += row("skipped", f"{facts['bad_images']} images that cannot be read, listed in bad_images.jsonl")
    if number_torn := facts["unreadable_records"]:
        torn = "1 line of the metrics is" if number_torn == 1 else f"{number_torn:,} lines of the metrics are"
        lines += row("unreadable", f"{torn} torn or damaged, and left out")
    for text in facts["notices"]:
        lines += row("notice", text)
    for file in facts["files"]:
        gone = "" if file["exists"] else "  (not there)"
        lines += row("file", f"{file['name']}  {file['megabytes']:.1f} MB  {file['path']}{gone}")
    return "\n".join(map(printable, lines))


def _verdict(verdict: Mapping[str, Any]) -> list[str]:
    lines = row("verdict", f"{_GRADES[verdict['grade']]}: {verdict['why']}")
    if verdict["what_next"]:
        lines += row("next", verdict["what_next"] + (":" if verdict["command"] else ""))
    if verdict["command"]:
        lines += row("" if verdict["what_next"] else "next", verdict["command"], wrap=False)
    return lines


def _progress(progress: Mapping[str, Any], speed: Mapping[str, Any], glyphs: Glyphs) -> list[str]:
    step, total = progress["step"], progress["total_steps"]
    text = f"step {step:,}" + (f" of {total:,}" if total else "")
    text += f", epoch {progress['epoch']:.0f} of {short_number(progress['epochs'])}"
    if total:
        text = f"{bar(step / total, 20, glyphs)} {percent(step / total)}  {text}"
    if speed["eta_seconds"] is not None:
        text += f"; {duration(speed['eta_seconds'])} left"
    saved = f"saved at step {progress['saved_step']:,}" if progress["saved_step"] else "nothing saved yet"
    seen = "" if progress["images_seen"] is None else f"; {progress['images_seen']:,} images seen"
    took = f" in {duration(progress['seconds'])}" if progress["seconds"] else ""
    return row("how far", text) + row("", f"{saved}{seen}{took}")


def _speed(speed: Mapping[str, Any], glyphs: Glyphs) -> list[str]:
    if speed["images_per_second"] is None:
        return row("how fast", "no step logged yet")
    wait = speed["data_wait"]
    waiting = "" if wait is None else f", {wait:.0%} of it waiting for data"
    lines = row("how fast", f"{speed['images_per_second']:.0f} images/s{waiting}")
    if len(curve := speed["curve"]) > 1:
        span = f"from {min(curve):.0f} to {max(curve):.0f}, median {speed['median_images_per_second']:.0f}"
        lines += row("", f"{sparkline(curve, _LINE, glyphs)}  {span}")
    return lines


def _loss(loss: Mapping[str, Any], num_prototypes: int | None, glyphs: Glyphs) -> list[str]:
    log_k = loss["log_k"]
    compared = "" if log_k is None else f" (ln {num_prototypes} = {log_k:.2f}, as guessing has it, is dotted)"
    if loss["epochs"]:
        text = f"{_nats(loss['epochs'][0], 3)} -> {_nats(loss['epochs'][-1], 3)}{compared}"
    else:
        text = "no epoch finished yet"
    if loss["gap"] is not None and log_k:
        knows = f"{loss['gap']:.2f} below" if loss["gap"] >= 0 else f"{-loss['gap']:.2f} above"
        text += f"; the CLS loss is {knows} guessing"
    lines = row("loss", text)
    parts = (np.array(loss["curve"][name], dtype=float) for name in Curve._fields)
    rules = () if log_k is None else (log_k,)
    return lines + _indented(
        chart(Curve(*parts), width=_CURVE, height=_HEIGHT, shown=_nats, glyphs=glyphs, rules=rules)
    )


def _nats(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:.1e}"


def _accuracy(knn: Mapping[str, Any], glyphs: Glyphs) -> list[str]:
    if knn["last"] is None:
        return row("how good", "not measured: give labelled images with --val-dir")
    start = "" if knn["untrained"] is None else f"{knn['start']} {knn['untrained']:.1%}, "
    worse = "" if knn["untrained"] is None or knn["last"] >= knn["untrained"] else "; worse than it started"
    dotted = ", dotted" if len(knn["curve"]) >= _FEW else ""
    pixels = "" if knn["raw_pixels"] is None else f"raw pixels {knn['raw_pixels']:.1%}{dotted}, "
    best = "" if knn["best"] is None else f"best {knn['best']:.1%}"
    compared = f"{start}{pixels}{best}".removesuffix(", ")
    lines = row("how good", f"k-NN {knn['last']:.1%}" + (f" ({compared})" if compared else "") + worse)
    if len(knn["curve"]) >= _FEW:
        values, steps = np.array(knn["curve"]), np.array(knn["steps"], dtype=float)
        rules = () if knn["raw_pixels"] is None else (knn["raw_pixels"],)
        curve = Curve(steps, values, values, values)
        lines += _indented(
            chart(curve, width=_CURVE, height=_HEIGHT, shown=lambda x: f"{x:.0%}", glyphs=glyphs, rules=rules)
        )
    return lines + row("", knn["protocol"])


def _evaluated(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """The newest stored evaluation, a line for each method."""
    if not evaluations:
        return []
    newest, others = evaluations[-1], len(evaluations) - 1
    step = "" if newest["step"] is None else f" at step {newest['step']:,}"
    text = f"{newest['checkpoint'] or 'weights'}{step}: {newest['val_images']:,} images of {newest['labels']} labels"
    lines = row("evaluated", text + (f"; {others} older in evaluations/" if others else ""))
    for method in newest["methods"]:
        shown = f"{method['method']:<13}"
        if "trained" in method:
            shown += f" {method['trained']:.1%}{_interval(method['interval'])}"
        parts = [f"{name} {method[name]:.1%}" for name in ("untrained", "raw pixels") if name in method]
        lines.append(f"{'':{TITLE_WIDTH}}{shown}" + (f"; {', '.join(parts)}" if parts else ""))
    return lines


def _interval(ends: Any) -> str:
    known = [end for end in map(number, ends) if end is not None] if isinstance(ends, list | tuple) else []
    return f" ({known[0]:.1%} to {known[1]:.1%})" if len(known) == 2 else ""


def _label_free(measures: Mapping[str, Any], glyphs: Glyphs) -> list[str]:
    lines: list[str] = []
    for name, values in measures.items():
        title = "" if lines else "label-free"
        shown = sparkline(values["curve"], 20, glyphs) if len(values["curve"]) >= _FEW else ""
        went = f" -> {values['last']:.4g}  {shown}" if len(values["curve"]) > 1 else ""
        lines += row(title, f"{name.replace('_', ' '):<15} {values['start']:.4g}{went}")
    return lines


def _health(health: Mapping[str, Any]) -> list[str]:
    findings = health["findings"]
    lines = [] if findings else row("health", health["verdict"])
    for finding in findings:
        said = (
            finding["text"]
            if f"since step {finding['since_step']}" in finding["text"]
            else (f"since step {finding['since_step']:,}: {finding['text']}")
        )
        lines += row("" if lines else "health", f"{finding['name']}: {said}")
        if finding["remedy"]:
            lines += row("", f"-> {finding['remedy']}")
    past = health["past"][-_EPISODES:]
    for place, episode in enumerate(past):
        told = f"{episode['name']} at step {episode['since_step']:,}, gone by {episode['until_step']:,}"
        before = health["num_past"] - len(past)
        lines += row("" if place else "past", told + (f" ({before:,} more before)" if before and not place else ""))
    return lines


def _best(facts: Mapping[str, Any]) -> str:
    best = facts["best"]
    if best is None:
        return f"none: {facts['why_no_best']}"
    name, value = ("k-NN", best.get("value")) if best.get("metric") == "knn" else ("loss", best.get("loss"))
    known = number(value)
    shown = "" if known is None else f", k-NN {known:.1%}" if name == "k-NN" else f", loss {known:.3f}"
    return f"epoch {best.get('epoch')} (step {best['step']:,}){shown}"


def _resumes(resumes: Sequence[Mapping[str, Any]]) -> list[str]:
    if not resumes:
        return []
    more = f"; {len(resumes) - _EPISODES:,} times before" if len(resumes) > _EPISODES else ""
    told = []
    for resume in resumes[-_EPISODES:]:
        changes = ", ".join(f"{key} {value}" for key, value in resume.items() if key not in _OF_EVERY_RESUME)
        told.append(f"step {resume['step']:,}" + (f" with {changes}" if changes else ""))
    return row("resumed", f"at {'; '.join(told)}{more}")


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"{'':{TITLE_WIDTH}}{line}" for line in lines]
