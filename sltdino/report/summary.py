"""The facts of a run folder: what it is, how far, how fast, how good, whether healthy, and its files."""

import math
import os
import shlex
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sltdino.core.lock import is_held
from sltdino.core.run_files import (
    LOCK,
    PARAMS,
    has_checkpoint,
    read_artifacts,
    read_evaluations,
    read_names,
    read_params,
    read_status,
)
from sltdino.data.scanner import EXTENSIONS
from sltdino.errors import MissingInputError, RunFolderError
from sltdino.report import accuracy
from sltdino.report.curves import number
from sltdino.report.digest import Digest
from sltdino.report.verdict import judge_run
from sltdino.training.health import HEALTHY, Finding

_LOOKED_THROUGH = 1000  # files of a folder that is no run
_OBSERVED = (
    "loss_gap", "target_entropy", "assignment_entropy", "assignment_kl", "feature_spread", "cosine_to_mean",
    "prototypes_used",
)  # fmt: skip
_EPISODES = 12  # past findings that are told


def summarize(run: Path) -> dict[str, Any]:
    """The facts of a run folder, as plain values for JSON. Reading needs no lock: the run may be going on.

    Raises:
        MissingInputError: `run` holds no run. RunFolderError: one of its files is damaged.
        StorageError: one of them cannot be read.
    """
    return RunReader(run).facts()


