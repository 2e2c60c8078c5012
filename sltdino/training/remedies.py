"""What to change against each finding of the watch, with figures that fit the run's own settings."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeGuard

from sltdino.core.auto import FEW_IMAGES, usual_learning_rate
from sltdino.core.auto_papers import PAPERS

USUAL_STANDARDIZED_TEMP, _LOWEST_STANDARDIZED_TEMP = 0.33, 0.1
_LOWEST_TEMP, _HIGHEST_TEMP = 0.02, 0.07
"""Of DINO's teacher, which compares cosines (Caron et al. 2021, table 8 and section D)."""
_WORTH_IT = 1.2
"""A setting that is nearer than this factor to what would be advised stays as it is."""
USUAL_KOLEO = 0.1


INSANE = 1e12
"""No setting and no measured value of a run is as large: a file that has it is damaged."""


class Way(NamedTuple):
    """One thing to try."""

    text: str
    flags: tuple[str, ...] = ()
    """What `sltdino resume` takes for it; empty where only a new run, or another machine, can have it."""


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
    batch_norm: bool = True
    """In the heads."""
    center_momentum: float = 0.9
    koleo_weight: float = 0.1
    clip_grad_norm: float = 3.0
    smallest_crop: float = 0.7
    """Smallest share of the image in a global crop."""
    num_workers: int = -1
    """-1: as many as cores."""
    cached: bool = False
    preset: str = "none"
    """One of a paper has its own usual learning rate."""


