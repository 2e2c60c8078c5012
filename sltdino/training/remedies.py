"""What to change against each finding of the watch, with figures that fit the run's own settings."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from sltdino.core.auto import usual_learning_rate

_USUAL_STANDARDIZED_TEMP = 0.33
_LOWEST_TEMP, _HIGHEST_TEMP = 0.02, 0.07
"""Of DINO's teacher, which compares cosines (Caron et al. 2021, table 8 and section D)."""
_USUAL_KOLEO = 0.1


class Knobs(NamedTuple):
    """The settings that remedies name, as plain numbers; the defaults are those of the settings."""

    num_prototypes: int = 65_536
    num_images: int = 20_000
    batch_size: int = 32
    images_per_step: int = 32
    learning_rate: float = 5e-4
    teacher_temp: float = 0.04
    teacher_temp_start: float = 0.04
    sinkhorn_eps: float = 0.0
    """0 where the teacher temperature's schedule stands in its place."""
    standardized: bool = False
    sinkhorn: bool = False
    center_momentum: float = 0.9
    koleo_weight: float = 0.1
    clip_grad_norm: float = 3.0
    smallest_crop: float = 0.7
    """Smallest share of the image in a global crop."""
    num_workers: int = -1
    """-1: as many as cores."""
    cached: bool = False


def knobs_of(params: Mapping[str, Any]) -> Knobs:
    """The knobs of a run, from its params.json; what an older run did not record, or not as a number, is as usual."""
    settings = params["settings"]
    loss, optimizer, dataset = (_part(settings, key) for key in ("loss", "optimizer", "dataset"))
    scale = _part(settings, "augmentation").get("global_crop_scale")
    found = {
        "num_prototypes": _part(settings, "head").get("out_dim"),
        "num_images": _part(params, "images").get("count"),
        "batch_size": dataset.get("batch_size"),
        "images_per_step": _product(dataset.get("batch_size"), optimizer.get("accumulate_steps", 1)),
        "standardized": loss.get("standardize_teacher"),
        "sinkhorn": loss.get("use_sinkhorn"),
        "smallest_crop": scale[0] if isinstance(scale, list) and scale else None,
        "num_workers": dataset.get("num_workers"),
        "cached": dataset.get("cache") == "ram",
        **{key: optimizer.get(key) for key in ("learning_rate", "clip_grad_norm")},
        **{key: loss.get(key) for key in ("teacher_temp", "teacher_temp_start", "sinkhorn_eps", "center_momentum",
                                          "koleo_weight")},
    }  # fmt: skip
    known: dict[str, Any] = {key: value for key, value in found.items() if isinstance(value, int | float)}
    return Knobs(**known)


def against_uniform_targets(knobs: Knobs) -> str:
    """Targets that are the same for every prototype: a sharper teacher, or a student that tells images apart."""
    temp = knobs.sinkhorn_eps or knobs.teacher_temp
    flag = "--sinkhorn-eps" if knobs.sinkhorn_eps else "--teacher-temp"
    if knobs.standardized:
        return f"lower {flag} from {temp:g} to {_USUAL_STANDARDIZED_TEMP} standard deviations{_start(knobs, 0.33)}"
    rate, usual = knobs.learning_rate, _usual_rate(knobs)
    way = f"raise --learning-rate from {rate:.2g} to {max(usual, 2 * rate):.2g}"
    if rate > 2 * usual:
        way = f"lower --learning-rate from {rate:.2g} to {usual:.2g}"
    if temp > _LOWEST_TEMP:
        lower = max(_LOWEST_TEMP, min(_HIGHEST_TEMP, temp / 2))
        return f"lower {flag} from {temp:g} to {lower:.2g}{_start(knobs, lower)}, or {way}"
    return f"start anew with --standardize-teacher --use-sinkhorn --teacher-temp {_USUAL_STANDARDIZED_TEMP}, or {way}"


