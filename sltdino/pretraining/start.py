"""What a run starts from: an earlier checkpoint or none, its images, and the settings that changed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sltdino.core.auto import plan, settle
from sltdino.core.changes import Change, check_changes, compare
from sltdino.core.files import check_writable
from sltdino.core.lock import is_held
from sltdino.core.run_files import (
    LOCK,
    LoadedCheckpoint,
    check_names,
    has_checkpoint,
    load_checkpoint,
    read_names,
    read_status,
    stored_settings,
)
from sltdino.core.run_place import refuse_unless_new
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_base import known
from sltdino.core.settings_files import LoadedSettings
from sltdino.data.image_folder import ImageFolder, scan_listed
from sltdino.errors import (
    ChangeRefusedError,
    CheckpointError,
    MissingInputError,
    ResourceError,
    RunFolderError,
    RunInUseError,
    SettingsError,
    SltDinoError,
)
from sltdino.objectives.algorithms import Objective
from sltdino.pretraining.initial import initial_network
from sltdino.pretraining.progress import Reporter, Silent
from sltdino.pretraining.sample import other_formats_text

_IN_EVERY_CHECKPOINT = (
    "settings", "origins", "images", "progress", "steps_done", "student", "teacher", "objective", "optimizer",
)  # fmt: skip


def output_dir(settings: PretrainSettings) -> Path:
    """The run folder."""
    return settings.output_dir or Path("work_dirs") / f"{settings.algorithm}_{settings.stream}"


def asked_for(settings: PretrainSettings) -> LoadedCheckpoint | None:
    """The checkpoint that `--resume` names; None to start anew."""
    asked = settings.resume_from
    if asked is None:
        return None
    out = output_dir(settings)
    if asked in ("auto", "must"):
        if has_checkpoint(out):
            return load_resumable(out, fallback=asked == "auto")
        if asked == "must":
            raise MissingInputError(f"{out}: no checkpoint there, as --resume must needs; name a run or leave it out")
        return None
    source = Path(asked)
    folder = source if source.is_dir() else source.parent
    if settings.output_dir is not None and settings.output_dir.resolve() != folder.resolve():
        raise RunFolderError(
            f"--resume: {asked} goes on in its own folder, not in --output-dir {settings.output_dir}; "
            "leave --output-dir out, or copy the run folder first"
        )
    return load_resumable(source)


def load_resumable(run_or_file: Path, *, fallback: bool = False) -> LoadedCheckpoint:
    """`load_checkpoint`, of what a run can go on from.

    Raises:
        MissingInputError, CheckpointError: as there; also when it lacks what every checkpoint of a run has.
    """
    loaded = load_checkpoint(run_or_file, fallback=fallback)
    if missing := [key for key in _IN_EVERY_CHECKPOINT if key not in loaded.state]:
        message = f"{loaded.path}: has no {missing[0]!r}, which every checkpoint of a run has; use another copy of it"
        raise CheckpointError(message)
    return loaded


def scan_images(settings: PretrainSettings, out: Path, reporter: Reporter) -> ImageFolder:
    """The training images; what was passed over is said.

    Raises:
        SettingsError: the run folder lies inside a training folder. MissingInputError, DataError: as `scan`.
    """
    check_output_dir(settings, out)
    images = scan_listed(settings.train_dir, settings.dataset.exclude)
    for warning in images.warnings:
        reporter.warn(warning)
    if images.excluded is not None:
        reporter.say(images.excluded.text)
    if images.other_formats:
        reporter.say(f"not read: {other_formats_text(images.other_formats)}")
    return images


def check_output_dir(settings: PretrainSettings, out: Path) -> None:
    """Refuse a run folder that lies inside a training folder, where the next scan would find it."""
    for folder in settings.train_dir:
        if out.resolve().is_relative_to(folder.resolve()) and folder.is_dir():
            raise SettingsError(f"--output-dir: {out} lies inside the training folder {folder}; choose another place")


class Continuation(NamedTuple):
    """How an earlier run would go on."""

    settings: PretrainSettings
    changes: tuple[Change, ...]
    step: int
    """Steps done."""
    finished: bool
    """Nothing is left to do."""


def continuation(
    checkpoint: LoadedCheckpoint,
    requested: PretrainSettings,
    images: ImageFolder,
    *,
    allow_change: Sequence[str],
    world_size: int,
) -> Continuation:
    """Compare what is asked for with the run a checkpoint belongs to.

    Raises:
        ChangeRefusedError: a changed setting would make it another run. CheckpointError: it holds no settings.
        SettingsError: the run has done more steps than are asked for.
    """
    state = checkpoint.state
    stored = stored_settings(checkpoint)
    changes = (*compare(stored, requested), *data_change(state, images))
    check_changes(changes, allow_change, run=_resumed_by(checkpoint))
    step = state["steps_done"]
    done = read_status(checkpoint.path.parent).get("state") == "done"
    settings = with_changes(stored, changes)
    total = plan(settings, num_images=len(images), world_size=world_size).total_steps
    finished = not changes and step >= state["progress"]["total_steps"] and done
    if step > total and not finished:
        raise SettingsError(f"--epochs: {known(settings.epochs):g} are {total} steps, and the run has done {step}")
    return Continuation(settings, changes, step, finished)


def check_same_state(state: Mapping[str, Any], objective: Objective) -> None:
    """Refuse changed settings under which the loss keeps other state than the run's.

    Raises:
        ChangeRefusedError: such as for a patch term that had no weight, and so has no centers.
    """
    if state["objective"].keys() != objective.state_dict().keys():
        weight = "loss.patch_loss_weight: changed from or to 0, which gives the loss other centers than the run's"
        raise ChangeRefusedError(f"{weight}; start a new run for it")


def _resumed_by(checkpoint: LoadedCheckpoint) -> Path:
    """What `sltdino resume` takes: the folder, or the file where it is not the folder's last checkpoint."""
    run = checkpoint.path.parent
    return run if checkpoint.path.name == read_names(run).last_name else checkpoint.path


