"""The loop around the step: log, watch, evaluate, save, stop."""

import shlex
import time
from typing import Any

from sltdino.core.environment import environment
from sltdino.core.machine import workers_or_default
from sltdino.core.run_dir import RunDir
from sltdino.core.run_files import read_bad_images
from sltdino.core.settings import PretrainSettings
from sltdino.core.signals import StopRequest
from sltdino.data.batches import LoadedBatch
from sltdino.data.loader import build_loader
from sltdino.errors import StoppedError
from sltdino.pretraining.evaluator import Evaluator
from sltdino.pretraining.interventions import Interventions
from sltdino.pretraining.progress import Reporter
from sltdino.pretraining.sample import NAMED, too_many_bad
from sltdino.pretraining.session import Session
from sltdino.pretraining.tracking import show_crops
from sltdino.pretraining.watch import RunWatch
from sltdino.training.trainer import StepResult
from sltdino.types import Batch


class Loop:
    """A run from the trainer's step to its last one.

    `progress` is the part of a checkpoint that says how far the run is and what it has found; plain values only.
    """

    def __init__(
        self, session: Session, run: RunDir, reporter: Reporter, stop: StopRequest, *, origins: dict[str, str]
    ) -> None:
        self.session, self.run, self.reporter, self.stop, self.origins = session, run, reporter, stop, origins
        self.settings: PretrainSettings = session.settings
        self.trainer, self.plan = session.trainer, session.plan
        self.progress: dict[str, Any] = {
            "epoch": 0, "step_in_epoch": 0, "global_step": 0, "total_steps": self.plan.total_steps,
            "epoch_loss_sum": 0.0, "best": None, "best_loss": None, "collapsed_epochs": 0, "seconds": 0.0,
            "changed_at": 0, **Evaluator.PROGRESS, "interventions": [],
        }  # fmt: skip
        self.watch = RunWatch(
            session.settings, run, reporter, device=session.world.device, first_step=session.trainer.steps_done
        )
        self.interventions = Interventions(session, run, reporter, self.watch, self.progress)
        self.evaluator = Evaluator(session, run, reporter, self.progress, on_bad=self._record_bad)
        self._bad_training = [
            (str(record.get("path")), str(record.get("reason")))
            for record in read_bad_images(run.path)
            if record.get("use") != "validation"
        ]
        self._environment = environment()  # asks git, so once a run and not once a save
        self._saved_at = time.monotonic()

    def train(self) -> None:
        """Train to the end.

        Raises:
            StoppedError: a signal asked to stop; the run was saved.
            CollapsedError: nothing was learned for long; the run was saved.
            DivergedError, DataError, ResourceError, StorageError: the last checkpoint stands.
        """
        self.evaluator.start()
        settings, first = self.settings.dataset, self.trainer.steps_done
        loader = build_loader(
            self.session.batches,
            first_step=first,
            last_step=self.plan.total_steps,
            num_workers=num_workers(self.settings),
            pin_memory=settings.pin_memory,
        )
        before = time.monotonic()
        logged_at, logged_step, waited = before, first, 0.0
        try:
            for loaded in loader:
                arrived = time.monotonic()
                waited += arrived - before
                self._count_bad(loaded)
                batches = to_device(loaded, self.session.world.device)
                result = self.trainer.step(batches)
                step = self._advance(result)
                self.watch.see(step, result)
                if self._is_logged(step):
                    now = time.monotonic()
                    self._log(result, steps=step - logged_step, seconds=now - logged_at, waited=waited)
                    logged_at, logged_step, waited = now, step, 0.0
                before = time.monotonic()
                self.progress["seconds"] += before - arrived
                if step == first + 1 or self.evaluator.is_due(step):
                    show_crops(self.run, self.settings, batches[0], step=step)
                self._after_step(step)
                now = time.monotonic()  # to evaluate and to save is neither a step's time nor a wait for data
                logged_at, before = logged_at + now - before, now
        finally:
            loader.close()

    def _after_step(self, step: int) -> None:
        """What may take long and is not part of a step's time."""
        withdrawn = self.evaluator.withdraw_best(step, self.watch.findings)
        collapse = self.interventions.against_collapse(step)
        if self._is_judged(step):
            self._judge(step, withdrawn=withdrawn)
        elif withdrawn or collapse or self.stop.requested or self._is_save_due():
            self._save(best=False, withdrawn=withdrawn)
        if collapse:
            raise collapse
        if self.stop.requested and step < self.plan.total_steps:
            raise StoppedError(
                f"{self.stop.requested} at step {step} of {self.plan.total_steps}; saved. "
                f"Continue with: sltdino resume {shlex.quote(str(self.run.path))}",
                exit_code=self.stop.exit_code,
            )

    def _is_save_due(self) -> bool:
        return time.monotonic() - self._saved_at > 60 * self.settings.checkpointing.save_every_minutes

    def _count_bad(self, loaded: LoadedBatch) -> None:
        for path, reason in loaded.bad:
            self._record_bad(path, reason, "training")
        num_bad, num_images = len(self._bad_training), len(self.session.images)
        allowed = self.settings.dataset.max_bad_fraction
        if loaded.bad and num_bad > allowed * num_images:
            then = f"those found so far are listed in {self.run.path / 'bad_images.jsonl'}"
            raise too_many_bad(self._bad_training, num_images=num_images, allowed=allowed, then=then)

    def _record_bad(self, path: str, reason: str, use: str) -> None:
        if self.run.record_bad_image(path, reason, use=use):
            count = self.run.num_bad_images
            tell = self.reporter.warn if count <= NAMED else self.reporter.detail
            more = "; further ones are listed in bad_images.jsonl" if count == NAMED else ""
            tell(f"skipped {path!a}: {reason}{more}")
            if use == "training":
                self._bad_training.append((path, reason))

    def _advance(self, result: StepResult) -> int:
        step = self.trainer.steps_done
        epoch, step_in_epoch = divmod(step, self.plan.steps_per_epoch)
        self.progress |= {"epoch": epoch, "step_in_epoch": step_in_epoch, "global_step": step}
        self.progress["epoch_loss_sum"] += result.metrics["loss"].item()
        return step

    def _is_logged(self, step: int) -> bool:
        return step % self.settings.log_interval == 0 or self._is_judged(step)

    def _is_judged(self, step: int) -> bool:
        return self.plan.ends_epoch(step) or self.evaluator.is_due(step)

    def _log(self, result: StepResult, *, steps: int, seconds: float, waited: float) -> None:
        step = self.trainer.steps_done
        schedules, index = self.trainer.schedules, step - 1
        per_second = steps / max(seconds, 1e-9)
        metrics: dict[str, float | str] = {
            **{name: value.item() for name, value in result.metrics.items()},
            "epoch": index // self.plan.steps_per_epoch + 1,
            "epoch_step": index % self.plan.steps_per_epoch + 1,
            "learning_rate": schedules.learning_rate(index),
            "weight_decay": schedules.weight_decay(index),
            "teacher_momentum": schedules.teacher_momentum(index),
            "teacher_temp": schedules.teacher_temp(index),
            **self.watch.measure(step, result),
            "images_per_second": per_second * self.plan.images_per_step,
            "data_wait": waited / max(seconds, 1e-9),
            "eta_seconds": (self.plan.total_steps - step) / per_second,
        }
        metrics["health"] = self.watch.judge(step, metrics)
        self.run.log(step, metrics, context="train_step")
        self.reporter.step(step, self.plan.total_steps, metrics)

    def _judge(self, step: int, *, withdrawn: bool) -> None:
        """At the end of an epoch or where an evaluation is due, which may be amid one."""
        rest = step % self.plan.steps_per_epoch
        loss = self.progress["epoch_loss_sum"] / (rest or self.plan.steps_per_epoch)
        is_collapsed = self.watch.is_collapsed  # a step that is judged is always logged
        if self.plan.ends_epoch(step):
            self._end_epoch(step, loss, is_collapsed=is_collapsed)
        knn = self.evaluator.evaluate(step) if self.evaluator.is_due(step) else None
        is_best = self.evaluator.is_best(step, loss, knn, collapsed=is_collapsed)
        if is_best:
            self.run.log(step, {"loss": loss, **self.progress["best"]}, context="train_best")
        self._save(best=is_best, withdrawn=withdrawn, loss=loss)

    def _end_epoch(self, step: int, loss: float, *, is_collapsed: bool) -> None:
        epoch, rest = divmod(step, self.plan.steps_per_epoch)
        if not rest:  # else the run may be made longer, and the epoch go on
            self.progress["epoch_loss_sum"] = 0.0
        number = epoch + (rest > 0)
        self.run.log(step, {"loss": loss, "epoch": number, "health": self.watch.verdict}, context="train_epoch")
        if is_collapsed:
            self.progress["collapsed_epochs"] += 1
        elif self.progress["best_loss"] is None or loss < self.progress["best_loss"]:
            self.progress["best_loss"] = loss

    def _save(self, *, best: bool, withdrawn: bool, loss: float | None = None) -> None:
        state = {
            **self.trainer.state_dict(),
            "watch": self.watch.state_dict(),
            "progress": self.progress,
            "settings": self.settings.model_dump(mode="json"),
            "origins": self.origins,
            "images": {"count": len(self.session.images), "fingerprint": self.session.images.fingerprint},
            "environment": self._environment,
        }
        self.run.publish_checkpoint(
            state, best=best, withdrawn=withdrawn, epoch=self.progress["epoch"], loss=loss,
            global_step=self.progress["global_step"], total_steps=self.plan.total_steps,
        )  # fmt: skip
        self._saved_at = time.monotonic()


def to_device(loaded: LoadedBatch, device: str) -> list[Batch]:
    """The batches of a step, where they are computed with."""
    return [Batch(*(tensor.to(device, non_blocking=True) for tensor in batch)) for batch in loaded.batches]


def num_workers(settings: PretrainSettings) -> int:
    """Loader processes: as asked, or as many as this process may use cores, at most 8."""
    asked = settings.dataset.num_workers
    return workers_or_default(None if asked == "auto" else asked)
