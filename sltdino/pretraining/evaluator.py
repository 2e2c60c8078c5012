"""Evaluation while training: measure the teacher's features, record them, and say which epoch is best."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sltdino.core.run_dir import RunDir
from sltdino.core.settings_base import known
from sltdino.errors import DivergedError
from sltdino.pretraining.initial import start_name
from sltdino.pretraining.progress import Reporter
from sltdino.pretraining.session import Session
from sltdino.training.health import Finding

SAID = {
    "rankme": ("RankMe", ".1f"), "feature_std": ("feature std", ".2f"), "clip_retrieval": ("same clip", ".1%"),
}  # fmt: skip
"""Name and format of the label-free measures that the progress line has room for; `inspect` shows all."""


class Evaluator:
    """Judges the teacher's backbone at the start, at intervals and at the end; it leaves training as it is.

    Args:
        progress: the run's, in which it keeps what it found: what stands there goes into every checkpoint.
        on_bad: called with path, reason and use of each image that cannot be read.
    """

    PROGRESS: Mapping[str, Any] = {
        "knn_untrained": None, "knn_pixels": None, "knn": None, "measures_untrained": None, "measures": None,
        "clip_retrieval_pixels": None, "judged_on": None,
    }  # fmt: skip
    """What a run has found before it starts."""

    def __init__(
        self,
        session: Session,
        run: RunDir,
        reporter: Reporter,
        progress: dict[str, Any],
        *,
        on_bad: Callable[[str, str, str], None],
    ) -> None:
        self.settings, self.probes, self.plan = session.settings, session.probes, session.plan
        self.trainer, self.device = session.trainer, session.world.device
        self.run, self.reporter, self.progress, self.on_bad = run, reporter, progress, on_bad

    def start(self) -> None:
        """Measure what every later number is compared with: the network as it starts, and raw pixels.

        Raises:
            DataError, DivergedError: as `evaluate`.
        """
        self._forget_other_images()
        knn, clips = self.probes.knn, self.probes.label_free.clips
        if knn is not None and self.progress["knn_pixels"] is None:
            self.progress["knn_pixels"] = knn.pixel_accuracy()
        if clips.paths and self.progress["clip_retrieval_pixels"] is None:
            self.progress["clip_retrieval_pixels"] = self.probes.label_free.pixel_retrieval()
        if self.trainer.steps_done == 0:
            self.evaluate(0)
            self.progress |= {"knn_untrained": self.progress["knn"], "measures_untrained": self.progress["measures"]}

    def is_due(self, step: int) -> bool:
        """Whether the network is to be judged after this step."""
        every = self.plan.evaluation_steps(known(self.settings.evaluation.eval_every))
        return step % every == 0 or step == self.plan.total_steps

    def evaluate(self, step: int) -> float | None:
        """Measure, record and say; returns the k-NN accuracy where there are labels.

        Raises:
            DataError: hardly any of the validation images can be read. DivergedError: features are not finite.
        """
        epoch = self.plan.epochs(step)
        backbone, record = self.trainer.model.teacher.backbone, dict[str, Any]({"epoch": epoch})
        try:
            measures = self.probes.label_free.measure(backbone, self.device)
        except DivergedError as error:
            way_on = "lower --learning-rate, then resume from the last checkpoint" if step else "use other weights"
            raise DivergedError(f"epoch {epoch}: the teacher's {error}; {way_on}") from error
        if self.probes.knn is not None:
            self.progress["knn"] = self.probes.knn.accuracy(backbone, self.device)
            record |= {key: self.progress[key] for key in ("knn", "knn_pixels")}
            record["protocol"] = self.probes.knn.protocol
        record |= measures
        if "clip_retrieval" in measures and self.progress["clip_retrieval_pixels"] is not None:
            record["clip_retrieval_pixels"] = self.progress["clip_retrieval_pixels"]
        self._record_bad()
        self.progress["measures"] = measures
        record |= {"sample": self.probes.label_free.sample, "judged_on": self.probes.judged_on}
        self.run.log(step, record, context="eval")
        said = filter(None, (self._knn_said(), self._measures_said()))
        self.reporter.say(f"epoch {epoch}: {'; '.join(said) or 'no image of the sample can be read'}")
        return record.get("knn")

    def is_best(self, step: int, loss: float, knn: float | None, *, collapsed: bool) -> bool:
        """Best by k-NN where there are labels, else by the epoch's loss. The first of equals.

        Never a collapsed epoch, nor one whose k-NN is below that of what the run started with.

        Without labels no measure takes the place of the loss: RankMe was shown to compare finished runs of different
        settings (Garrido et al. 2023). Within one of ten epochs on hand photos it rose to the last, as the loss fell,
        while k-NN was highest after a third.
        """
        if collapsed or (self.probes.knn is not None and knn is None):
            return False
        start = self.progress["knn_untrained"]
        if knn is not None and start is not None and knn < start:
            return False
        if knn is None and not self.plan.ends_epoch(step):
            return False  # amid an epoch
        best = self.progress["best"]
        metric, value = ("loss", loss) if knn is None else ("knn", knn)
        comparable = best is not None and best["metric"] == metric  # --val-dir may come with a resume
        if comparable and metric == "loss":
            # a loss under other targets than since the last intervention compares with none
            adapted_at = max((row["step"] for row in self.progress["interventions"]), default=0)
            comparable = best["epoch"] > self.plan.epochs(adapted_at)
        better = not comparable or (value > best["value"] if metric == "knn" else value < best["value"])
        if better:
            self.progress["best"] = {"metric": metric, "value": value, "epoch": self.plan.epochs(step)}
        return better

    def withdraw_best(self, step: int, findings: Iterable[Finding]) -> bool:
        """Whether the best epoch turns out to lie in a collapse, which is told from a beginning only later; then there
        is no best epoch any more. A k-NN accuracy above the start's, once measured, outweighs the date of a finding.
        """
        best, start = self.progress["best"], self.progress["knn_untrained"]
        if best is None or (best["metric"] == "knn" and (start is None or best["value"] > start)):
            return False
        epoch = best["epoch"]
        collapse = next((row for row in findings if row.collapsed and self.plan.epochs(row.since_step) <= epoch), None)
        if collapse is None:
            return False
        self.progress |= {"best": None, "best_loss": None}
        record = {"epoch": epoch, "finding": collapse.name, "since_step": collapse.since_step}
        self.run.log(step, record, context="best_withdrawn")
        self.reporter.warn(
            f"step {step}: epoch {epoch} is no longer the best: it lies in the {collapse.name} since step "
            f"{collapse.since_step}; {self.run.best.name} is removed"
        )
        return True

    def _forget_other_images(self) -> None:
        """Drop what a resumed run has measured on other images, or by other k-NN, than it goes on with."""
        before, now = self.progress["judged_on"], self.probes.judged_on
        self.progress["judged_on"] = now
        if before in (None, now):  # the first versions did not keep it
            return
        self.progress |= {key: value for key, value in self.PROGRESS.items() if key != "judged_on"}
        if self.progress["best"] is not None and self.progress["best"]["metric"] == "knn":
            self.progress["best"] = None
        said = "other images are evaluated, or otherwise, than before: what was measured then is not compared with"
        self.run.notice(said)
        self.reporter.say(said)

    def _record_bad(self) -> None:
        knn, use = self.probes.knn, self.probes.label_free.use
        trained_on = set(map(str, knn.bank.paths)) if knn is not None else set()
        for path, reason in self.probes.unreadable:
            self.on_bad(path, reason, "training" if path in trained_on else use)
        self.probes.unreadable.clear()

    def _knn_said(self) -> str:
        knn, untrained, pixels = (self.progress[key] for key in ("knn", "knn_untrained", "knn_pixels"))
        if self.probes.knn is None:
            return ""
        start = start_name(self.settings)
        if untrained is None:  # this is the start
            return f"k-NN of the {start} {knn:.1%}, of raw pixels {pixels:.1%}"
        return f"k-NN {knn:.1%} ({start} {untrained:.1%}, raw pixels {pixels:.1%})"

    def _measures_said(self) -> str:
        return measures_said(
            self.progress["measures"], self.progress["measures_untrained"] or {},
            clip_pixels=self.progress["clip_retrieval_pixels"],
        )  # fmt: skip


def measures_said(now: Mapping[str, float], start: Mapping[str, float], *, clip_pixels: float | None) -> str:
    """`RankMe 12.0 -> 38.1 of 128, feature std 0.12 -> 0.54`: what is measured, and from what it came."""
    parts = []
    for name in filter(now.__contains__, SAID):
        title, form = SAID[name]
        before = f"{start[name]:{form}} -> " if name in start else ""
        more = f" of {now['rankme_max']}" if name == "rankme" else ""
        if name == "clip_retrieval" and clip_pixels is not None:
            more = f" (raw pixels {clip_pixels:{form}})"
        parts.append(f"{title} {before}{now[name]:{form}}{more}")
    return ", ".join(parts)
