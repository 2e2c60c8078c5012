"""The health watch at work in a run: measure, judge, say it once, and end a run that has collapsed."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from sltdino.core.run_dir import RunDir
from sltdino.core.run_files import read_metrics, read_names, read_params
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_base import known
from sltdino.errors import CollapsedError
from sltdino.pretraining.progress import Reporter
from sltdino.training.health import HEALTHY, STARTING, Finding, watch_of
from sltdino.training.observation import Health, PrototypeUsage, observe
from sltdino.training.trainer import StepResult

_PATIENCE_SHARE, _LEAST_PATIENCE, _MOST_PATIENCE = 0.05, 100, 1000
"""Share of a run, and steps, that a collapse must last before something is done."""
_LATE_PATIENCE_SHARE = 0.5
"""Before the run is ended, where all that is wrong is a loss at ln K: on hand photos in batches of 8, one rose from
there at 45 % of its run."""


class RunWatch:
    """The watch over a run that is going on.

    Its judgement is made of the recorded metrics and the interventions alone, and is made again from them by `replay`
    when the run is resumed. Only which prototypes were used lately is state of its own: `state_dict` has it for the
    checkpoint.

    Args:
        run: with its params.json written and its metrics cut back to where the run goes on.
        first_step: steps done before.
    """

    def __init__(
        self, settings: PretrainSettings, run: RunDir, reporter: Reporter, *, device: str, first_step: int
    ) -> None:
        watch = watch_of(read_params(run.path))
        assert watch is not None, "params.json of a run that is going on has its settings"
        self.settings, self.run, self.reporter, self.watch = settings, run, reporter, watch
        self.usage = PrototypeUsage(known(settings.head.out_dim), first_step=first_step, device=device)
        self.findings: tuple[Finding, ...] = ()
        """In force after the last record."""
        self.health: Health | None = None
        """Of the last step that was recorded here."""
        self._judged_at = 0

    def replay(self, interventions: Sequence[Mapping[str, Any]]) -> None:
        """Judge the recorded steps as they were judged, each under the interventions that had been made before it."""
        in_force = 0
        for record in read_metrics(self.run.path, read_names(self.run.path).history_file):
            if record.get("context") == "train_step" and isinstance(step := record.get("step"), int):
                made = [row for row in interventions if row["step"] < step]
                if len(made) != in_force:
                    self.watch.adapt(made)
                    in_force = len(made)
                self.findings, self._judged_at = self.watch.feed(step, record), step
        self.watch.adapt(interventions)

    @property
    def verdict(self) -> str:
        """The name of the worst finding in force, or `healthy`."""
        return self.findings[0].name if self.findings else HEALTHY

    @property
    def is_collapsed(self) -> bool:
        """Whether the network is worth nothing as it is; one that only looks so at its beginning is neither."""
        return self.watch.looks_collapsed or any(finding.collapsed for finding in self.findings)

    def see(self, step: int, result: StepResult) -> None:
        """Take part in every step, without waiting for the device."""
        self.usage.see(step, result.scores_MK)

    def measure(self, step: int, result: StepResult) -> dict[str, float]:
        """What the record of a step says for the watch. Synchronises the device."""
        self.health = observe(result, student_temp=self.settings.loss.student_temp)
        used = self.usage.count(step, window=self.watch.usage_window)
        return {**self.health._asdict(), **({} if used is None else {"prototypes_used": used})}

    def judge(self, step: int, record: Mapping[str, Any]) -> str:
        """Judge a `train_step` record, tell of findings that begin or end, and return the verdict's name."""
        before, self.findings, self._judged_at = self.findings, self.watch.feed(step, record), step
        for finding in _missing_in(before, self.findings):
            self.reporter.warn(f"step {step}: {finding.name}: {finding.text}; {finding.remedy}")
        for finding in _missing_in(self.findings, before):
            self.reporter.say(f"step {step}: {finding.name} is over; it began at step {finding.since_step}")
        return self.verdict

    def lasting(
        self, step: int, total_steps: int, *, changed_at: int, acted_at: int | None, may_end: bool
    ) -> Finding | None:
        """The collapse that has lasted for so long that something is to be done; None: there is none.

        Args:
            changed_at: step of the last change of the settings, which gives a run its beginning anew; 0: none.
            acted_at: step since then of the last intervention, which has as long to work, and as long again.
            may_end: the run is about to be ended for it. For that, and for more than one intervention, a loss that only
                stays at ln K has to last longer, since it may fall by itself.
        """
        if acted_at is not None and self._judged_at <= acted_at:
            return None  # what is advised is still that from before the intervention
        short = min(_MOST_PATIENCE, max(_LEAST_PATIENCE, round(_PATIENCE_SHARE * total_steps)))
        late = max(short, round(_LATE_PATIENCE_SHARE * total_steps))
        judged_from = changed_at + self.watch.grace_steps
        begun_at = judged_from if acted_at is None else acted_at + short
        for finding in self.findings:
            is_short = step - max(finding.since_step, begun_at) < short
            is_early = step - max(finding.since_step, judged_from) < late
            waits = finding.may_start_late and (may_end or acted_at is not None)
            if finding.collapsed and not is_short and not (waits and is_early):
                return finding
        return None

    def collapsed_error(
        self, finding: Finding, step: int, total_steps: int, *, after: int = 0, is_resumed: bool = False
    ) -> CollapsedError:
        """The error that ends the run, once saved.

        Args:
            after: interventions that were made against it.
            is_resumed: no step was made since it was saved.
        """
        done = "nothing that would help has changed, so no step was made" if is_resumed else "saved"
        tried = f", after {after} intervention{'' if after == 1 else 's'} of its own" if after else ""
        return CollapsedError(
            f"{finding.name} at step {step} of {total_steps}{tried}: {finding.text}; {done}. "
            f"What may help: {finding.remedy}. {self._ways_on(finding)}"
        )

    def _ways_on(self, finding: Finding) -> str:
        """Commands: with the first remedy that a run can go on with, and without any."""
        resume = ["sltdino", "resume", str(self.run.path)]
        as_it_is = f"To go on as it is: {shlex.join(resume)} --on-collapse ignore"
        if not finding.flags:
            return as_it_is
        names = [word.removeprefix("--") for word in finding.flags if word.startswith("--")]
        changed = [*resume, *finding.flags, "--allow-change", ",".join(names)]
        return f"To go on with that: {shlex.join(changed)} ; {as_it_is}"  # a shell takes the `;` for its own

    def state_dict(self) -> dict[str, Any]:
        """What the recorded metrics do not hold."""
        return {"used_at_K": self.usage.used_at_K, "first_step": self.usage.first_step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        used_at_K: Tensor = state["used_at_K"]
        self.usage.used_at_K.copy_(used_at_K)
        self.usage.first_step = state["first_step"]


def _missing_in(these: Iterable[Finding], those: Iterable[Finding]) -> list[Finding]:
    """Findings of `those` that are not among `these`; a run that starts is no news."""
    names = {finding.name for finding in these}
    return [finding for finding in those if finding.name not in names and finding.name != STARTING]
