"""How long a run becomes that is given minutes: its steps are timed once, at the start, and counted from then on."""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from sltdino.core.auto import Length, Plan
from sltdino.core.settings import PretrainSettings
from sltdino.errors import SettingsError
from sltdino.pretraining.estimates import Size, evaluation_seconds, measure_size, save_seconds
from sltdino.pretraining.measured import Speed, expected_step_seconds, measure_speed
from sltdino.pretraining.probes import Probes
from sltdino.pretraining.progress import Reporter
from sltdino.pretraining.session import Session
from sltdino.report.text.page import duration

UNTIMED = Length(1, "the steps are not timed yet")
"""For what is built before the length is known, of which nothing follows from it."""
_TIMING_SHARE, _LEAST_TIMING, _MOST_TIMING = 0.1, 5.0, 15.0
"""Share of the minutes, and seconds, that timing may take."""
_JUDGING_SHARE, _MOST_JUDGED = 0.1, 10
"""Share of the time that evaluations may take beside the first and the last, and their number."""


class Costs(NamedTuple):
    """Seconds, on this machine."""

    step: float
    evaluation: float
    save: float
    is_estimated: bool = False
    """From smaller steps, because whole ones take too long to time."""


def timing_seconds(minutes: float) -> float:
    """About how long to time the steps of a run of so many minutes."""
    return min(_MOST_TIMING, max(_LEAST_TIMING, _TIMING_SHARE * 60 * minutes))


def time_length(asked: PretrainSettings, session: Session, reporter: Reporter, *, begun: float) -> Length:
    """The length of a run, from steps of networks that are thrown away: its own weights and order stay untouched.

    Args:
        asked: with `train_minutes`; where its `eval_every` is `auto`, the length says that too.
        session: of the run, built for a length that is not known yet.
        begun: when the minutes began, by `time.monotonic`; what was done since is taken from them.

    Raises:
        SettingsError: the minutes are over before the first step. DataError, ResourceError, DivergedError: as
            `measure_speed`.
    """
    assert asked.train_minutes is not None
    settled, images, world, steps = session.settings, session.images, session.world, session.plan
    seconds, size = timing_seconds(asked.train_minutes), measure_size(settled)
    reporter.say(f"timing a few steps for --train-minutes, about {seconds:.0f} s")
    step_seconds = expected_step_seconds(size.flops_per_image * steps.images_per_step, world.device)
    speed = measure_speed(
        settled, images, world, seconds=seconds, step_seconds=step_seconds,
        fits=lambda _: True,  # the run is about to make such steps
    )  # fmt: skip
    costs = costs_of(settled, steps, size, session.probes, speed)
    return length_within(asked, steps, costs, spent=time.monotonic() - begun)


def costs_of(settings: PretrainSettings, steps: Plan, size: Size, probes: Probes, speed: Speed) -> Costs:
    """What a run spends its time on, by the speed that was measured."""
    step, evaluation = steps.images_per_step / speed.together, evaluation_seconds(settings, size, probes, speed)
    return Costs(step, evaluation, save_seconds(size), is_estimated=bool(speed.limited_by))


def length_within(asked: PretrainSettings, steps: Plan, costs: Costs, *, spent: float) -> Length:
    """The most steps whose time, with evaluations and checkpoints, fits into the minutes that are left.

    Args:
        spent: seconds of the minutes that are gone.

    Raises:
        SettingsError: not one step fits.
    """
    assert asked.train_minutes is not None
    room, every = 60 * asked.train_minutes - spent, asked.evaluation.eval_every
    judged = min(_MOST_JUDGED, max(1, int(_JUDGING_SHARE * room / costs.evaluation))) if every == "auto" else 0
    per_epoch = steps.steps_per_epoch

    def seconds_for(number: int) -> float:
        times = judged if every == "auto" else math.ceil(number / steps.evaluation_steps(every))
        saves = math.ceil(number / per_epoch) + times
        return number * costs.step + (1 + times) * costs.evaluation + saves * costs.save

    number = _most(seconds_for, room, at_most=int(max(0.0, room) / costs.step))
    minutes = f"{asked.train_minutes:g} minute{'' if asked.train_minutes == 1 else 's'}"
    if not number:
        raise SettingsError(
            f"--train-minutes: no step fits into {minutes}: to get ready takes {duration(spent)}, to evaluate the "
            f"network at the start and at the end {duration(2 * costs.evaluation)}, and a step {costs.step:.2g} s; "
            "allow more"
        )
    known_by = "estimated" if costs.is_estimated else "measured"
    source = f"{minutes} at {1 / costs.step:.3g} steps/s {known_by} on this machine"
    return Length(number / per_epoch, source, None if every != "auto" else _spread(number / per_epoch, judged))


def _most(seconds_for: Callable[[int], float], room: float, *, at_most: int) -> int:
    """The largest number of steps that fits, by halving: more steps never take less time."""
    fits, too_many = 0, at_most + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if seconds_for(middle) <= room else (fits, middle)
    return fits


def _spread(epochs: float, judged: int) -> float:
    """Epochs between so many evaluations: whole ones where there are as many."""
    every = epochs / judged
    return math.ceil(every) if every >= 1 else every
