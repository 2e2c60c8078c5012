"""Start a run, or go on with one."""

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sltdino.core.auto import settle
from sltdino.core.distributed import join
from sltdino.core.memory import keep_freed_memory
from sltdino.core.run_dir import RunDir, State
from sltdino.core.run_files import PARAMS, LoadedCheckpoint, read_params, stored_settings
from sltdino.core.run_place import other_files
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_files import LoadedSettings, load_settings
from sltdino.core.settings_schema import flatten, with_absolute_paths
from sltdino.core.signals import StopRequest
from sltdino.core.trackers import refuse_missing
from sltdino.errors import CollapsedError, SltDinoError, StoppedError
from sltdino.pretraining.advice import others_text
from sltdino.pretraining.finish import check_exports, write_exports
from sltdino.pretraining.initial import read_initial, say_start, start_warning
from sltdino.pretraining.interventions import without
from sltdino.pretraining.length import UNTIMED, time_length
from sltdino.pretraining.loop import Loop
from sltdino.pretraining.outcome import RunSummary, next_commands, outcome, summary_of
from sltdino.pretraining.params import run_params
from sltdino.pretraining.probes import evaluation_plan
from sltdino.pretraining.progress import Reporter, Silent
from sltdino.pretraining.session import COPIES, Session, build_session, checkpoint_bytes, with_length
from sltdino.pretraining.start import (
    asked_for,
    check_same_state,
    continuation,
    load_resumable,
    out_of_memory_said,
    output_dir,
    overwrites,
    refuse_folder,
    scan_images,
)
from sltdino.pretraining.tracking import open_trackers, trackers_closed
from sltdino.report.text.page import counted, duration


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
    reporter, begun = reporter or Silent(), time.monotonic()
    checkpoint = asked_for(settings)
    if checkpoint is not None:
        return _go_on(
            checkpoint, settings, allow_change=(), origins=origins or {}, config_files=config_files, reporter=reporter
        )
    refuse_missing(settings.track)
    world = join(settings.device)
    out = output_dir(settings)
    settings = with_absolute_paths(settings)
    initial = read_initial(settings)
    images = scan_images(settings, out, reporter)
    network, weights = (None, None) if initial is None else (initial.network, initial.imported)
    settle_for = partial(settle, settings, num_images=len(images), world_size=world.size, initial=network)
    settled = settle_for(length=None if settings.train_minutes is None else UNTIMED)
    with out_of_memory_said():
        session = build_session(settled.settings, images, world, initial=weights)
        if settings.train_minutes is not None:
            refuse_folder(out, settings)
            length = time_length(settings, session, reporter, begun=begun)
            settled = settle_for(length=length)
            session = with_length(session, settled.settings)
            reporter.say(f"{length.source}: {counted(session.plan.total_steps, 'step')}")
    with RunDir.create(out, settings.checkpointing, overwrite=overwrites(settings)) as run:
        record = run_params(
            session.settings, images, output_dir=out, origins={**(origins or {}), **settled.origins},
            config_files=[str(path) for path in config_files], total_steps=session.plan.total_steps,
        )  # fmt: skip
        if others := other_files(out, settings.checkpointing):
            reporter.warn(others_text(out, others))
        if warning := start_warning(settings):
            reporter.warn(f"{warning}; --init-from dinov2_vits14_reg4_pretrain.pth")
        if initial is not None:
            record["initial_weights"] = {**initial.record, "adapted": session.adapted}
        return _train(session, run, reporter, params=record)


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
    checkpoint = load_resumable(run, fallback=fallback)
    stored = LoadedSettings(stored_settings(checkpoint), checkpoint.state["origins"])
    requested = load_settings(files=files, sets=sets, flags=flags, base=stored)
    return _go_on(
        checkpoint,
        requested.settings,
        allow_change=(*allow_change, "epochs"),
        origins=requested.origins,
        config_files=files,
        reporter=reporter or Silent(),
    )


