"""One sentence on a run for those who do not read curves: good, so-so or bad, why, and what to do next."""

import shlex
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from sltdino.training.health import STARTING

Grade = Literal["good", "so-so", "bad", "too early"]

_EARLY_SHARE = 0.05
"""Of the steps: before that a run says little about itself."""
_HARDLY_LEARNT = 0.05
"""Of ln K: a loss as near to that of guessing has taught the backbone little."""
_SAME = 0.02
"""Accuracies this near to each other are the same: a few hundred validation images do not tell them apart."""


class Judged(NamedTuple):
    """What to think of a run."""

    grade: Grade
    why: str
    what_next: str
    """In words; empty when there is nothing to do but wait."""
    command: str
    """The command for it, or empty."""


class Measured(NamedTuple):
    """The accuracies that a verdict compares; None where it was not measured."""

    name: str
    trained: float
    untrained: float | None
    raw_pixels: float | None
    best: float | None


def judge_run(facts: Mapping[str, Any]) -> Judged:
    """The verdict on a run, from what `sltdino.report.summary` says about it."""
    run, state = shlex.quote(facts["run"]), facts["state"]
    graded = _graded(facts)
    if state == "interrupted":
        return graded._replace(
            what_next=facts["message"].partition("; ")[2].partition(": ")[0],
            command=f"sltdino resume {run}" if facts["resumable"] else "",
        )
    if state == "stopped" and graded.grade != "bad" and facts["resumable"]:
        return graded._replace(what_next="it was stopped and saved; go on with it", command=f"sltdino resume {run}")
    if state in ("stopped", "failed") and graded.grade != "bad":
        # its message says what happened and how to go on
        return graded._replace(what_next="see the state below for how to go on", command="")
    return graded


def _graded(facts: Mapping[str, Any]) -> Judged:
    findings, progress = facts["health"]["findings"], facts["progress"]
    if collapsed := next((finding for finding in findings if finding["collapsed"]), None):
        why = f"{collapsed['name']} since step {collapsed['since_step']:,}; what it learns from there is worth nothing"
        return Judged("bad", why, _sentence(collapsed["remedy"]), "")
    if facts["state"] == "failed" and facts["exit_code"] == 3:
        return Judged("bad", "it diverged: a loss, gradient or weight stopped being finite", "see the state below", "")
    measured = _measured(facts)
    is_early = not _is_over(facts) and progress["step"] < _EARLY_SHARE * (progress["total_steps"] or 0)
    if measured is None and (is_early or not progress["step"]):
        return Judged("too early", "too few steps to judge it by", "", "")
    judged = _by_accuracy(facts, measured) if measured is not None else _by_loss(facts)
    return _troubled(judged, findings)


def _is_over(facts: Mapping[str, Any]) -> bool:
    """Whether it is trained to the end; one that stopped on the way is judged as one that goes on."""
    step, total = facts["progress"]["step"], facts["progress"]["total_steps"]
    is_done = facts["state"] == "done" or (total is not None and step >= total)
    return is_done or (facts["state"] == "unknown" and not facts["loss"]["log_k"])  # the old scripts left no state


def _measured(facts: Mapping[str, Any]) -> Measured | None:
    """k-NN along the way; without it the first method of the newest stored evaluation; None without either."""
    knn = facts["knn"]
    if knn["last"] is not None and (knn["untrained"] is None or len(knn["curve"]) > 1):
        return Measured("k-NN", knn["last"], knn["untrained"], knn["raw_pixels"], knn["best"])
    methods = facts["evaluations"][-1]["methods"] if facts["evaluations"] else []
    if not methods or "trained" not in methods[0]:
        return None
    first = methods[0]
    return Measured(first["method"], first["trained"], first.get("untrained"), first.get("raw pixels"), None)


def _by_accuracy(facts: Mapping[str, Any], measured: Measured) -> Judged:
    run, is_going_on = shlex.quote(facts["run"]), not _is_over(facts)
    name, trained, start, pixels = measured.name, measured.trained, measured.untrained, measured.raw_pixels
    start_name = "initial weights" if facts["knn"]["start"] == "initial weights" else "untrained network"
    best = max(trained, measured.best or 0.0)
    said = f"{name} {best:.1%}"
    if start is not None and best < start + _SAME:
        what = "is no better than" if best > start - _SAME else "is worse than"
        why = f"{said} {what} the {start_name} with {start:.1%}"
        if is_going_on and facts["progress"]["step"] < (facts["progress"]["total_steps"] or 0) / 4:
            return Judged("too early", f"{why}, in the first quarter of the run", "", "")
        what_next = "check the crops, train longer, or change one thing (learning rate, teacher temperature)"
        has_lost = best <= start - _SAME or start_name == "untrained network"  # weights that were good still are
        return Judged("bad" if has_lost else "so-so", why, what_next, "")
    gained = f"{said}, from {start:.1%} of the {start_name}" if start is not None else said
    fell = f", but {trained:.1%} at the end: take the best checkpoint" if trained < best - 2 * _SAME else ""
    which = " --which best" if fell else ""
    export = "" if is_going_on else f"sltdino export {run}{which} --format slt -o backbone.pt"
    if pixels is not None and best < pixels:
        why = f"{gained}, but still below the {pixels:.1%} of raw pixels{fell.replace(', but', '; and')}"
        more = "give it more crops or more epochs; to try its backbone as it is"
        return Judged("so-so", why, "let it go on" if is_going_on else more, export)
    above = f" and above raw pixels ({pixels:.1%})" if pixels is not None else ""
    what_next = "let it go on" if is_going_on else "take the backbone"
    return Judged("so-so" if fell else "good", f"{gained}{above}{fell}", what_next, export)


def _by_loss(facts: Mapping[str, Any]) -> Judged:
    gap, log_k, run = facts["loss"]["gap"], facts["loss"]["log_k"], shlex.quote(facts["run"])
    is_going_on = not _is_over(facts)
    unknown = "how good its features are was not measured"
    if gap is None or log_k is None:
        return Judged("so-so", unknown, "give labelled crops with --val-dir", "")
    share = gap / log_k
    is_starting = any(finding["name"] == STARTING for finding in facts["health"]["findings"])
    if share < _HARDLY_LEARNT and is_going_on and is_starting:
        return Judged("too early", "the loss is still where every run begins", "", "")
    if share < _HARDLY_LEARNT:
        place = f"{share:.1%} below" if share > 0 else "not below"
        why = f"the CLS loss is {place} that of guessing (ln K = {log_k:.2f}): it has hardly learnt anything"
        what_next = "let it go on" if is_going_on else "train longer, or with a higher learning rate"
        return Judged("so-so" if is_going_on else "bad", why, what_next, "")
    why = f"it learns (the CLS loss is {share:.0%} below that of guessing), but {unknown}"
    what_next = "measure them on crops with labels"
    return Judged("so-so", why, what_next, f"sltdino evaluate {run} --train-dir LABELLED --val-dir LABELLED")


def _troubled(judged: Judged, findings: list[Mapping[str, Any]]) -> Judged:
    """A verdict that takes in what is wrong and no collapse."""
    trouble = next((finding for finding in findings if finding["remedy"]), None)
    if trouble is None:
        return judged
    why = f"{judged.why}; {trouble['name']} since step {trouble['since_step']:,}"
    grade: Grade = "so-so" if judged.grade == "good" and trouble["name"] != "starved loader" else judged.grade
    return Judged(grade, why, _sentence(trouble["remedy"]), judged.command)


def _sentence(text: str) -> str:
    return text.rstrip(".")
