"""What a run folder says: what it is, how far, how fast, how good, whether healthy, and its files."""

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from sltdino.core.lock import is_held
from sltdino.core.run_files import (
    LOCK,
    PARAMS,
    has_checkpoint,
    read_artifacts,
    read_metrics,
    read_names,
    read_params,
    read_status,
)
from sltdino.core.settings_schema import printable
from sltdino.data.scanner import EXTENSIONS
from sltdino.errors import MissingInputError, RunFolderError
from sltdino.training.health import COLLAPSES, HEALTHY, Finding, watch_of

_CURVE_WIDTH = 40
_LOOKED_THROUGH = 1000  # files of a folder that is no run
_OBSERVED = (
    "loss_gap", "target_entropy", "assignment_entropy", "assignment_kl", "feature_spread", "cosine_to_mean",
    "prototypes_used",
)  # fmt: skip
_BLOCKS = "▁▂▃▄▅▆▇█"


def summarize(run: Path) -> dict[str, Any]:
    """The facts of a run folder, as plain values for JSON. Reading needs no lock: the run may be going on.

    Raises:
        MissingInputError: `run` holds no run. RunFolderError: one of its files is damaged.
    """
    params, status = _params(run), read_status(run)
    history = read_metrics(run, read_names(run).history_file)
    latest: dict[str, dict[str, Any]] = {}
    losses: list[float] = []
    evaluations: list[dict[str, Any]] = []
    collapsed_epochs = 0
    watch = watch_of(params)
    findings: tuple[Finding, ...] = ()
    for record in history:
        context = str(record.get("context"))
        if context == "train_step" and watch is not None:
            findings = watch.feed(record.get("step", 0), record)
        latest[context] = record
        if context == "train_epoch" and record.get("loss") is not None:
            losses.append(record["loss"])
            collapsed_epochs += record.get("health") in COLLAPSES
        elif context == "eval":
            evaluations.append({key: record.get(key) for key in ("epoch", "step", "knn", "knn_pixels")})
    return {
        "run": str(run),
        "what": _what(params),
        **_state(run, status),
        "progress": _progress(params, latest.get("train_step", {}), status),
        "speed": _speed(latest.get("train_step", {}), status),
        "loss": {"epochs": losses, "last_step": latest.get("train_step", {}).get("loss")},
        "knn": {"start": _start_name(params), **_knn(evaluations, latest.get("eval", {}))},
        "health": {**_health(findings, latest.get("train_step", {})), "collapsed_epochs": collapsed_epochs},
        "best": latest.get("train_best"),
        "bad_images": status.get("bad_images", 0),
        "unreadable_records": history.unreadable,
        "notices": [notice["text"] for notice in status.get("notices", [])],
        "files": _files(run),
    }


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


def render(summary: Mapping[str, Any]) -> str:
    """The page that `sltdino inspect` prints."""
    what, progress, speed = summary["what"], summary["progress"], summary["speed"]
    rows = [
        ("run", f"{summary['run']}" + (f" ({what['name']})" if what["name"] else "")),
        ("what", what["text"]),
        ("state", ": ".join(filter(None, (summary["state"], summary["message"])))),
        ("how far", _progress_text(progress)),
        ("how fast", _speed_text(speed)),
        ("loss", _loss_text(summary["loss"], what["num_prototypes"])),
        ("how good", _knn_text(summary["knn"])),
        ("health", ": ".join(filter(None, (summary["health"][key] for key in ("verdict", "text", "remedy"))))),
        ("best", _best_text(summary)),
    ]  # fmt: skip
    if summary["bad_images"]:
        rows.append(("skipped", f"{summary['bad_images']} images that cannot be read, listed in bad_images.jsonl"))
    rows += [("notice", text) for text in summary["notices"]]
    rows += [("file", f"{file['name']}  {file['megabytes']:.1f} MB  {file['path']}") for file in summary["files"]]
    return "\n".join(f"{title:<9} {printable(text)}" for title, text in rows)


def curve(values: list[float], width: int = _CURVE_WIDTH) -> str:
    """Numbers as a line of block characters, averaged down to `width`."""
    if not values:
        return ""
    size = max(1, math.ceil(len(values) / width))
    means = [sum(part) / len(part) for part in (values[i : i + size] for i in range(0, len(values), size))]
    low, span = min(means), (max(means) - min(means)) or 1.0
    return "".join(_BLOCKS[round((value - low) / span * (len(_BLOCKS) - 1))] for value in means)


def _state(run: Path, status: Mapping[str, Any]) -> dict[str, str]:
    """What status.json says; but a killed process could not say that it is gone."""
    if status.get("state") == "running" and not is_held(run / LOCK):
        command = f"sltdino resume {shlex.quote(str(run))}"
        way_on = f"go on with: {command}" if has_checkpoint(run) else "it had no checkpoint yet, so start it again"
        return {"state": "interrupted", "message": f"its process is gone; {way_on}"}
    return {"state": status.get("state", "unknown"), "message": status.get("message", "")}


