"""What a run changes by itself against a collapse, while it goes on: a few settings, a few times."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sltdino.core.run_dir import RunDir
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_schema import BY_KEY, flatten, nest
from sltdino.errors import CollapsedError
from sltdino.pretraining.progress import Reporter
from sltdino.pretraining.session import Session, adapt_trainer
from sltdino.pretraining.watch import RunWatch
from sltdino.training.health import Finding

MOST = 3
"""Interventions, and then the run ends: what is wrong with it is something else."""


class Change(NamedTuple):
    """A setting that is changed, by its dotted key."""

    knob: str
    old: float
    new: float


class Interventions:
    """The changes that a run has made to itself, in its progress, so that a resumed run has them too.

    It intervenes where `--on-collapse stop` would end the run, and once well before against a loss that stays at ln K,
    which may fall by itself: to change a setting costs less than to end a run. No setting gets a value again that did
    not help. When and what follows from the recorded metrics alone.

    Args:
        progress: the run's, with `changed_at` and `interventions`.
    """

    def __init__(
        self, session: Session, run: RunDir, reporter: Reporter, watch: RunWatch, progress: dict[str, Any]
    ) -> None:
        self.session, self.run, self.reporter = session, run, reporter
        self.watch, self.progress = watch, progress

    @property
    def settings(self) -> PretrainSettings:
        """The run's, as they are in force now."""
        return adapted(self.session.settings, self.progress["interventions"])

    def take_up(self) -> None:
        """Go on under the changes that were made before the run was resumed."""
        self.watch.replay(self.progress["interventions"])
        if self.progress["interventions"]:
            adapt_trainer(self.session, self.settings)

    def refuse_collapsed(self, step: int) -> None:
        """Refuse to go on with a run that was ended for a collapse while its settings are what they were.

        Raises:
            CollapsedError: with what may help. The checkpoint stands.
        """
        finding = self._lasting(step, may_end=True)
        if finding is not None and self._is_at_its_end(finding):
            raise self.watch.collapsed_error(finding, step, self.session.plan.total_steps, is_resumed=True)

    def against_collapse(self, step: int) -> CollapsedError | None:
        """Intervene where a collapse has lasted; or the error that ends the run, once saved."""
        finding = self._lasting(step, may_end=False)
        if finding is not None and not self._is_at_its_end(finding):
            self._intervene(step, finding)
            return None
        finding = self._lasting(step, may_end=True)
        if finding is None:
            return None
        return self.watch.collapsed_error(finding, step, self.session.plan.total_steps, after=len(self._steps()))

    def _lasting(self, step: int, *, may_end: bool) -> Finding | None:
        total, steps = self.session.plan.total_steps, self._steps()
        if step >= total or self.session.settings.on_collapse == "ignore":
            return None
        return self.watch.lasting(
            step, total, changed_at=self.progress["changed_at"], acted_at=max(steps) if steps else None, may_end=may_end
        )

    def _is_at_its_end(self, finding: Finding) -> bool:
        """Whether nothing is left to try. What was tried before somebody changed the settings counts no more."""
        is_over = self.session.settings.on_collapse == "stop" or len(self._steps()) >= MOST
        return is_over or not self._changes(finding)

    def _made(self) -> list[dict[str, Any]]:
        """Rows of interventions, without those from before somebody changed the settings."""
        return [row for row in self.progress["interventions"] if row["step"] >= self.progress["changed_at"]]

    def _steps(self) -> set[int]:
        return {row["step"] for row in self._made()}

    def _changes(self, finding: Finding) -> list[Change]:
        """What is still to be changed against the finding."""
        values = flatten(self.settings.model_dump())
        tried = {(row["knob"], row["old"]) for row in self._made()}
        return [
            Change(key, values[key], new) for key, new in finding.live if values[key] != new and (key, new) not in tried
        ]

    def _intervene(self, step: int, finding: Finding) -> None:
        changes = self._changes(finding)
        rows = [{"step": step, "finding": finding.name, **change._asdict()} for change in changes]
        self.progress["interventions"] = [*self.progress["interventions"], *rows]
        number = len(self._steps())
        for row in rows:
            self.run.log(step, {key: row[key] for key in row if key != "step"} | {"number": number},
                         context="intervention")  # fmt: skip
        said = ", ".join(f"{BY_KEY[knob].flag} from {_shown(old)} to {_shown(new)}" for knob, old, new in changes)
        self.reporter.warn(f"step {step}: against {finding.name}: {said} (intervention {number} of at most {MOST})")
        adapt_trainer(self.session, self.settings)
        self.watch.watch.adapt(self.progress["interventions"])


def _shown(value: float) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else f"{value:g}"


def adapted(settings: PretrainSettings, interventions: Iterable[Mapping[str, Any]]) -> PretrainSettings:
    """The settings after the interventions, of which the later ones count."""
    changed = {row["knob"]: row["new"] for row in interventions}
    return PretrainSettings.model_validate(nest(flatten(settings.model_dump()) | changed)) if changed else settings


def without(interventions: Iterable[Mapping[str, Any]], changed: Iterable[str]) -> list[Mapping[str, Any]]:
    """The interventions that stand after somebody changed settings: a given value replaces an adapted one."""
    keys = set(changed)
    return [row for row in interventions if row["knob"] not in keys]
