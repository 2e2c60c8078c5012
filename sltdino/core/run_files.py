"""The files of a run folder: their names, and how to read them back."""

import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from sltdino.core import json_files
from sltdino.core.evaluation_files import EVALUATIONS, evaluation_files
from sltdino.core.evaluation_files import read_evaluations as read_evaluations
from sltdino.core.json_lines import JsonLinesReader
from sltdino.core.lock import is_held
from sltdino.core.missing import not_there
from sltdino.core.settings import CheckpointSettings, PretrainSettings
from sltdino.core.settings_files import LoadedSettings
from sltdino.errors import CheckpointError, MissingInputError, RunFolderError

PARAMS, ARTIFACTS, STATUS, BAD_IMAGES, LOCK = (
    "params.json", "artifacts.json", "status.json", "bad_images.jsonl", ".sltdino.lock",
)  # fmt: skip
TENSORBOARD, WANDB = "tensorboard", "wandb"
"""Folders that trackers write in the run's."""
DEFAULT_NAMES = CheckpointSettings()
_PARTS = {"steps_done": int, "student": dict, "teacher": dict, "progress": dict, "origins": dict, "images": dict}
"""Of a checkpoint, and their kinds; settings have a check of their own."""


class LoadedCheckpoint(NamedTuple):
    """A checkpoint's content and the file it came from."""

    state: dict[str, Any]
    path: Path


def read_params(path: Path) -> dict[str, Any]:
    """What params.json of a run folder says; without a lock, like everything that only reads.

    Raises:
        MissingInputError: there is no such folder, or it holds no run. RunFolderError: the file is damaged.
    """
    if not path.is_dir():
        raise MissingInputError(
            f"{path}: a file, not a run folder; name a folder" if path.exists() else not_there(path)
        )
    if not (path / PARAMS).is_file():
        raise MissingInputError(f"{path}: no run folder (it has no {PARAMS}); name the folder of a run")
    return _expect(json_files.read(path / PARAMS), dict, path / PARAMS)  # type: ignore[no-any-return]


def read_metrics(path: Path, history_file: str = DEFAULT_NAMES.history_file) -> JsonLinesReader:
    """The metric records of a run folder, one at a time; a torn last line is counted in `unreadable`."""
    return JsonLinesReader(path / history_file)


def read_bad_images(path: Path) -> JsonLinesReader:
    """The images that the run in a folder could not read, each once, with `path`, `reason` and `use`."""
    return JsonLinesReader(path / BAD_IMAGES)


def read_artifacts(path: Path) -> list[dict[str, Any]]:
    """What the run in a folder made; empty when there is no list.

    Raises:
        RunFolderError: the list is damaged.
    """
    return _expect(json_files.read(path / ARTIFACTS), list, path / ARTIFACTS) if (path / ARTIFACTS).exists() else []


def read_status(path: Path) -> dict[str, Any]:
    """What status.json of a run folder says; empty when there is none, as in runs of the old scripts.

    Raises:
        RunFolderError: the file is damaged.
    """
    return _expect(json_files.read(path / STATUS), dict, path / STATUS) if (path / STATUS).exists() else {}


def read_names(path: Path) -> CheckpointSettings:
    """The file names that the run in a folder was started with; the usual ones when its params.json has none.

    Raises:
        RunFolderError: params.json is damaged, or has names that are none.
    """
    chosen = read_params(path).get("checkpointing", {}) if (path / PARAMS).exists() else {}
    keys = {"best": "best_name", "last": "last_name", "history_file": "history_file"}
    try:
        names = CheckpointSettings(**{field: chosen[key] for key, field in keys.items() if key in chosen})
    except (ValidationError, TypeError) as error:
        raise RunFolderError(f"{path / PARAMS}: its checkpointing names are no file names; correct them") from error
    check_names(names)
    return names


def load_checkpoint(
    run_or_file: Path, *, which: Literal["last", "best"] = "last", fallback: bool = False
) -> LoadedCheckpoint:
    """Load a checkpoint file, or the last or best one of a run folder.

    With `fallback`, a damaged or missing last checkpoint of a folder is replaced by the previous one; the `path` of the
    result tells.

    Raises:
        MissingInputError: there is none. CheckpointError: it is damaged or foreign; where the previous one can take its
            place, the message has its step and the command.
    """
    from sltdino.core import checkpoint

    if not run_or_file.exists():
        raise MissingInputError(not_there(run_or_file))
    if not run_or_file.is_dir():
        return LoadedCheckpoint(checkpoint.load(run_or_file), run_or_file)
    if which == "last" and not has_checkpoint(run_or_file):
        raise MissingInputError(_no_checkpoint(run_or_file))
    names = read_names(run_or_file)
    path = run_or_file / (names.last_name if which == "last" else names.best_name)
    previous = run_or_file / previous_name(names)
    try:
        return LoadedCheckpoint(checkpoint.load(path), path)
    except (CheckpointError, MissingInputError) as error:
        if which == "best" or not previous.exists() or error.code == "E-CKPT-VERSION":
            raise
        reason = str(error).rpartition(";")[0]
        try:
            state = checkpoint.load(previous)
        except CheckpointError:
            way_on = f"{previous.name} is damaged too: start a new run, or restore one of them from a backup"
            raise CheckpointError(f"{reason}; {way_on}", code=error.code) from error
        if fallback:
            return LoadedCheckpoint(state, previous)
        step = state.get("progress", {}).get("global_step", "an unknown")
        way_on = f"{previous.name} is at step {step}: sltdino resume {run_or_file} --fallback"
        raise CheckpointError(f"{reason}; {way_on}", code=error.code) from error


