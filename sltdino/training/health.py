"""Is the run healthy? What the records of its steps say over time, in words, with the remedy that fits.

The watch knows a run by its `train_step` records alone, so the loop, `inspect` and the report, which feed it the same
records, say the same; a resumed run feeds it those it has, and goes on as if it had never stopped.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sltdino.training import live_remedies, remedies
from sltdino.training.remedies import Knobs, Way, knobs_of
from sltdino.training.running import RunningMean, Streak

HEALTHY, STARTING = "healthy", "starting"
ONE_POINT, UNIFORM, SPIKE, DEAD, STARVED = (
    "one-point collapse", "uniform collapse", "loss spike", "dead prototypes", "starved loader",
)  # fmt: skip
COLLAPSES = frozenset({ONE_POINT, UNIFORM})
_WORST_FIRST = (ONE_POINT, UNIFORM, SPIKE, DEAD, STARTING, STARVED)

_UNIFORM_SHARE = 0.02
"""Targets that say less than this share of ln K are as good as uniform, unless the student is seen to learn them."""
_NOTHING_SHARE = 0.001
"""Targets that say less than this share of ln K are uniform for any student."""
_LEARNT_SHARE = 0.25
"""Of what broad targets say: a student that knows as much does learn them."""
_PINNED_SHARE = 0.02
"""Of what the targets say: a student that knows less, and does not come to know more, guesses."""
_ONE_POINT_SHARE = 0.05
"""When the mean assignment's entropy is less than this share of ln K, nearly all images share one prototype."""
_SAME_FEATURE_COSINE = 0.999
"""Features this close to their mean are the same for every image."""
_DEAD_SHARE = 0.05
"""Of the prototypes that as many random draws would meet: fewer means that most of the head is of no use."""
_STARVED, _FED = 0.3, 0.15
"""Shares of the time spent waiting for data: above the first a loader is starved, until it is below the second."""
_SPIKE_DEVIATIONS, _SPIKE_SHARE = 8.0, 0.05
"""A loss is a spike when it is so many mean deviations, and so much of ln K, above its running mean."""
_FIRST_RECORDS = 10
"""Records before a running mean says what is usual."""
_NEW_LEVEL = 20
"""Records after which a loss that stays up is no spike but the loss."""
_GRACE_SHARE, _LEAST_GRACE, _MOST_GRACE = 0.1, 100, 1000
"""Share of a run, and steps, in which every healthy run may look collapsed: its loss begins at ln K or above."""


class Finding(NamedTuple):
    """Something about a run that is not as it should be, or not to be judged yet."""

    name: str
    """`uniform collapse`, `one-point collapse`, `loss spike`, `dead prototypes`, `starved loader` or `starting`."""
    collapsed: bool
    """Whether what is learned from here on is worth nothing."""
    since_step: int
    text: str
    """What was seen, in words and figures."""
    remedy: str
    """What to change; empty while starting."""
    flags: tuple[str, ...] = ()
    """What `sltdino resume` takes for the first of that; empty where a run cannot go on with it."""
    may_start_late: bool = False
    """Runs of small batches have looked so for nearly half of their steps, and learned then: adapt, but end late."""
    live: tuple[tuple[str, float], ...] = ()
    """What a run can change against a collapse while it goes on: dotted keys of settings, and their new values."""