class RunReader:
    """Reads a run again and again, and of its metrics each time only what was added.

    `was_reread` says of the last look that all was read anew: a resume had cut the metrics back, or changed the run.

    Raises:
        MissingInputError: `run` holds no run. RunFolderError: its params.json is damaged.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self._begin()

    def _begin(self) -> None:
        self._written = _stamp(self.run)
        self._params = _params(self.run)
        self.digest = Digest(self.run / read_names(self.run).history_file, self._params)

    def facts(self) -> dict[str, Any]:
        """What `summarize` says of this moment. Raises what it raises."""
        if began_again := _stamp(self.run) != self._written:  # resumed with other settings, or overwritten
            self._begin()
        run, params, digest = self.run, self._params, self.digest
        status = read_status(run)
        self.was_reread = digest.update() or began_again
        state = _state(run, status)
        facts = {
            "run": str(run),
            "what": _what(params),
            **state,
            "progress": _progress(params, digest, status),
            "speed": _speed(digest, state["state"]),
            "loss": _loss(params, digest),
            "knn": {"start": _start_name(params), **accuracy.accuracies(digest.evaluations)},
            "label_free": accuracy.label_free(digest.evaluations),
            "evaluations": list(map(accuracy.stored, read_evaluations(run))),
            "health": {**_health(digest), "collapsed_epochs": digest.collapsed_epochs},
            "best": digest.best,
            "why_no_best": digest.no_best.why() if digest.best is None else "",
            "resumes": digest.resumes,
            "interventions": digest.interventions,
            "bad_images": status.get("bad_images", 0),
            "unreadable_records": digest.unreadable,
            "notices": [notice["text"] for notice in status.get("notices", [])],
            "files": _files(run),
        }
        return {**facts, "verdict": judge_run(facts)._asdict()}


def _stamp(run: Path) -> tuple[int, int]:
    """What is other once params.json was written anew."""
    stat = (run / PARAMS).stat() if (run / PARAMS).exists() else None
    return (stat.st_ino, stat.st_mtime_ns) if stat is not None else (0, 0)


def _params(run: Path) -> dict[str, Any]:
    if run.is_dir() and not (run / PARAMS).exists() and _holds_images(run):
        raise MissingInputError(f"{run}: no run folder (it has no {PARAMS}); it holds images: --train-dir takes it")
    params = read_params(run)
    if missing := [key for key in ("algorithm", "stream", "backbone", "epochs") if key not in params]:
        raise RunFolderError(f"{run / PARAMS}: has no {missing[0]!r}, so it is of no run; name the folder of one")
    return params


def _holds_images(folder: Path) -> bool:
    files = islice(folder.rglob("*"), _LOOKED_THROUGH)
    return any(os.fsencode(file.suffix[1:].lower()) in EXTENSIONS for file in files)


def _state(run: Path, status: Mapping[str, Any]) -> dict[str, Any]:
    """What status.json says; but a killed process could not say that it is gone."""
    if status.get("state") == "running" and not is_held(run / LOCK):
        status = read_status(run)  # it may have ended in this moment, and said how
    state, message, code = status.get("state", "unknown"), status.get("message", ""), status.get("exit_code")
    is_resumable = has_checkpoint(run)
    if state == "running" and not is_held(run / LOCK):
        command = f"sltdino resume {shlex.quote(str(run))}"
        way_on = (
            f"go on with: {command}"
            if is_resumable
            else "it had no checkpoint yet, so start it again, with --overwrite"
        )
        state, message = "interrupted", f"its process is gone; {way_on}"
    return {"state": state, "message": message, "exit_code": code, "resumable": is_resumable}


def _what(params: Mapping[str, Any]) -> dict[str, Any]:
    backbone, count = params["backbone"], params.get("images", {}).get("count")  # the old scripts did not count
    images = "images" if count is None else f"{count:,} images"
    text = (
        f"{params['algorithm']} on {images} of {params['stream']}; ViT of width "
        f"{backbone['embed_dim']}, depth {backbone['depth']}, patch {backbone['patch_size']} at "
        f"{backbone['image_size']} px"
    )
    name = params.get("experiment", {}).get("name", "")
    return {"text": text, "name": name, "algorithm": params["algorithm"], "stream": params["stream"], "images": count,
            "num_prototypes": _num_prototypes(params)}  # fmt: skip


def _start_name(params: Mapping[str, Any]) -> str:
    return "initial weights" if "initial_weights" in params else "untrained"


def _num_prototypes(params: Mapping[str, Any]) -> int | None:
    settings: Mapping[str, Any] = params.get("settings", {})
    found = settings.get("head", {}).get("out_dim")
    return found if isinstance(found, int) else None


def _progress(params: Mapping[str, Any], digest: Digest, status: Mapping[str, Any]) -> dict[str, Any]:
    saved = round(number(status.get("global_step")) or 0)
    step = max(digest.step.get("step", 0), saved)
    per_step = _images_per_step(params)
    return {
        "step": step,
        "total_steps": params.get("total_steps"),
        "epoch": number(digest.step.get("epoch")) or 0,
        "epochs": params["epochs"],
        "finished_epochs": digest.num_epochs,
        "saved_step": saved,
        "images_seen": None if per_step is None else step * per_step,
        "seconds": digest.seconds(),
    }


def _images_per_step(params: Mapping[str, Any]) -> int | None:
    """The batch of all ranks: params.json has one rank's and, in the steps of an epoch, what the others add."""
    settings, total, epochs = params.get("settings", {}), params.get("total_steps"), params.get("epochs")
    parts = (
        settings.get("dataset", {}).get("batch_size"), settings.get("optimizer", {}).get("accumulate_steps", 1),
        settings.get("pseudo_epochs", 1), params.get("images", {}).get("count"), total, epochs,
    )  # fmt: skip
    known = [value for part in parts if (value := number(part)) is not None and value > 0]
    if len(known) < len(parts):
        return None
    batch_size, accumulated, repeats, images, total, epochs = known
    of_a_rank = batch_size * accumulated
    return round(of_a_rank) * max(1, int(images * repeats // (of_a_rank * max(1, round(total / epochs)))))


def _speed(digest: Digest, state: str) -> dict[str, Any]:
    fields = {key: number(digest.step.get(key)) for key in ("images_per_second", "data_wait", "eta_seconds")}
    curve = digest.curve("images_per_second").known().mean
    return {
        **fields,
        "eta_seconds": fields["eta_seconds"] if state == "running" else None,
        "median_images_per_second": float(np.median(curve)) if len(curve) else None,
        "curve": curve.round(3).tolist(),
    }


def _loss(params: Mapping[str, Any], digest: Digest) -> dict[str, Any]:
    prototypes = _num_prototypes(params)
    return {
        "epochs": digest.losses,
        "last_step": number(digest.step.get("loss")),
        "gap": number(digest.step.get("loss_gap")),
        "log_k": None if prototypes is None or prototypes < 2 else math.log(prototypes),
        "curve": digest.curve("loss").as_json(),
    }


def _health(digest: Digest) -> dict[str, Any]:
    past = list(digest.past)[-_EPISODES:]
    told = {"past": [episode._asdict() for episode in past], "num_past": digest.num_past}
    if digest.step.get("health") is None:  # the old scripts did not watch
        return {"verdict": "not measured yet", "collapsed": False, "text": "", "remedy": "", "findings": [], **told}
    findings = [finding._replace(since_step=digest.since(finding)) for finding in digest.findings]
    worst = findings[0] if findings else Finding(HEALTHY, False, 0, "", "")
    seen = {field: digest.step[field] for field in _OBSERVED if field in digest.step}
    found = {"verdict": worst.name, "collapsed": worst.collapsed, "text": worst.text, "remedy": worst.remedy}
    return {**found, "findings": [finding._asdict() for finding in findings], **told, **seen}


def _files(run: Path) -> list[dict[str, Any]]:
    found = []
    for artifact in read_artifacts(run):
        path = Path(artifact["path"])
        path = run / path.name if not path.exists() and (run / path.name).exists() else path  # a moved run folder
        size = _bytes(path) / 1e6
        found.append({"name": artifact["name"], "path": str(path), "megabytes": size, "exists": path.exists(),
                      "metadata": artifact["metadata"]})  # fmt: skip
    return found


def _bytes(path: Path) -> int:
    parts = path.rglob("*") if path.is_dir() else [path]
    return sum(part.stat().st_size for part in parts if part.is_file())
