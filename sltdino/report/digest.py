"""What the metrics of a run say: read in one pass and constant memory, and on from there as they grow."""

import math
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from sltdino.core.best_epoch import NoBest
from sltdino.core.json_lines import record_of, skim
from sltdino.core.json_tail import LinesTail
from sltdino.report.curves import Curve, Curves, number
from sltdino.training.health import COLLAPSES, HEALTHY, STARTING, Finding, watch_of

CURVES = (
    "loss", "loss_cls", "loss_patch", "loss_koleo", "loss_gap", "grad_norm", "learning_rate", "target_entropy",
    "assignment_entropy", "assignment_kl", "prototypes_used", "feature_spread", "cosine_to_mean", "images_per_second",
    "data_wait", "weight_decay", "teacher_temp", "teacher_momentum",
)  # fmt: skip
"""Fields of the step records that are kept as curves."""
WATCHED_BYTES = 32 << 20
"""The end of the file, some 40,000 records, that the watch judges again. For what lies before, the word that training
wrote down stands: to judge a million records takes longer than to read them, and the watch forgets in hundreds."""
_FORGETS = 500
"""Records after which the watch's word does not depend on what it has not seen."""
_TAKEN = 8
"""Of so many steps before that which say the same, the curves take one."""
_AT_ONCE = 4096
_MOST_STEPS = 1 << 53
_MOST_EPISODES = 50


class Episode(NamedTuple):
    """A finding that came and went."""

    name: str
    since_step: int
    until_step: int
    """The first step at which it was gone."""


