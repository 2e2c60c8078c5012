"""What a run can change between two steps against a collapse: the settings of which no state and no batch depends."""

from collections.abc import Iterable, Mapping
from typing import Any

from sltdino.training.remedies import USUAL_KOLEO, USUAL_STANDARDIZED_TEMP, Knobs, Way, is_sane

Changes = dict[str, float]
"""New values by the dotted key of a setting; a switch is true or false."""

_LIVE = {
    "--teacher-temp": "loss.teacher_temp",
    "--teacher-temp-start": "loss.teacher_temp_start",
    "--sinkhorn-eps": "loss.sinkhorn_eps",
    "--center-momentum": "loss.center_momentum",
    "--koleo-weight": "loss.koleo_weight",
    "--learning-rate": "optimizer.learning_rate",
}
_KNOBS = {"standardize_teacher": "standardized"}
"""Settings that `Knobs` calls otherwise."""


def against_collapse(knobs: Knobs, ways: Iterable[Way]) -> Changes:
    """Targets that cannot be uniform nor all the same, and features that are spread; then what the watch advises first.

    Once a run is there, a lower temperature alone did not bring it back: a centered teacher of 64 prototypes, collapsed
    at a temperature of 0.3, stayed at 0.07 and at 0.035; with standardized scores, from which what all images share is
    taken out, its targets were sharp at once, and its loss fell below ln K within 20 steps. But without KoLeo the
    features shrank on: DINO's recipe on 808 hand photos went from a RankMe of 12 to 9 in 400 steps so, and with KoLeo
    from 19 to 46.

    Args:
        ways: what the watch advises, of which the first that can be taken comes next.
    """
    if knobs.standardized:
        return _first_of(ways)
    sharp = ("sinkhorn_eps",) if knobs.sinkhorn_eps else ("teacher_temp", "teacher_temp_start")
    spread = {"loss.koleo_weight": USUAL_KOLEO} if knobs.koleo_weight < USUAL_KOLEO else {}
    return {"loss.standardize_teacher": True} | {f"loss.{key}": USUAL_STANDARDIZED_TEMP for key in sharp} | spread


def with_changes(knobs: Knobs, changes: Iterable[Mapping[str, Any]]) -> Knobs:
    """The knobs after interventions, each with `knob`, a dotted key, and `new`; what is no setting's value is left."""
    named = {str(row.get("knob")).rpartition(".")[2]: row.get("new") for row in changes}
    found = {_KNOBS.get(name, name): new for name, new in named.items()}
    sane: dict[str, Any] = {name: new for name, new in found.items() if name in Knobs._fields and is_sane(new)}
    return knobs._replace(**sane)


def _first_of(ways: Iterable[Way]) -> Changes:
    """The first way of which a run can take every flag while it goes on; nothing where there is none."""
    for way in ways:
        pairs = dict(zip(way.flags[::2], way.flags[1::2], strict=False))
        if pairs and pairs.keys() <= _LIVE.keys():
            return {_LIVE[flag]: float(text) for flag, text in pairs.items()}
    return {}
