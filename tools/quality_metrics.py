"""What a run's own metrics and its evaluation say, as the fields of a study's record."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sltdino.core.run_files import read_metrics
from sltdino.training.health import COLLAPSES

Record = Mapping[str, Any]


class Moment(NamedTuple):
    """An evaluation while training."""

    step: int
    images: int
    """Seen by then; an image that comes again counts again."""
    minutes: float
    """Of training by then, on the clock: with waiting for images, without evaluating and saving."""
    knn: float | None
    """None for a final run, which sees no labelled image."""
    rankme: float | None


class History(NamedTuple):
    """A run from its first step to its last one, whatever ended it."""

    steps: int
    images: int
    seconds: float
    """As the minutes of a `Moment`."""
    health: str | None
    """The watch's last verdict; None where nothing was logged."""
    collapse_found: bool
    """Whether the watch found a collapse at any time."""
    moments: Sequence[Moment]


def history_of(run: Path, *, images_per_step: int) -> History:
    """The history of a run that was never resumed; without steps where there is no such folder.

    Each record of a step has the speed of all steps since the one before it, so the records give the time.
    """
    step, seconds, verdicts, moments = 0, 0.0, list[str](), list[Moment]()
    for record in read_metrics(run):
        if record["context"] == "train_step":
            seconds += (record["step"] - step) * images_per_step / record["images_per_second"]
            step = record["step"]
            verdicts.append(record["health"])
        elif record["context"] == "eval":
            images = record["step"] * images_per_step
            moments.append(Moment(record["step"], images, seconds / 60, record.get("knn"), record.get("rankme")))
    collapsed = any(verdict in COLLAPSES for verdict in verdicts)
    return History(step, step * images_per_step, seconds, verdicts[-1] if verdicts else None, collapsed, moments)


def scores_of(results: Iterable[Record], judged: str) -> dict[str, float]:
    """Accuracy of k-NN and of the linear probe, plain and balanced, of what is judged and of both baselines."""
    methods, found = {"knn": "knn", "linear": "probe"}, {}
    for suffix, features in {"": judged, "_untrained": "untrained", "_pixels": "raw pixels"}.items():
        for row in results:
            if row["features"] == features and row["method"] in methods:
                found[f"{methods[row['method']]}{suffix}"] = row["accuracy"]
                found[f"{methods[row['method']]}_balanced{suffix}"] = row["balanced_accuracy"]
    return found


def run_facts(history: History) -> dict[str, Any]:
    """Of a trained recipe: its length, health and learning curve. RankMe is of the last evaluation.

    The best k-NN of the curve was chosen on the images that it is measured on, so it flatters; its name says so.
    """
    known = [moment.knn for moment in history.moments if moment.knn is not None]
    return {
        "steps": history.steps, "images_seen": history.images, "train_seconds": history.seconds,
        "health": history.health, "collapse_found": history.collapse_found, "rankme": history.moments[-1].rankme,
        "best_knn_chosen_on_held_out": max(known, default=None),
        "curve": [moment._asdict() for moment in history.moments],
    }  # fmt: skip


def baseline_facts(history: History, judged: str) -> dict[str, Any]:
    """Of what is not trained: pixels have no RankMe, and the untrained network that of the run's start."""
    rankme = history.moments[0].rankme if judged == "untrained" else None
    return {
        "steps": 0, "images_seen": 0, "train_seconds": 0.0, "health": None, "collapse_found": False,
        "ended_by_collapse": False, "rankme": rankme, "curve": [],
    }  # fmt: skip