def _go_on(
    checkpoint: LoadedCheckpoint,
    requested: PretrainSettings,
    *,
    allow_change: Sequence[str],
    origins: Mapping[str, str],
    config_files: Sequence[Path],
    reporter: Reporter,
) -> RunSummary:
    state, out = checkpoint.state, checkpoint.path.parent
    requested = with_absolute_paths(requested)
    images = scan_images(requested, out, reporter)
    world = join(requested.device)
    settings, changes, step, finished = continuation(
        checkpoint, requested, images, allow_change=allow_change, world_size=world.size
    )
    if finished:
        longer = f"sltdino resume {shlex.quote(str(out))} --epochs N"
        reporter.say(f"{out}: finished already, {step} of {step} steps; to train longer: {longer}")
        return summary_of(out, step, state["progress"])
    refuse_missing(settings.track)
    with out_of_memory_said():
        session = build_session(settings, images, world, is_resumed=True)
    check_same_state(state, session.trainer.objective)
    total = session.plan.total_steps
    with RunDir.open(out, session.settings.checkpointing) as run:
        cut = run.rewind(checkpoint)
        if checkpoint.path.name == run.previous.name:
            run.notice(f"went on from {run.previous.name}, at step {step}, in the place of {run.last.name}")
            reporter.warn(f"{run.last.name} was passed over; going on from {run.previous.name}")
        what = {change.key: f"{change.old} -> {change.new}" for change in changes}
        resumed = {"checkpoint": checkpoint.path.name, "records_cut": cut, **what}
        reporter.say(f"{out}: going on at step {step} of {total}")
        made = state["progress"].get("interventions", [])  # the first versions made none
        if any(change.kind == "trajectory" for change in changes):
            state["progress"] |= {"changed_at": step, "interventions": without(made, (row.key for row in changes))}
        earlier = read_params(out) if (out / PARAMS).exists() else {}
        record = run_params(
            session.settings, images, output_dir=out, origins={**state["origins"], **origins},
            config_files=[*earlier.get("config_file", []), *map(str, config_files)], total_steps=total,
        )  # fmt: skip
        record["resume"] = str(checkpoint.path)
        record |= {key: earlier[key] for key in ("timestamp", "initial_weights") if key in earlier}
        return _train(session, run, reporter, params=record, checkpoint=state, resumed=resumed)


def _train(
    session: Session,
    run: RunDir,
    reporter: Reporter,
    *,
    params: dict[str, Any],
    checkpoint: dict[str, Any] | None = None,
    resumed: Mapping[str, Any] | None = None,
) -> RunSummary:
    """Train to the end; `resumed` is the record that a run which goes on begins with."""
    keep_freed_memory()
    with trackers_closed(run), _recorded(run), StopRequest() as stop:
        run.check_free_space(COPIES * checkpoint_bytes(session.trainer.model))
        run.write_params(params)
        check_exports(session.settings, run, reporter)
        if checkpoint is not None:
            session.trainer.load_state_dict(checkpoint)
        loop = Loop(session, run, reporter, stop, origins=params["origins"])
        if checkpoint is not None:
            if "watch" in checkpoint:  # the first versions did not count what is used
                loop.watch.load_state_dict(checkpoint["watch"])
            loop.progress |= checkpoint["progress"] | {"total_steps": session.plan.total_steps}
            loop.interventions.take_up()
            loop.interventions.refuse_collapsed(session.trainer.steps_done)
        run.write_status("running", total_steps=session.plan.total_steps, global_step=session.trainer.steps_done)
        _announce(session, run, reporter, params["origins"])
        open_trackers(run, session.settings, reporter, steps_done=session.trainer.steps_done)
        if resumed is not None:
            run.log(session.trainer.steps_done, resumed, context="resume")
        if session.adapted:
            run.notice(f"started from {session.settings.init_from}: {'; '.join(session.adapted)}")
        loop.train()
        write_exports(session, run, loop.progress, reporter)
        summary = summary_of(run.path, session.trainer.steps_done, loop.progress)
        run.write_status("done", exit_code=0, message=f"{summary.steps} steps in {duration(summary.seconds)}")
        said = outcome(summary, session.settings, loop.watch.health, loop.watch.findings)
        run.trackers.text("run/outcome", said, step=summary.steps)
        reporter.say(said)
        reporter.say(next_commands(session.settings, run.path))
        return summary


@contextmanager
def _recorded(run: RunDir) -> Iterator[None]:
    """Leave the end of a run that fails in status.json."""
    try:
        with out_of_memory_said():
            yield
    except (StoppedError, CollapsedError) as error:
        _leave(run, error, "stopped", error.exit_code, str(error))
        raise
    except SltDinoError as error:
        _leave(run, error, "failed", error.exit_code, str(error))
        raise
    except BaseException as error:
        _leave(run, error, "failed", 1, f"{type(error).__name__}: {error}")
        raise


def _leave(run: RunDir, error: BaseException, state: State, exit_code: int, message: str) -> None:
    try:
        run.write_status(state, exit_code=exit_code, message=message)
    except SltDinoError as second:  # on a full disk, what happened first is what the user must hear
        error.add_note(f"status.json does not say so: {second}")


def _announce(session: Session, run: RunDir, reporter: Reporter, origins: Mapping[str, str]) -> None:
    settings, vit, plan = session.settings, session.settings.vit, session.plan
    size = sum(parameter.numel() for parameter in session.trainer.model.student.backbone.parameters())
    reporter.say(
        f"{settings.algorithm} on {len(session.images):,} images of {settings.stream}: ViT of width {vit.embed_dim}, "
        f"depth {vit.depth}, patch {vit.patch_size} ({size:,} parameters), "
        f"{settings.head.out_dim} prototypes, {plan.total_steps:,} steps of {plan.images_per_step} images "
        f"on {session.world.device}; {run.path}"
    )
    reporter.say(f"evaluation {evaluation_plan(settings, session.probes)}")
    values = flatten(settings.model_dump())
    for key, origin in origins.items():
        if origin.startswith("auto: "):
            reporter.detail(f"{key} = {values[key]} ({origin})")
    if not session.trainer.steps_done:
        say_start(settings, origins, session.adapted, reporter)