def overwrites(settings: PretrainSettings) -> bool:
    """Whether a new run may take the place of an earlier one.

    Under `--resume auto`, what was killed before its first checkpoint is begun again.
    """
    return settings.overwrite or settings.resume_from == "auto"


class Collected:
    """Goes on after a refusal, and keeps it: `with Collected(problems): ...`."""

    def __init__(self, problems: list[SltDinoError]) -> None:
        self._problems = problems

    def __enter__(self) -> None:
        """Nothing yet."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        """Keep a refusal; let everything else through."""
        if isinstance(error, SltDinoError):
            self._problems.append(error)
        return isinstance(error, SltDinoError)


@contextmanager
def out_of_memory_said() -> Iterator[None]:
    """Turn what torch and Python raise when the memory is full into the error that says what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        said = ("out of memory", "can't allocate memory", "not enough memory")
        if isinstance(error, RuntimeError) and not any(text in str(error) for text in said):
            raise
        advice = "use a smaller --batch-size with --accumulate-steps, smaller crops, or a smaller network"
        raise ResourceError(f"out of memory: {advice}") from error


def folder_problems(out: Path, settings: PretrainSettings, *, resuming: bool) -> list[SltDinoError]:
    """Everything for which `RunDir` would refuse a run folder, as far as it can be known without writing."""
    problems: list[SltDinoError] = []
    with Collected(problems):
        check_names(settings.checkpointing)
    with Collected(problems):
        check_writable(out)
    if is_held(out / LOCK):
        message = f"{out}: in use by another process; wait for it, stop it, or choose another --output-dir"
        problems.append(RunInUseError(message))
    if not resuming:
        with Collected(problems):
            refuse_unless_new(out, settings.checkpointing, overwrite=overwrites(settings))
    return problems


def refuse_folder(out: Path, settings: PretrainSettings) -> None:
    """Raise the first of `folder_problems` of a new run, which would else be met after minutes of other work."""
    for problem in folder_problems(out, settings, resuming=False):
        raise problem


def data_change(state: dict[str, Any], images: ImageFolder) -> list[Change]:
    """The change of the images since the checkpoint, if they are others."""
    before = state["images"]
    if before["fingerprint"] == images.fingerprint:
        return []
    old, new = (f"{count:,} images, listing {digest[:8]}" for count, digest in (
        (before["count"], before["fingerprint"]), (len(images), images.fingerprint)))  # fmt: skip
    return [Change("train_dir", "trajectory", old, new)]


def with_changes(stored: PretrainSettings, changes: Sequence[Change]) -> PretrainSettings:
    """The run's settings, after the changes were accepted."""
    values = stored.model_dump()
    for change in changes:
        if isinstance(change.new, str) and change.key == "train_dir":
            continue  # the folders are the same, what lies in them is not
        *sections, field = change.key.split(".")
        target = values
        for section in sections:
            target = target[section]
        target[field] = change.new
    return PretrainSettings.model_validate(values)


def planned_settings(settings: PretrainSettings, *, origins: Mapping[str, str] | None = None) -> LoadedSettings:
    """The settings that a run would go by: every `auto` settled, or those of the run that it would go on with.

    What follows from the length of a run that is given minutes stays `auto`: only its start times the steps.

    Nothing is written.

    Raises:
        SltDinoError: as `pretrain`, before it makes anything.
    """
    given = dict(origins or {})
    checkpoint = asked_for(settings)
    images = scan_images(settings, output_dir(settings), Silent())
    if checkpoint is not None:
        goes_on = continuation(checkpoint, settings, images, allow_change=(), world_size=1)
        as_epochs = goes_on.settings.model_copy(update={"train_minutes": None})  # they are what the minutes became
        return LoadedSettings(as_epochs, {**checkpoint.state["origins"], **given})
    settled = settle(settings, num_images=len(images), initial=initial_network(settings))
    return LoadedSettings(settled.settings, {**given, **settled.origins})