def _no_checkpoint(run: Path) -> str:
    if is_held(run / LOCK):
        return f"{run}: has no checkpoint yet, and another process is at work in it; wait for its first one"
    if (run / STATUS).exists():
        return f"{run}: stopped before its first checkpoint; run its `sltdino pretrain` again, with --overwrite"
    return f"{run}: holds no checkpoint; name a run folder or a checkpoint file"


def stored_settings(checkpoint: LoadedCheckpoint) -> PretrainSettings:
    """The settings of the run that a checkpoint belongs to.

    Raises:
        CheckpointError: it holds none that are valid, or lacks other parts of a checkpoint.
    """
    try:
        settings = PretrainSettings.model_validate(checkpoint.state["settings"])
    except (KeyError, ValidationError) as error:
        reason = str(error).partition("\n")[0]
        message = f"{checkpoint.path}: holds no valid settings ({reason}); name a checkpoint that a run wrote"
        raise CheckpointError(message, code="E-CKPT-FOREIGN") from error
    _check_whole(checkpoint, settings)
    return settings


def _check_whole(checkpoint: LoadedCheckpoint, settings: PretrainSettings) -> None:
    """Refuse a checkpoint without the parts that a run is read or continued from."""
    state, progress = checkpoint.state, checkpoint.state.get("progress")
    missing = [key for key, kind in _PARTS.items() if not isinstance(state.get(key), kind)]
    if isinstance(progress, dict):
        missing += [f"progress.{key}" for key in ("global_step", "total_steps") if type(progress.get(key)) is not int]
        missing += [] if "best_loss" in progress else ["progress.best_loss"]
    if missing:
        message = f"{checkpoint.path}: has no {', '.join(missing)}; name a checkpoint that a run wrote"
        raise CheckpointError(message, code="E-CKPT-FOREIGN")
    # a number in a file can ask for a network that takes hours to build
    depth = settings.vit.depth
    if isinstance(depth, int) and depth > len(state["teacher"]):
        message = f"{checkpoint.path}: has no weights for the {depth:,} blocks of its settings; use another copy of it"
        raise CheckpointError(message, code="E-CKPT-CORRUPT")


def read_settings(path: Path) -> LoadedSettings:
    """The settings of the run in a folder, as far as they are settled, and where each came from.

    Raises:
        MissingInputError: there is no run. RunFolderError: an old script or a newer version wrote its params.json.
    """
    params = read_params(path)
    try:
        settings = PretrainSettings.model_validate(params["settings"])
        origins = {str(key): str(origin) for key, origin in params["origins"].items()}
    except (KeyError, AttributeError, ValidationError) as error:
        reason = str(error).partition("\n")[0]
        raise RunFolderError(
            f"{path / PARAMS}: holds no settings that this version reads ({reason}); "
            "was it written by an old script, or by a newer version?"
        ) from error
    return LoadedSettings(settings, origins)


def previous_name(names: CheckpointSettings) -> str:
    """The file name of the checkpoint before the last: checkpoint_last.pt gives checkpoint_prev.pt."""
    stem, suffix = os.path.splitext(names.last_name)
    return f"{stem.removesuffix('last')}prev{suffix}" if stem.endswith("last") else f"{stem}_prev{suffix}"


def has_checkpoint(path: Path) -> bool:
    """Whether a folder holds a run that can be resumed; what `--resume auto` asks.

    Raises:
        RunFolderError: as `read_names`.
    """
    names = read_names(path)
    return (path / names.last_name).exists() or (path / previous_name(names)).exists()


def check_names(names: CheckpointSettings) -> None:
    """Refuse names that two files of a run would share, and systems on which a run is not safe.

    Raises:
        RunFolderError: naming the culprit.
    """
    if os.name == "nt":
        raise RunFolderError("training on Windows: its file systems lack what a run needs; use Linux, macOS or WSL 2")
    chosen = [names.last_name, names.best_name, names.history_file, previous_name(names)]
    for name in chosen:
        reserved = name in (PARAMS, ARTIFACTS, STATUS, BAD_IMAGES, EVALUATIONS, TENSORBOARD, WANDB)
        if reserved or name.startswith(".sltdino") or chosen.count(name) > 1:
            raise RunFolderError(f"{name}: also the name of another file of the run; choose other checkpoint names")


def own_files(path: Path, names: CheckpointSettings) -> list[Path]:
    """Files of a run in `path`, in the order in which removing them always leaves something that says so."""
    checkpoints = [names.last_name, previous_name(names), names.best_name]
    before, after = (*checkpoints, names.history_file), (BAD_IMAGES, ARTIFACTS, STATUS, PARAMS)
    own = [*(path / name for name in before), *evaluation_files(path), *(path / name for name in after)]
    return [file for file in own if file.exists() or file.is_symlink()]


def read_index(path: Path, kind: type[Any]) -> tuple[Any, str]:
    """What an index of the run says, and what is wrong with it; it can be rebuilt, so it never stops a run."""
    if not path.exists():
        return kind(), ""
    try:
        return _expect(json_files.read(path), kind, path), ""
    except RunFolderError as error:
        return kind(), f"started a new {path.name}: {error}"


def notices_in(status: dict[str, Any]) -> list[dict[str, Any]]:
    """The notices of a status.json, without what is none."""
    return [notice for notice in status.get("notices", []) if _is_notice(notice)]


def _is_notice(notice: object) -> bool:
    return isinstance(notice, dict) and isinstance(notice.get("text"), str) and isinstance(notice.get("count"), int)


def _expect(content: Any, kind: type[Any], path: Path) -> Any:
    if not isinstance(content, kind):
        raise RunFolderError(f"{path}: not what a run writes there; restore it from a backup, or remove it")
    return content