class Watch:
    """The findings in force, from a run's step records in their order. Holds a few numbers, however long the run.

    Args:
        total_steps: of the run.
        grace_steps: steps in which a collapse is not told from a beginning; see `grace_steps`.
        num_targets: the teacher's targets in a micro-batch, two an image.
        knobs: the settings that remedies name.
    """

    def __init__(
        self,
        *,
        num_prototypes: int,
        total_steps: int = 0,
        grace_steps: int = _LEAST_GRACE,
        num_targets: int = 64,
        knobs: Knobs | None = None,
    ) -> None:
        self.grace_steps = grace_steps
        self._total_steps = total_steps
        # about 8 targets for each prototype, in a twentieth of the run at most
        self.usage_window = min(math.ceil(8 * num_prototypes / num_targets), max(_LEAST_GRACE, total_steps // 20))
        """Steps over which the loop counts `prototypes_used`."""
        self.looks_collapsed = False
        """Whether the last record by itself looks like a collapse, be it a beginning or not."""
        self._log_k = math.log(num_prototypes)
        self._knobs = self._own_knobs = (knobs or Knobs())._replace(num_prototypes=num_prototypes)
        num_draws = self.usage_window * num_targets
        self._most_used = num_prototypes * -math.expm1(-num_draws / num_prototypes)
        # of about the last 5 records, and of the last 20, which a gap that grows leaves behind
        self._gap, self._gap_before = RunningMean(0.2), RunningMean(0.05)
        self._gap_noise, self._said = RunningMean(0.1), RunningMean(0.2)
        self._loss, self._deviation = RunningMean(0.1), RunningMean(0.1)
        self._grad_norm, self._wait = RunningMean(0.1), RunningMean(0.1)
        self._streaks = {name: Streak() for name in (ONE_POINT, UNIFORM, SPIKE, DEAD, STARVED)}
        self._pinned = Streak()
        # of the records one by one, of which the means say later what they show: so that it is dated when it began
        self._uniform_rows, self._pinned_rows = Streak(), Streak()

    def feed(self, step: int, record: Mapping[str, Any]) -> tuple[Finding, ...]:
        """The findings in force after a `train_step` record, worst first; none when the run is healthy.

        A record that lacks a field, as those of older versions do, says nothing about what the field is for.
        """
        found = [
            self._one_point(step, record),
            self._uniform(step, record),
            self._spike(step, record),
            self._dead(step, record),
            self._starved(step, record),
        ]
        in_force = {finding.name: finding for finding in reversed(found) if finding is not None}
        if any(finding.collapsed for finding in in_force.values()):
            # what collapsed has its own few prototypes, and of its loss nothing follows
            in_force = {name: found for name, found in in_force.items() if name not in (DEAD, SPIKE)}
        if ONE_POINT in in_force:
            in_force.pop(UNIFORM, None)  # it follows from that, and asks for the opposite
        return tuple(in_force[name] for name in _WORST_FIRST if name in in_force)

    def adapt(self, interventions: Iterable[Mapping[str, Any]]) -> None:
        """From now on advise a run whose settings were changed so; each row has `knob`, a dotted key, and `new`."""
        self._knobs = live_remedies.with_changes(self._own_knobs, interventions)

    def _one_point(self, step: int, record: Mapping[str, Any]) -> Finding | None:
        self.looks_collapsed = False
        seen = _numbers(record, "assignment_entropy", "cosine_to_mean")
        if seen is None:
            return None
        entropy, cosine = seen
        # under Sinkhorn the targets are balanced whatever the scores are, so the scores are asked too
        raw = (_numbers(record, "assignment_kl") or [0.0])[0] / self._log_k
        lowest = min(entropy / self._log_k, 1.0 - raw)
        self.looks_collapsed = lowest < _ONE_POINT_SHARE or cosine > _SAME_FEATURE_COSINE
        if lowest < _ONE_POINT_SHARE:
            what = f"all images share a prototype (entropy of the mean assignment {lowest * self._log_k:.2f} of "
            text = f"{what}ln {self._knobs.num_prototypes} = {self._log_k:.2f}"
        else:
            text = f"all images have the same feature (cosine to the mean {cosine:.4f}"
        ways = remedies.against_one_point(self._knobs)
        return self._collapse(ONE_POINT, step, self._streaks[ONE_POINT], self.looks_collapsed, f"{text})", ways)

    def _uniform(self, step: int, record: Mapping[str, Any]) -> Finding | None:
        seen = _numbers(record, "loss_gap", "target_entropy")
        if seen is None:
            return None
        gap, entropy = seen
        if self._gap.count:
            self._gap_noise.feed(abs(gap - self._gap.value))
        self._gap.feed(gap)
        self._gap_before.feed(gap)
        self._said.feed(self._log_k - entropy)
        said, share = self._said.value, self._gap.value / max(self._said.value, 1e-9)
        is_uniform = self._says_nothing(said, gap=self._gap.value)
        self._uniform_rows.feed(step, self._says_nothing(self._log_k - entropy, gap=gap))
        self.looks_collapsed |= self._log_k - entropy < _UNIFORM_SHARE * self._log_k and is_uniform
        least, noise = _PINNED_SHARE * said, self._gap_noise.value
        self._pinned_rows.feed(step, gap < max(least, noise))
        is_growing = self._gap.value - self._gap_before.value > max(least, 0.6 * noise)
        # a mean of 5 records strays by about a third of their deviations
        is_pinned = max(self._gap.value + 0.3 * noise, self._gap_before.value) < least and not is_growing
        log_k = f"ln {self._knobs.num_prototypes} = {self._log_k:.2f}"
        uniform = self._collapse(
            UNIFORM, step, self._streaks[UNIFORM], is_uniform, f"teacher entropy is {entropy:.2f} of {log_k}",
            remedies.against_uniform_targets(self._knobs), began=self._uniform_rows.since,
            has_grace=not self._knobs.standardized,  # such scores are as sharp at the first step as they will ever be
        )  # fmt: skip
        pinned = self._collapse(
            UNIFORM, step, self._pinned, is_pinned,
            f"the loss stays at {self._log_k - self._gap.value:.2f}, and guessing has {log_k}",
            remedies.against_a_pinned_loss(self._knobs, share=share), began=self._pinned_rows.since,
        )  # fmt: skip
        pinned = pinned and pinned._replace(may_start_late=True)
        found = [finding for finding in (uniform, pinned) if finding is not None]
        return next((finding for finding in found if finding.collapsed), found[0] if found else None)

    def _says_nothing(self, said: float, *, gap: float) -> bool:
        """Whether targets that say so much, of which the student knows the gap, are as good as uniform."""
        return said < _NOTHING_SHARE * self._log_k or (
            said < _UNIFORM_SHARE * self._log_k and gap < _LEARNT_SHARE * said
        )

    def _collapse(
        self, name: str, step: int, streak: Streak, holds: bool, text: str, ways: list[Way], *, began: int = 0,
        has_grace: bool = True,
    ) -> Finding | None:  # fmt: skip
        is_early = step <= self.grace_steps
        if since := streak.feed(step, holds, may_begin=not (is_early and has_grace), began=began):
            live = tuple(live_remedies.against_collapse(self._knobs, ways).items())
            return _found(name, since, f"{text} since step {since}", ways, collapsed=True, live=live)
        if not (is_early and holds):
            return None
        when = f"judged from step {self.grace_steps + 1}"
        if 0 < self._total_steps <= self.grace_steps:
            when = f"{self._total_steps} steps are too few to judge"
        return Finding(STARTING, False, streak.first, f"{text}, as in the first steps of every run; {when}", "")

    def _spike(self, step: int, record: Mapping[str, Any]) -> Finding | None:
        seen = _numbers(record, "loss")
        if seen is None:
            return None
        (loss,), streak = seen, self._streaks[SPIKE]
        above = loss - self._loss.value
        least = max(_SPIKE_DEVIATIONS * self._deviation.value, _SPIKE_SHARE * self._log_k)
        is_spike = self._loss.count >= _FIRST_RECORDS and above > (least / 2 if streak.since else least)
        if is_spike and streak.num_held >= _NEW_LEVEL:
            self._loss, self._deviation, is_spike = RunningMean(0.1), RunningMean(0.1), False
        since = streak.feed(step, is_spike, needed=1)
        norm = (_numbers(record, "grad_norm") or [0.0])[0]
        usual_norm = self._grad_norm.value
        if not is_spike:
            if self._loss.count:
                self._deviation.feed(abs(above))
            self._loss.feed(loss)
            self._grad_norm.feed(norm)
            return None
        text = f"the loss is {loss:.2f}, and was about {self._loss.value:.2f} before step {since}"
        if norm > 3 * usual_norm > 0:
            text += f"; the gradient norm is {norm:.2g}, and was about {usual_norm:.2g}"
        return _found(SPIKE, since, text, remedies.against_a_spike(self._knobs, grad_norm=usual_norm))

    def _dead(self, step: int, record: Mapping[str, Any]) -> Finding | None:
        seen = _numbers(record, "prototypes_used")
        if seen is None or step <= self.grace_steps:
            return None
        num_used = round(seen[0])
        since = self._streaks[DEAD].feed(step, num_used < _DEAD_SHARE * self._most_used)
        if not since:
            return None
        text = f"{num_used} of {self._knobs.num_prototypes} prototypes are used since step {since}"
        return _found(DEAD, since, text, remedies.against_dead_prototypes(self._knobs, num_used=num_used))

    def _starved(self, step: int, record: Mapping[str, Any]) -> Finding | None:
        seen = _numbers(record, "data_wait")
        if seen is None:
            return None
        self._wait.feed(seen[0])
        streak = self._streaks[STARVED]
        # the first records hold the start of the loader's processes
        is_starved = self._wait.count > _FIRST_RECORDS and self._wait.value > (_FED if streak.since else _STARVED)
        since = streak.feed(step, is_starved)
        if not since:
            return None
        text = f"{self._wait.value:.0%} of the time is spent waiting for data since step {since}"
        return _found(STARVED, since, text, remedies.against_a_starved_loader(self._knobs))


def _found(
    name: str,
    since: int,
    text: str,
    ways: list[Way],
    *,
    collapsed: bool = False,
    live: tuple[tuple[str, float], ...] = (),
) -> Finding:
    return Finding(name, collapsed, since, text, remedies.said(ways), remedies.flags_of(ways), live=live)


def watch_of(params: Mapping[str, Any]) -> Watch | None:
    """The watch over a run, from its params.json. None for a run of the old scripts, which recorded no settings."""
    settings = params.get("settings")
    head = settings.get("head") if isinstance(settings, Mapping) else None
    num_prototypes = head.get("out_dim") if isinstance(head, Mapping) else None
    if not isinstance(num_prototypes, int) or not 2 <= num_prototypes < remedies.INSANE:
        return None
    knobs = knobs_of(params)
    return Watch(
        num_prototypes=knobs.num_prototypes,
        total_steps=_steps(params),
        grace_steps=grace_steps(params),
        num_targets=2 * max(1, knobs.batch_size),
        knobs=knobs,
    )


def grace_steps(params: Mapping[str, Any]) -> int:
    """Steps in which a run is not judged collapsed: its warm-up, what it keeps frozen, or a tenth (100 to 1,000)."""
    optimizer = params["settings"].get("optimizer")
    optimizer = optimizer if isinstance(optimizer, Mapping) else {}
    epochs = [optimizer.get(f"{key}_epochs") for key in ("warmup", "freeze_last_layer", "freeze_backbone")]
    longest = max((value for value in epochs if remedies.is_sane(value)), default=0.0)
    total, all_epochs = _steps(params), params.get("epochs")
    per_epoch = total / all_epochs if remedies.is_sane(all_epochs) and all_epochs > 0 else 0.0
    share = min(_MOST_GRACE, math.ceil(_GRACE_SHARE * total))
    return max(_LEAST_GRACE, math.ceil(longest * per_epoch), share)


def _steps(params: Mapping[str, Any]) -> int:
    total = params.get("total_steps")
    return int(total) if remedies.is_sane(total) else 0


def _numbers(record: Mapping[str, Any], *fields: str) -> list[float] | None:
    values = [value for field in fields if isinstance(value := record.get(field), int | float)]
    # a damaged record may hold an integer of hundreds of digits, or 1e999
    is_whole = len(values) == len(fields) and all(-remedies.INSANE < value < remedies.INSANE for value in values)
    return [float(value) for value in values] if is_whole else None
