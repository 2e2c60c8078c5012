"""Start a run, or go on with one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sltdino.core.auto import settle
from sltdino.core.changes import Change, check_changes, compare
from sltdino.core.distributed import join
from sltdino.core.run_dir import RunDir
from sltdino.core.run_files import LoadedCheckpoint, has_checkpoint, load_checkpoint
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_files import LoadedSettings, load_settings
from sltdino.core.signals import StopRequest
from sltdino.data.image_folder import ImageFolder, scan
from sltdino.errors import MissingInputError, ResourceError, RunFolderError, SettingsError, SltDinoError, StoppedError
from sltdino.pretraining.finish import write_exports
from sltdino.pretraining.loop import Loop
from sltdino.pretraining.params import run_params
from sltdino.pretraining.progress import Reporter, Silent, duration
from sltdino.pretraining.session import Session, build_session


class RunSummary(NamedTuple):
    """How a run ended."""

    run_dir: Path
    steps: int
    epochs: int
    best: dict[str, Any] | None
    """`{"metric": "knn"|"loss", "value", "epoch"}` of checkpoint_best; None when every epoch was collapsed."""
    knn: float | None
    """Last k-NN accuracy 0..1, where there are validation images."""
    knn_untrained: float | None
    knn_pixels: float | None
    seconds: float
    """Time spent training."""


def pretrain(
    settings: PretrainSettings,
    *,
    origins: Mapping[str, str] | None = None,
    config_files: Sequence[Path] = (),
    reporter: Reporter | None = None,
) -> RunSummary:
    """Pre-train on folders of crops; go on with an earlier run where `settings.resume_from` says so.

        pretrain(load_settings("hands", flags={"train_dir": "crops", "output_dir": "runs/hands"}).settings)

    Args:
        origins: where each value came from, by dotted key, for the record.
        config_files: files the settings came from, for the record.
        reporter: shown progress; nothing is printed without one.

    Raises:
        SltDinoError: every failure a user can act on; see `sltdino.errors`. After StoppedError the run can be resumed.
    """
    reporter = reporter or Silent()
    source = _resume_source(settings)
    if source is not None:
        checkpoint = load_checkpoint(source, fallback=settings.resume_from in ("auto", "must"))
        return _go_on(checkpoint, settings, allow_change=(), origins=origins or {}, reporter=reporter)
    world = join(settings.device)
    out = output_dir(settings)
    images = _scan(settings, out, reporter)
    settled = settle(settings, num_images=len(images), world_size=world.size)
    session = build_session(settled.settings, images, world)
    all_origins = {**(origins or {}), **settled.origins}
    with RunDir.create(out, settings.checkpointing, overwrite=settings.overwrite) as run:
        return _train(session, run, reporter, origins=all_origins, config_files=config_files, checkpoint=None)


def resume(
    run: Path,
    *,
    files: Sequence[Path] = (),
    sets: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    allow_change: Sequence[str] = (),
    fallback: bool = False,
    reporter: Reporter | None = None,
) -> RunSummary:
    """Go on with the run in a folder (or from one checkpoint file), exactly as if it had never stopped.

    Args:
        files, sets, flags: changed settings, as for `load_settings`. What may change freely may change; `epochs` too.
        allow_change: keys of settings that change the run's course and may change all the same.
        fallback: take the checkpoint before the last one where the last is damaged.

    Raises:
        ChangeRefusedError: a changed setting would make it another run. SltDinoError: as `pretrain`.
    """
    checkpoint = load_checkpoint(run, fallback=fallback)
    stored = LoadedSettings(PretrainSettings.model_validate(checkpoint.state["settings"]), checkpoint.state["origins"])
    requested = load_settings(files=files, sets=sets, flags=flags, base=stored)
    return _go_on(
        checkpoint,
        requested.settings,
        allow_change=(*allow_change, "epochs"),
        origins=requested.origins,
        reporter=reporter or Silent(),
    )


def output_dir(settings: PretrainSettings) -> Path:
    """The run folder."""
    return settings.output_dir or Path("work_dirs") / f"{settings.algorithm}_{settings.stream}"


def _go_on(
    checkpoint: LoadedCheckpoint,
    requested: PretrainSettings,
    *,
    allow_change: Sequence[str],
    origins: Mapping[str, str],
    reporter: Reporter,
) -> RunSummary:
    state = checkpoint.state
    stored = PretrainSettings.model_validate(state["settings"])
    out = checkpoint.path.parent
    images = _scan(requested, out, reporter)
    changes = [*compare(stored, requested), *_data_change(state, images)]
    check_changes(changes, allow_change)
    settings = _with_changes(stored, changes)
    session = build_session(settings, images, join(settings.device))
    with RunDir.open(out, settings.checkpointing) as run:
        cut = run.rewind(checkpoint)
        step, total = state["steps_done"], session.plan.total_steps
        if step >= total and not changes:
            reporter.say(f"{out}: finished already, {step} of {total} steps; --epochs goes on")
        what = {change.key: f"{change.old} -> {change.new}" for change in changes}
        run.log(step, {"checkpoint": checkpoint.path.name, "records_cut": cut, **what}, context="resume")
        reporter.say(f"{out}: going on at step {step} of {total}")
        return _train(session, run, reporter, origins=dict(origins), config_files=(), checkpoint=state)


def _train(
    session: Session,
    run: RunDir,
    reporter: Reporter,
    *,
    origins: dict[str, str],
    config_files: Sequence[Path],
    checkpoint: dict[str, Any] | None,
) -> RunSummary:
    settings, total = session.settings, session.plan.total_steps
    with _recorded(run), StopRequest() as stop:
        run.check_free_space(_checkpoint_bytes(session) * 4)  # last, previous, best and the one being written
        params = run_params(
            settings, session.images, output_dir=run.path, origins=origins, config_files=config_files, total_steps=total
        )
        run.write_params(params)
        loop = Loop(session, run, reporter, stop, origins=origins)
        if checkpoint is not None:
            session.trainer.load_state_dict(checkpoint)
            loop.progress |= checkpoint["progress"] | {"total_steps": total}
        run.write_status("running", total_steps=total, global_step=session.trainer.steps_done)
        _announce(session, run, reporter)
        loop.train()
        write_exports(session, run, loop.progress, reporter)
        progress = loop.progress
        summary = RunSummary(
            run.path, session.trainer.steps_done, progress["epoch"], progress["best"], progress["knn"],
            progress["knn_untrained"], progress["knn_pixels"], progress["seconds"],
        )  # fmt: skip
        run.write_status("done", exit_code=0, message=f"{summary.steps} steps in {duration(summary.seconds)}")
        return summary


@contextmanager
def _recorded(run: RunDir) -> Iterator[None]:
    """Leave the end of a run that fails in status.json."""
    try:
        yield
    except SltDinoError as error:
        run.write_status(
            "stopped" if isinstance(error, StoppedError) else "failed", exit_code=error.exit_code, message=str(error)
        )
        raise
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            run.write_status("failed", exit_code=1, message=f"{type(error).__name__}: {error}")
            raise
        full = ResourceError("out of memory: use a smaller --batch-size with --accumulate-steps, or smaller crops")
        run.write_status("failed", exit_code=full.exit_code, message=str(full))
        raise full from error
    except BaseException as error:
        run.write_status("failed", exit_code=1, message=f"{type(error).__name__}: {error}")
        raise


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(
        words in str(error) for words in ("out of memory", "can't allocate memory", "not enough memory")
    )


def _resume_source(settings: PretrainSettings) -> Path | None:
    """The checkpoint or run folder that `--resume` names; None to start anew."""
    asked = settings.resume_from
    if asked is None:
        return None
    out = output_dir(settings)
    if asked in ("auto", "must"):
        if has_checkpoint(out):
            return out
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
    return source


def _scan(settings: PretrainSettings, out: Path, reporter: Reporter) -> ImageFolder:
    for folder in settings.train_dir:
        if out.resolve().is_relative_to(folder.resolve()) and folder.is_dir():
            raise SettingsError(f"--output-dir: {out} lies inside the training folder {folder}; choose another place")
    images = scan(settings.train_dir)
    for warning in images.warnings:
        reporter.say(f"warning: {warning}")
    if images.other_formats:
        counted = ", ".join(f"{count:,} {suffix or 'without suffix'}" for suffix, count in images.other_formats.items())
        reporter.say(f"not read: {counted} (PNG, JPEG, BMP and TIFF are)")
    return images


def _data_change(state: dict[str, Any], images: ImageFolder) -> list[Change]:
    before = state["images"]
    if before["fingerprint"] == images.fingerprint:
        return []
    old, new = (f"{count:,} images, listing {digest[:8]}" for count, digest in (
        (before["count"], before["fingerprint"]), (len(images), images.fingerprint)))  # fmt: skip
    return [Change("train_dir", "trajectory", old, new)]


def _with_changes(stored: PretrainSettings, changes: Sequence[Change]) -> PretrainSettings:
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


def _checkpoint_bytes(session: Session) -> int:
    """Student, teacher and AdamW's two moments, in float32."""
    return 16 * sum(parameter.numel() for parameter in session.trainer.model.student.parameters())


def _announce(session: Session, run: RunDir, reporter: Reporter) -> None:
    settings, vit, plan = session.settings, session.settings.vit, session.plan
    size = sum(parameter.numel() for parameter in session.trainer.model.student.backbone.parameters())
    reporter.say(
        f"{settings.algorithm} on {len(session.images):,} images of {settings.stream}: ViT of width {vit.embed_dim}, "
        f"depth {vit.depth}, patch {vit.patch_size} ({size / 1e6:.1f} M parameters), "
        f"{settings.head.out_dim} prototypes, {plan.total_steps:,} steps of {plan.images_per_step} images "
        f"on {session.world.device}; {run.path}"
    )
