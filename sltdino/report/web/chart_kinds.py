"""Which charts a run's numbers make, and what each is to be compared with."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sltdino.report.web.svg import Rule

Scale = Literal["linear", "log", "linear or log", "log or linear"]


class Chart(NamedTuple):
    """A chart of fields of the metrics that belong on one axis."""

    title: str
    fields: Mapping[str, str]
    """Field, and its name in the chart."""
    note: str
    scale: Scale = "linear"
    smooth: bool = True
    """Whether it wavers."""
    factor: float = 1.0
    unit: str = ""
    rules: Callable[[Mapping[str, Any]], Sequence[Rule]] = lambda params: ()
    """What its lines are compared with, from params.json."""
    only_compared: bool = False
    """Whether it is drawn of several runs only: of one it would repeat another chart."""


def _setting(params: Mapping[str, Any], *keys: str) -> float | None:
    """A number among the settings of params.json; None where it has none, as in runs of the old scripts."""
    value: Any = params.get("settings")
    for name in keys:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, int | float) else None


def _log_k(params: Mapping[str, Any]) -> Sequence[Rule]:
    prototypes = _setting(params, "head", "out_dim")
    return [Rule(math.log(prototypes), f"ln {prototypes:.0f} =")] if prototypes and prototypes >= 2 else []


def _log_k_of_all(params: Mapping[str, Any]) -> Sequence[Rule]:
    """Of the whole loss, where it has no term for patches, which would come on top."""
    return _log_k(params) if params.get("algorithm") == "dino" else []


def _clip(params: Mapping[str, Any]) -> Sequence[Rule]:
    limit = _setting(params, "optimizer", "clip_grad_norm")
    return [Rule(limit, "clipped at")] if limit else []


_LOSS = (
    Chart("Loss", {"loss": "loss"}, "All its terms, weighted, in nats.", rules=_log_k_of_all),
    Chart(
        "Student against teacher",
        {"loss_cls": "CLS", "loss_patch": "patches"},
        "The terms of the loss that compare them, in nats. ln K: a network that knows nothing.",
        rules=_log_k,
    ),
    Chart("KoLeo term", {"loss_koleo": "KoLeo"}, "Before its weight. Lower: the features lie further from each other."),
    Chart("Gradient norm", {"grad_norm": "norm"}, "Before clipping.", scale="log or linear", rules=_clip),
)
_HEALTH = (
    Chart(
        "Loss gap",
        {"loss_gap": "gap"},
        "ln K minus the CLS loss, in nats: at 0 or less the student knows no more than chance.",
        rules=lambda params: [Rule(0.0, "chance")],
        only_compared=True,  # the CLS loss upside down, but alike for runs of different K
    ),
    Chart(
        "Entropy of the targets",
        {"target_entropy": "of a target", "assignment_entropy": "of their mean"},
        "In nats. A target's near ln K: uniform collapse. Their mean's near 0: one-point collapse.",
        rules=_log_k,
    ),
    Chart(
        "Balance of the prototypes",
        {"assignment_kl": "imbalance"},
        "Divergence of the teacher's mean answer from uniform, in nats; ln K: one prototype for all images.",
    ),
    Chart(
        "Prototypes in use",
        {"prototypes_used": "prototypes"},
        "Over the last steps, how many were the likeliest of some target.",
    ),
    Chart(
        "Spread of the features",
        {"feature_spread": "spread", "cosine_to_mean": "cosine to the mean"},
        "Spread 1 fills the sphere; cosine 1 means that all features are one.",
    ),
)
_SCHEDULES = (
    Chart("Learning rate", {"learning_rate": "rate"}, "", scale="linear or log", smooth=False),
    Chart("Weight decay", {"weight_decay": "decay"}, "", smooth=False),
    Chart("Teacher temperature", {"teacher_temp": "temperature"}, "", smooth=False),
    Chart("Teacher momentum", {"teacher_momentum": "momentum"}, "", smooth=False),
)
_SPEED = (
    Chart("Throughput", {"images_per_second": "images/s"}, "Images per second.", unit=" images/s"),
    Chart("Waiting for data", {"data_wait": "waiting"}, "Share of the time without a batch.", factor=100, unit="%"),
)
TRAINING = {"Loss": _LOSS, "Health": _HEALTH, "Schedules": _SCHEDULES, "Speed": _SPEED}
"""Of `train_step` records, by heading."""
FOLDED = {"Schedules", "Speed"}
"""What most readers skip."""

KNN = Chart("k-NN accuracy", {"knn": "k-NN"}, "On held-out labelled images.", factor=100, unit="%")
EVALUATION = (
    Chart(
        "RankMe", {"rankme": "RankMe"}, "How many directions the features use, by the entropy of their singular values."
    ),
    Chart("Standard deviation of the features", {"feature_std": "std"}, "0: collapse."),
    Chart(
        "Alignment and uniformity",
        {"alignment": "alignment", "uniformity": "uniformity"},
        "Wang and Isola, 2020; lower is better for both.",
    ),
    Chart(
        "Clip retrieval",
        {"clip_retrieval": "found"},
        "How often the nearest other frame is of the same clip.",
        factor=100,
        unit="%",
    ),
)
"""Of `eval` records; k-NN has a chart of its own."""