def _what(params: Mapping[str, Any]) -> dict[str, Any]:
    backbone, count = params["backbone"], params.get("images", {}).get("count")  # the old scripts did not count
    images = "images" if count is None else f"{count:,} images"
    text = (
        f"{params['algorithm']} on {images} of {params['stream']}; ViT of width "
        f"{backbone['embed_dim']}, depth {backbone['depth']}, patch {backbone['patch_size']} at "
        f"{backbone['image_size']} px"
    )
    name = params.get("experiment", {}).get("name", "")
    return {"text": text, "name": name, "algorithm": params["algorithm"], "stream": params["stream"],
            "num_prototypes": _num_prototypes(params)}  # fmt: skip


def _start_name(params: Mapping[str, Any]) -> str:
    return "initial weights" if "initial_weights" in params else "untrained"


def _num_prototypes(params: Mapping[str, Any]) -> int | None:
    settings: Mapping[str, Any] = params.get("settings", {})
    number = settings.get("head", {}).get("out_dim")
    return number if isinstance(number, int) else None


def _progress(params: Mapping[str, Any], step: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "step": max(step.get("step", 0), status.get("global_step", 0)),
        "total_steps": params.get("total_steps"),
        "epoch": step.get("epoch", 0),
        "epochs": params["epochs"],
        "saved_step": status.get("global_step", 0),
    }


def _speed(step: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    left = step.get("eta_seconds") if status.get("state") == "running" else None
    return {
        "images_per_second": step.get("images_per_second"),
        "data_wait": step.get("data_wait"),
        "eta_seconds": left,
    }


def _knn(evaluations: list[dict[str, Any]], last: Mapping[str, Any]) -> dict[str, Any]:
    first = evaluations[0] if evaluations else {}
    return {
        "untrained": first.get("knn") if first.get("epoch") == 0 else None,
        "raw_pixels": first.get("knn_pixels"),
        "last": last.get("knn"),
        "best": max((row["knn"] for row in evaluations if row["epoch"] and row["knn"] is not None), default=None),
        "protocol": last.get("protocol", ""),
        "curve": [record["knn"] for record in evaluations],
    }


def _health(findings: Sequence[Finding], step: Mapping[str, Any]) -> dict[str, Any]:
    if step.get("health") is None:  # the old scripts did not watch
        return {"verdict": "not measured yet", "collapsed": False, "text": "", "remedy": "", "findings": []}
    worst = findings[0] if findings else Finding(HEALTHY, False, 0, "", "")
    seen = {field: step[field] for field in _OBSERVED if field in step}
    found = {"verdict": worst.name, "collapsed": worst.collapsed, "text": worst.text, "remedy": worst.remedy}
    return {**found, "findings": [finding._asdict() for finding in findings], **seen}


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


def _progress_text(progress: Mapping[str, Any]) -> str:
    total = "" if progress["total_steps"] is None else f" of {progress['total_steps']:,}"
    return f"step {progress['step']:,}{total}, epoch {progress['epoch']} of {progress['epochs']}"


def _speed_text(speed: Mapping[str, Any]) -> str:
    if speed["images_per_second"] is None:
        return "no step logged yet"
    left = "" if speed["eta_seconds"] is None else f", {speed['eta_seconds'] / 60:.0f} min left"
    return f"{speed['images_per_second']:.0f} images/s, {speed['data_wait']:.0%} of it waiting for data{left}"


def _loss_text(loss: Mapping[str, Any], num_prototypes: int | None) -> str:
    if not loss["epochs"]:
        return "no epoch finished yet"
    first, last = loss["epochs"][0], loss["epochs"][-1]
    log_k = "" if num_prototypes is None else f" (ln {num_prototypes} = {math.log(num_prototypes):.2f})"
    return f"{first:.3f} -> {last:.3f}{log_k}  {curve(loss['epochs'])}"


def _knn_text(knn: Mapping[str, Any]) -> str:
    if knn["last"] is None:
        return "not measured: give labelled images with --val-dir"
    start = "" if knn["untrained"] is None else f"{knn['start']} {knn['untrained']:.1%}, "
    worse = "" if knn["untrained"] is None or knn["last"] >= knn["untrained"] else "; worse than it started"
    pixels = "" if knn["raw_pixels"] is None else f"raw pixels {knn['raw_pixels']:.1%}, "
    best = "" if knn["best"] is None else f"best {knn['best']:.1%}"
    compared = f"{start}{pixels}{best}".removesuffix(", ")
    return f"k-NN {knn['last']:.1%} ({compared}){worse}  {curve(knn['curve'])}"


def _best_text(summary: Mapping[str, Any]) -> str:
    best, num_epochs = summary["best"], len(summary["loss"]["epochs"])
    if best is None and not num_epochs:
        return "none: no epoch has finished"
    if best is None and summary["health"]["collapsed_epochs"] == num_epochs:
        return "none: no epoch has finished without collapse"
    if best is None:
        return "none: k-NN was not measured yet after an epoch without collapse"
    value = f"k-NN {best['value']:.1%}" if best.get("metric") == "knn" else f"loss {best['loss']:.3f}"
    return f"epoch {best['epoch']}, {value}"
