"""Evaluate a run, a checkpoint or any backbone on labelled folders, and keep what was found with the run."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sltdino.core import files, json_files
from sltdino.core.evaluation_files import EVALUATIONS, SCHEMA, evaluation_file, write_evaluation
from sltdino.core.run_files import (
    PARAMS,
    LoadedCheckpoint,
    load_checkpoint,
    read_metrics,
    read_names,
    read_params,
    stored_settings,
)
from sltdino.core.settings import PretrainSettings
from sltdino.core.starter import weights_path
from sltdino.errors import CannotCreateError
from sltdino.evaluation.evaluate import DEFAULTS, EvaluateOptions, Evaluation, as_record, evaluate_backbone
from sltdino.exporting.backbone import TrainedBackbone, Which, load_trained_backbone
from sltdino.pretraining.labelled_folders import folders_of
from sltdino.pretraining.starting_network import StartingNetwork, random_network, starting_network


class EvaluateReport(NamedTuple):
    """What was measured, and where it is kept."""

    record: dict[str, Any]
    """As it reads in the file: what was evaluated, and `evaluation` in plain values."""
    evaluation: Evaluation
    kept: tuple[Path, ...]
    """Files that hold the record."""


class _Source(NamedTuple):
    backbone: TrainedBackbone
    checkpoint: LoadedCheckpoint | None
    settings: PretrainSettings | None
    """Of the run; None where others wrote the weights."""


def evaluate(
    source: Path,
    *,
    train_dirs: Sequence[Path] = (),
    val_dirs: Sequence[Path] = (),
    which: Which = "last",
    options: EvaluateOptions = DEFAULTS,
    output: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> EvaluateReport:
    """Measure how good the frozen features of a backbone are, beside the untrained network and raw pixels.

        evaluate(Path("runs/hands"), train_dirs=[Path("digits/train")], val_dirs=[Path("digits/val")])

    Weighted k-NN, a linear probe and few-shot k-NN, with 95% intervals. Where the source is a run or lies in the
    folder of one, the record is kept there under `evaluations/`; the same call again replaces it.

    Args:
        source: a run folder, a checkpoint, a file of weights, or `starter`, as for `embed`.
        train_dirs, val_dirs: folders whose sub-folders are the labels; by default, those of the run, without what it
            left out by --exclude. Where there are none to train on, the validation images are judged by each other.
        which: the checkpoint of a run folder.
        output: a JSON file that gets the record too.

    Raises:
        SettingsError: there are no folders to take, or an option cannot be. CannotCreateError: `output` cannot be
            written. SltDinoError: otherwise as `load_trained_backbone` and `evaluate_backbone`.
    """
    source = weights_path(source)
    loaded = _load(source, which)
    folders = folders_of(source, loaded.settings, train_dirs, val_dirs)
    run, notes = _run_folder(source)
    if output is not None:
        files.refuse_what_is_no_file(output)
        files.probe(output.absolute().parent)  # now, and not when everything is computed
    start = _start(loaded, source)
    found = evaluate_backbone(
        loaded.backbone, start.network, folders.train, folders.val, options=options, exclude=folders.exclude,
        on_progress=on_progress,
    )  # fmt: skip
    found = found._replace(notes=(*notes, *folders.notes, *found.notes))
    file, step = _file(source, loaded), loaded.backbone.metadata.get("global_step")
    what = {
        "checkpoint": None if loaded.checkpoint is None else file,
        "step": step if type(step) is int else None,
        "train_dirs": [folder.absolute() for folder in folders.train],
        "val_dirs": [folder.absolute() for folder in folders.val],
        **({} if folders.exclude is None else {"exclude": folders.exclude.absolute()}),
    }
    facts = {"schema": SCHEMA, "timestamp": json_files.now(), "backbone": source.absolute()}
    record = json.loads(json_files.dumps({**facts, **what, "untrained": start.text, **as_record(found)}))
    place = None
    if run is not None:
        place = evaluation_file(run, Path(file).stem, {**what, "file": file, "options": _identity(options)})
    return EvaluateReport(record, found, _keep(record, place, output))


def _load(source: Path, which: Which) -> _Source:
    backbone = load_trained_backbone(source, which=which)
    if "layout" in backbone.metadata:  # others wrote it
        return _Source(backbone, None, None)
    checkpoint = load_checkpoint(source, which=which)
    return _Source(backbone, checkpoint, stored_settings(checkpoint))


def _run_folder(source: Path) -> tuple[Path | None, tuple[str, ...]]:
    """The run folder that the record is kept in, and why not."""
    run = source if source.is_dir() else source.parent
    if not (run / PARAMS).is_file():
        return None, ()
    try:
        files.check_writable(run / EVALUATIONS)
    except CannotCreateError as error:
        return None, (f"not kept with the run: {error}",)
    return run, ()


def _start(loaded: _Source, source: Path) -> StartingNetwork:
    if loaded.settings is None or loaded.checkpoint is None:
        return random_network(loaded.backbone.network)
    folder = loaded.checkpoint.path.parent
    initial = read_params(folder).get("initial_weights") if (folder / PARAMS).is_file() else None
    return starting_network(
        loaded.settings,
        fingerprint="" if _went_on_with_others(folder) else str(loaded.checkpoint.state["images"].get("fingerprint")),
        initial_weights=initial if isinstance(initial, dict) else None,
    )


def _went_on_with_others(run: Path) -> bool:
    """Whether the run was resumed on other images than those that it started on: its checkpoints know the last ones."""
    records = read_metrics(run, read_names(run).history_file)
    return any(record.get("context") == "resume" and "train_dir" in record for record in records)


def _file(source: Path, loaded: _Source) -> str:
    """The name of the file with the weights."""
    return source.name if loaded.checkpoint is None else loaded.checkpoint.path.name


def _identity(options: EvaluateOptions) -> dict[str, object]:
    """What the numbers depend on."""
    ways = ("batch_size", "num_workers", "device")
    return {key: value for key, value in options._asdict().items() if key not in ways}


def _keep(record: Mapping[str, object], place: Path | None, output: Path | None) -> tuple[Path, ...]:
    if place is not None:
        write_evaluation(place, record)
    if output is not None:
        json_files.write(output, record)
    return tuple(path for path in (place, output) if path is not None)