def against_a_pinned_loss(knobs: Knobs, *, share: float) -> str:
    """Targets that say something, of which the student learns nothing.

    Args:
        share: of what the targets say, the part that the student knows; negative where it is worse than guessing.
    """
    rate, usual = knobs.learning_rate, _usual_rate(knobs)
    if rate < usual / 2:
        return f"raise --learning-rate from {rate:.2g} to {usual:.2g}"
    if share < -0.25 or rate > 2 * usual:
        return f"lower --learning-rate from {rate:.2g} to {min(usual, rate / 3):.2g}"
    if knobs.koleo_weight > _USUAL_KOLEO:
        return f"lower --koleo-weight from {knobs.koleo_weight:g} to {_USUAL_KOLEO}"
    if knobs.smallest_crop < 0.5:
        return f"make the crops of an image more alike: --global-crop-scale 0.7 1.0 (now from {knobs.smallest_crop:g})"
    if not knobs.standardized:
        return f"start anew with --standardize-teacher --use-sinkhorn --teacher-temp {_USUAL_STANDARDIZED_TEMP}"
    return f"raise --learning-rate from {rate:.2g} to {2 * rate:.2g}, or look whether the images differ"


def against_one_point(knobs: Knobs) -> str:
    """All images alike: balance the assignments, spread the features, or take smaller steps."""
    ways = []
    if not knobs.sinkhorn and knobs.center_momentum > 0.9:
        ways.append(f"lower --center-momentum from {knobs.center_momentum:g} to 0.9")
    if not knobs.sinkhorn and not knobs.standardized and knobs.teacher_temp < 0.04:
        ways.append(f"raise --teacher-temp from {knobs.teacher_temp:g} to 0.04")
    if not ways and not knobs.sinkhorn:
        ways.append("add --use-sinkhorn")
    if knobs.koleo_weight < _USUAL_KOLEO:
        ways.append(f"raise --koleo-weight from {knobs.koleo_weight:g} to {_USUAL_KOLEO}")
    usual = _usual_rate(knobs)
    if knobs.learning_rate < usual / 10:
        ways.append(f"raise --learning-rate from {knobs.learning_rate:.2g} to {usual:.2g}")
    else:
        lower = min(usual, knobs.learning_rate / 3)
        ways.append(f"lower --learning-rate from {knobs.learning_rate:.2g} to {lower:.2g}")
    return ", or ".join(ways)


def against_dead_prototypes(knobs: Knobs, *, num_used: int) -> str:
    """A head that is too large for what it is shown, or assignments that nothing balances."""
    enough = max(64, 2 ** math.ceil(math.log2(4 * num_used)))
    smaller = f"start anew with --out-dim {enough}" if enough < knobs.num_prototypes else ""
    return ", or ".join(filter(None, (smaller, "" if knobs.sinkhorn else "add --use-sinkhorn")))


def against_a_spike(knobs: Knobs, *, grad_norm: float) -> str:
    """Smaller steps, or smaller gradients.

    Args:
        grad_norm: usual gradient norm of the run, before clipping; 0 where it is not known.
    """
    lower = f"should it stay: lower --learning-rate from {knobs.learning_rate:.2g} to {knobs.learning_rate / 3:.2g}"
    if grad_norm and (not knobs.clip_grad_norm or knobs.clip_grad_norm > 2 * grad_norm):
        off = "it is off" if not knobs.clip_grad_norm else f"it is {knobs.clip_grad_norm:g}"
        return f"{lower}, or clip gradients nearer to their usual norm with --clip-grad-norm {grad_norm:.2g} ({off})"
    return lower


def against_a_starved_loader(knobs: Knobs) -> str:
    """More processes that decode, or no decoding."""
    cache = "" if knobs.cached else "add --dataset-cache ram where the decoded pixels fit into memory"
    if knobs.num_workers < 0:
        workers = "give the process more cores, or smaller image files"
    else:
        workers = f"--num-workers auto or more than {knobs.num_workers}"
    return ", or ".join(filter(None, (workers, cache)))


def _usual_rate(knobs: Knobs) -> float:
    return usual_learning_rate(num_images=knobs.num_images, images_per_step=knobs.images_per_step)


def _start(knobs: Knobs, temp: float) -> str:
    if knobs.sinkhorn_eps or knobs.teacher_temp_start <= temp:
        return ""
    return f" (and --teacher-temp-start from {knobs.teacher_temp_start:g} to {temp:.2g})"


def _part(mapping: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = mapping.get(key)
    return part if isinstance(part, Mapping) else {}


def _product(*factors: object) -> int | None:
    numbers = [factor for factor in factors if isinstance(factor, int)]
    return math.prod(numbers) if len(numbers) == len(factors) else None