class Digest:
    """The metrics of a run. `update` reads what was added, and begins again where the file was cut back.

    Args:
        params: of the run; who watches it depends on its settings.
    """

    def __init__(self, path: Path, params: Mapping[str, Any]) -> None:
        self.path, self._params = path, params
        self._begin()

    def _begin(self) -> None:
        self._tail = LinesTail(self.path)
        self._curves = Curves(CURVES)
        self._steps: list[int] = []
        self._rows: list[list[Any]] = []
        self._watch = watch_of(self._params)
        self._watched_from = 0
        self._unreadable = 0
        self._spent = 0.0
        self._began = self._params.get("timestamp")
        self._last: Mapping[str, Any] = {}
        self._num_skimmed = self._num_watched = 0
        self._since: dict[str, int] = {}
        self.step: dict[str, Any] = {}
        """The last step record."""
        self.losses: list[float] = []
        """Of each finished epoch whose loss is a number."""
        self.epoch_ends: list[tuple[int, int]] = []
        """Every finished epoch and its last step."""
        self.num_epochs = self.collapsed_epochs = 0
        self.evaluations: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.no_best = NoBest()
        """Why there is none, where there is none."""
        self.resumes: list[dict[str, Any]] = []
        self.interventions: list[dict[str, Any]] = []
        """What the run has changed by itself against a collapse, a record for each setting."""
        self.findings: tuple[Finding, ...] = ()
        """Those in force after the last step record, worst first."""
        self.past: deque[Episode] = deque(maxlen=_MOST_EPISODES)
        self.num_past = 0
        self.news: deque[dict[str, Any]] = deque(maxlen=_MOST_EPISODES)
        """What came with the last update, apart from steps: records, and findings under the context `finding`."""

    def update(self) -> bool:
        """Read what was added; whether all was read anew, because a resume had cut the file back.

        Raises:
            StorageError: the file cannot be read.
        """
        if was_cut := self._tail.was_cut():
            self._begin()
        if not self._tail.position:  # what is appended later is always watched
            self._watched_from = max(0, self._tail.size() - WATCHED_BYTES)
        self.news.clear()
        for line in self._tail.read():
            if self._tail.position <= self._watched_from and self._is_passed_over(line):
                continue
            record = record_of(line)
            if record is None or type(step := record.get("step")) is not int or not _is_sound(step, record):
                self._unreadable += 1
                continue
            if record.get("context") == "train_step":
                self._feed(step, record)
            else:
                self._feed_event(step, record)
            self._last = record
        self._flush()
        return was_cut

    @property
    def unreadable(self) -> int:
        """Lines that are torn or no records."""
        return self._tail.too_long + self._unreadable + self._tail.is_torn

    def curve(self, name: str) -> Curve:
        """The curve of one of `CURVES`."""
        return self._curves.of(name)

    def seconds(self) -> float:
        """From the start of the run to its last record, without the time between an end and the resume after it."""
        return self._spent + _seconds(self._began, self._last.get("timestamp"))

    def _is_passed_over(self, line: bytes) -> bool:
        """Whether a line long before the end is one of many steps that say the same, of which the curves take some."""
        record, word = skim(line), next(iter(self._since), HEALTHY)
        if record is None or record.get("context") != "train_step" or record.get("health", HEALTHY) != word:
            return False
        self._num_skimmed += 1
        return self._num_skimmed % _TAKEN != 1 and type(step := record.get("step")) is int and _is_sound(step, record)

    def _feed(self, step: int, record: dict[str, Any]) -> None:
        self.step = record
        self._steps.append(step)
        self._rows.append(list(map(record.get, CURVES)))
        if len(self._rows) == _AT_ONCE:
            self._flush()
        if self._watch is not None and self._tail.position > self._watched_from:
            self._num_watched += 1
            self.findings = self._watch.feed(step, record)
            if not self._watched_from or self._num_watched > _FORGETS:
                if self.findings or self._since:
                    self._note(step, {finding.name: finding.since_step for finding in self.findings})
                return
        name = record.get("health") or HEALTHY
        if name != HEALTHY or self._since:
            self._note(step, {} if name == HEALTHY else {str(name): step})

    def _adapt_watch(self) -> None:
        """Let the watch advise the run as it is; a setting that was given with a later resume is no longer adapted."""
        if self._watch is not None:
            given = [{row["step"] for row in self.resumes if made.get("knob") in row} for made in self.interventions]
            pairs = zip(self.interventions, given, strict=True)
            self._watch.adapt(made for made, steps in pairs if all(step < made["step"] for step in steps))

    def _flush(self) -> None:
        self._curves.add(self._steps, self._rows)
        self._steps, self._rows = [], []

    def _note(self, step: int, in_force: Mapping[str, int]) -> None:
        """Keep account of what came and went."""
        for name in [name for name in self._since if name not in in_force]:
            since = self._since.pop(name)
            if name != STARTING:
                self.past.append(Episode(name, since, step))
                self.num_past += 1
                self.news.append({"context": "finding gone", "step": step, "name": name, "since_step": since})
        for name, since in in_force.items():
            if name not in self._since:
                self._since[name] = since
                self.news.append({"context": "finding", "step": step, "name": name, "since_step": since})

    def since(self, finding: Finding) -> int:
        """Since when a finding in force is seen, also where that was before the watch began to look."""
        return self._since.get(finding.name, finding.since_step)

    def _feed_event(self, step: int, record: dict[str, Any]) -> None:
        self.news.append(record)
        self.no_best.feed(record)
        match record.get("context"):
            case "train_epoch":
                self.num_epochs += 1
                if (epoch := number(record.get("epoch"))) is not None:
                    self.epoch_ends.append((int(epoch), step))
                self.collapsed_epochs += record.get("health") in COLLAPSES
                if (loss := number(record.get("loss"))) is not None:
                    self.losses.append(loss)
            case "eval":
                self.evaluations.append(record)
            case "train_best" if _is_whole_best(record):
                self.best = record
            case "best_withdrawn":
                self.best = None
            case "intervention" if len(self.interventions) < _MOST_EPISODES:
                self.interventions.append(record)
                self._adapt_watch()
            case "resume":
                self._spent += _seconds(self._began, self._last.get("timestamp"))
                self._began = record.get("timestamp")
                self.resumes.append(record)
                self._adapt_watch()


def _is_sound(step: int, record: Mapping[str, Any]) -> bool:
    """Whether a run can have written it: of plain values, and numbers that a float can be."""
    return 0 <= step < _MOST_STEPS and not any(
        isinstance(value, dict | list)
        or (isinstance(value, int) and abs(value) >= _MOST_STEPS)
        or (isinstance(value, float) and not math.isfinite(value))
        for value in record.values()
    )


def _is_whole_best(record: Mapping[str, Any]) -> bool:
    """Whether it says what is best about it; the old scripts knew the loss alone."""
    values = [record.get("loss"), *([record.get("value")] if "metric" in record or "value" in record else [])]
    return None not in map(number, values)


def _seconds(start: object, end: object) -> float:
    try:
        return max(0.0, (datetime.fromisoformat(str(end)) - datetime.fromisoformat(str(start))).total_seconds())
    except (ValueError, TypeError):  # one of them is missing, or has no time zone
        return 0.0
