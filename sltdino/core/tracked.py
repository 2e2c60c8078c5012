"""What trackers are given: a run, and its records as points with tags."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_GROUPS = {
    "train": ("loss", "loss_", "grad_norm"),
    "schedule": ("learning_rate", "weight_decay", "teacher_momentum", "teacher_temp"),
    "speed": ("images_per_second", "data_wait", "eta_seconds"),
    "progress": ("epoch", "epoch_step"),
}
"""Fields of a `train_step` record by the part of the page they are drawn in; those not named are about health."""
_HEALTH = "loss_gap"
"""Looks like a loss, and says how far the loss is from that of guessing."""


class TrackedRun(NamedTuple):
    """What a tracker is told about a run when it opens."""

    path: Path
    name: str
    """What people call it; empty where nobody said."""
    notes: str
    tags: Sequence[str]
    hyperparameters: Mapping[str, bool | int | float | str]
    """Settled settings by dotted key."""
    steps_done: int
    """Steps that stand: a resumed run makes the ones after them anew."""
    history: Iterable[Mapping[str, Any]]
    """Records of the metrics so far; iterated over once for each tracker that has not seen them."""


class Point(NamedTuple):
    """A record of the metrics as trackers draw it."""

    step: int
    """Steps done."""
    seconds: float
    """Moment of the record, since 1970."""
    scalars: dict[str, float]
    """By tag, such as `train/loss`, `health/feature_spread` or `eval/knn`."""
    texts: dict[str, str]


class Tracker(Protocol):
    """Takes what a run has to show. Every method may raise whatever it likes, or never return."""

    where: str
    """Where a person finds it: a folder, a page or a command."""
    is_new: bool
    """It has nothing of this run yet, so it is shown the history first."""

    def point(self, point: Point) -> None:
        """A record."""

    def text(self, tag: str, text: str, *, step: int) -> None:
        """Words, as Markdown."""

    def image(self, tag: str, image_HW3: "NDArray[np.uint8]", *, step: int) -> None:
        """A picture, uint8 `[H, W, 3]`."""

    def close(self, exit_code: int) -> None:
        """The run has ended with this exit code, 0 when it is done. Nothing comes after."""

    def abandon(self) -> None:
        """A call failed: let go of what is held. Nothing comes after, and nobody waits for it."""


def point_of(record: Mapping[str, Any]) -> Point:
    """A record's numbers and words under their tags.

    The context is the prefix, as in `eval/knn`; what a `train_step` measures is in five parts: `train/` (losses and
    gradient), `health/`, `schedule/`, `speed/` and `progress/`. What has no value is left out.
    """
    scalars: dict[str, float] = {}
    texts: dict[str, str] = {}
    context = str(record["context"])
    for name, value in record.items():
        if name in ("step", "timestamp", "context") or value is None:
            continue
        tag = _step_tag(name) if context == "train_step" else f"{context}/{name}"
        if isinstance(value, bool | int | float):
            scalars[tag] = float(value)
        else:
            texts[tag] = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return Point(int(record["step"]), datetime.fromisoformat(record["timestamp"]).timestamp(), scalars, texts)


def _step_tag(name: str) -> str:
    if name == "health":
        return "health/verdict"
    for group, names in _GROUPS.items() if name != _HEALTH else ():
        if name in names or any(name.startswith(start) for start in names if start.endswith("_")):
            return f"{group}/{name}"
    return f"health/{name}"