def knobs_of(params: Mapping[str, Any]) -> Knobs:
    """The knobs of a run, from its params.json; what an older run did not record, or not as a number, is as usual."""
    settings = params["settings"]
    loss, optimizer, dataset = (_part(settings, key) for key in ("loss", "optimizer", "dataset"))
    scale = _part(settings, "augmentation").get("global_crop_scale")
    found = {
        "num_prototypes": _part(settings, "head").get("out_dim"),
        "batch_norm": _part(settings, "head").get("batch_norm"),
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
    known: dict[str, Any] = {key: value for key, value in found.items() if is_sane(value)}
    paper = next((name for name in PAPERS if name == settings.get("preset")), "none")
    return Knobs(**known, preset=paper)


def is_sane(value: object) -> TypeGuard[int | float]:
    """Whether this is a number that a setting can have."""
    return isinstance(value, int | float) and 0 <= value < INSANE


def said(ways: Iterable[Way]) -> str:
    """All of them in a sentence."""
    return ", or ".join(way.text for way in ways)


def flags_of(ways: Iterable[Way]) -> tuple[str, ...]:
    """What `sltdino resume` takes for the first way that a run can go on with; empty where there is none."""
    return next((way.flags for way in ways if way.flags), ())


def against_uniform_targets(knobs: Knobs) -> list[Way]:
    """Targets that are the same for every prototype: a sharper teacher, or a student that tells images apart."""
    return _usual_of_few(knobs) + _against_uniform_targets(knobs)


def _against_uniform_targets(knobs: Knobs) -> list[Way]:
    temp, usual, rate = knobs.sinkhorn_eps or knobs.teacher_temp, _usual_rate(knobs), knobs.learning_rate
    rate_way = _learning_rate(knobs, usual if rate > 2 * usual else max(usual, 2 * rate))
    if knobs.standardized:
        lowest = _LOWEST_STANDARDIZED_TEMP
        lower = max(lowest, min(USUAL_STANDARDIZED_TEMP, temp / 2))
        return [_temperature(knobs, lower)] if temp > _WORTH_IT * lowest else [rate_way]
    if temp > _WORTH_IT * _LOWEST_TEMP:
        return [_temperature(knobs, max(_LOWEST_TEMP, min(_HIGHEST_TEMP, temp / 2))), rate_way]
    return [*_standardize(knobs), rate_way]


def against_a_pinned_loss(knobs: Knobs, *, share: float) -> list[Way]:
    """Targets that say something, of which the student learns nothing.

    Args:
        share: of what the targets say, the part that the student knows; negative where it is worse than guessing.
    """
    return _usual_of_few(knobs) + _against_a_pinned_loss(knobs, share=share)


def _against_a_pinned_loss(knobs: Knobs, *, share: float) -> list[Way]:
    rate, usual = knobs.learning_rate, _usual_rate(knobs)
    if rate < usual / 2:
        return [_learning_rate(knobs, usual)]
    if share < -0.25 or rate > 2 * usual:
        return [_learning_rate(knobs, min(usual, rate / 3))]
    if knobs.koleo_weight > _WORTH_IT * USUAL_KOLEO:
        return [_koleo(knobs)]
    if knobs.smallest_crop < 0.5:
        text = f"make the crops of an image more alike: --global-crop-scale 0.7 1.0 (now from {knobs.smallest_crop:g})"
        return [Way(text, ("--global-crop-scale", "0.7", "1.0"))]
    if not knobs.standardized:
        return _standardize(knobs)
    return [_learning_rate(knobs, 2 * rate), Way("look whether the images differ")]


def against_one_point(knobs: Knobs) -> list[Way]:
    """All images alike: balance the assignments, spread the features, or take smaller steps."""
    ways = _usual_of_few(knobs)
    if not knobs.sinkhorn and knobs.center_momentum > 0.9:
        text = f"lower --center-momentum from {knobs.center_momentum:g} to 0.9"
        ways.append(Way(text, ("--center-momentum", "0.9")))
    if not knobs.sinkhorn and not knobs.standardized and knobs.teacher_temp < 0.04 / _WORTH_IT:
        ways.append(Way(f"raise --teacher-temp from {knobs.teacher_temp:g} to 0.04", ("--teacher-temp", "0.04")))
    if not ways and not knobs.sinkhorn:
        ways.append(Way("start anew with --use-sinkhorn"))
    if knobs.koleo_weight < USUAL_KOLEO / _WORTH_IT:
        ways.append(_koleo(knobs))
    rate, usual = knobs.learning_rate, _usual_rate(knobs)
    return [*ways, _learning_rate(knobs, usual if rate < usual / 10 else min(usual, rate / 3))]


def against_dead_prototypes(knobs: Knobs, *, num_used: int) -> list[Way]:
    """A head that is too large for what it is shown, or assignments that nothing balances."""
    enough = max(64, 2 ** math.ceil(math.log2(4 * max(1, num_used))))
    smaller = [Way(f"start anew with --out-dim {enough}")] if enough < knobs.num_prototypes else []
    usual = _usual_of_few(knobs)
    balanced = [] if knobs.sinkhorn or usual else [Way("start anew with --use-sinkhorn")]
    return smaller + usual + balanced or against_one_point(knobs)


def against_a_spike(knobs: Knobs, *, grad_norm: float) -> list[Way]:
    """Smaller steps, or smaller gradients.

    Args:
        grad_norm: usual gradient norm of the run, before clipping; 0 where it is not known.
    """
    lower = _learning_rate(knobs, knobs.learning_rate / 3)
    ways = [lower._replace(text=f"should it stay: {lower.text}")]
    if grad_norm > 0 and (not knobs.clip_grad_norm or knobs.clip_grad_norm > 2 * grad_norm):
        off = "it is off" if not knobs.clip_grad_norm else f"it is {knobs.clip_grad_norm:g}"
        flags = ("--clip-grad-norm", f"{grad_norm:.2g}")
        ways.append(Way(f"clip gradients nearer to their usual norm with {' '.join(flags)} ({off})", flags))
    return ways


def against_a_starved_loader(knobs: Knobs) -> list[Way]:
    """More processes that decode, or no decoding."""
    ways = [Way("give the process more cores, or smaller image files")]
    if knobs.num_workers >= 0:
        ways = [Way(f"raise --num-workers from {knobs.num_workers}, up to the number of cores")]
    if not knobs.cached:
        text = "add --dataset-cache ram where the decoded pixels fit into memory"
        ways.append(Way(text, ("--dataset-cache", "ram")))
    return ways


def _usual_of_few(knobs: Knobs) -> list[Way]:
    """What small runs need to learn at all, where one of these is off; by `auto` all of them are on."""
    wanted = {
        "--standardize-teacher": not knobs.standardized,
        "--use-sinkhorn": not knobs.sinkhorn,
        "--head-batch-norm": not knobs.batch_norm,
        f"--teacher-temp {USUAL_STANDARDIZED_TEMP}": not knobs.standardized and not knobs.sinkhorn_eps,
        f"--sinkhorn-eps {USUAL_STANDARDIZED_TEMP}": not knobs.standardized and knobs.sinkhorn_eps > 0,
    }
    missing = " ".join(flag for flag, is_missing in wanted.items() if is_missing)
    if not missing or knobs.num_images >= FEW_IMAGES:
        return []
    return [Way(f"start anew with what few images need: {missing}")]


def _usual_rate(knobs: Knobs) -> float:
    return usual_learning_rate(num_images=knobs.num_images, images_per_step=knobs.images_per_step, preset=knobs.preset)


def _learning_rate(knobs: Knobs, rate: float) -> Way:
    verb = "raise" if rate > knobs.learning_rate else "lower"
    flags = ("--learning-rate", f"{rate:.2g}")
    return Way(f"{verb} --learning-rate from {knobs.learning_rate:.2g} to {rate:.2g}", flags)


def _koleo(knobs: Knobs) -> Way:
    verb = "raise" if knobs.koleo_weight < USUAL_KOLEO else "lower"
    flags = ("--koleo-weight", f"{USUAL_KOLEO}")
    return Way(f"{verb} --koleo-weight from {knobs.koleo_weight:g} to {USUAL_KOLEO}", flags)


def _standardize(knobs: Knobs) -> list[Way]:
    """A teacher that compares standard deviations; its scores need Sinkhorn's balance, or its own sharpness."""
    if knobs.num_images < FEW_IMAGES:
        return []  # `_usual_of_few` has said it
    sharp = "--sinkhorn-eps" if knobs.sinkhorn_eps else "--teacher-temp"
    balance = "" if knobs.sinkhorn else "--use-sinkhorn "
    return [Way(f"start anew with --standardize-teacher {balance}{sharp} {USUAL_STANDARDIZED_TEMP}")]


def _temperature(knobs: Knobs, lower: float) -> Way:
    temp, unit = knobs.sinkhorn_eps or knobs.teacher_temp, " standard deviations" if knobs.standardized else ""
    flag = "--sinkhorn-eps" if knobs.sinkhorn_eps else "--teacher-temp"
    text, flags = f"lower {flag} from {temp:g} to {lower:.2g}{unit}", (flag, f"{lower:.2g}")
    if knobs.sinkhorn_eps or knobs.teacher_temp_start <= _WORTH_IT * lower:
        return Way(text, flags)
    start = f" (and --teacher-temp-start from {knobs.teacher_temp_start:g} to {lower:.2g})"
    return Way(text + start, (*flags, "--teacher-temp-start", f"{lower:.2g}"))


def _part(mapping: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = mapping.get(key)
    return part if isinstance(part, Mapping) else {}


def _product(*factors: object) -> int | None:
    numbers = [factor for factor in factors if isinstance(factor, int)]
    return math.prod(numbers) if len(numbers) == len(factors) else None
