"""The page that `sltdino pretrain --dry-run` prints: plain text of at most 80 columns."""

import math
import textwrap
from collections.abc import Iterator
from pathlib import Path

from sltdino.core.settings_base import known
from sltdino.core.settings_schema import BY_KEY, flatten, printable
from sltdino.pretraining.advice import load_text
from sltdino.pretraining.estimates import OutputFile
from sltdino.pretraining.length import UNTIMED
from sltdino.pretraining.measured import Load, Speed
from sltdino.pretraining.preview_facts import DryRun, Forecast, Images, Machine, Start
from sltdino.pretraining.sample import Sample, other_formats_text
from sltdino.report.text.page import counted, duration

_WIDTH, _COLUMN = 80, 12
_GLUE = "\0"  # a blank at which no line ends
_NAMES = {
    "start": "statistics of the first images",
    "evaluation": "evaluation",
    "batches": "batches",
    "cache": "images",
}
_TOO_MUCH = {"time": "would take too long to try", "memory": "does not fit into the free memory"}
_MUCH = 0.1  # of an epoch's images, left out
_STARVED = 0.1
"""Share of the time that a step waits for data, above which the loader is the limit."""


def render(result: DryRun) -> str:
    """The facts, then the settled values, the warnings and the errors."""
    lines = [f"Dry run of {result.settings.algorithm} on {result.settings.stream} images; nothing was written.", ""]
    lines += _rows("start", *_start(result.start, result.output_dir))
    if result.settings.preset != "none":
        lines += _rows("preset", _preset(result))
    lines += _rows("machine", _machine(result.machine))
    if result.images is not None and result.sample is not None:
        lines += _rows("images", *_images(result.images, result.sample))
    if result.evaluation:
        lines += _rows("evaluation", result.evaluation)
    if result.forecast is not None:
        lines += _forecast(result, result.forecast)
        lines += ["", "Settled from `auto`:", *_settled(result)]
    lines += ["", f"Warnings: {len(result.advice) or 'none'}"]
    for advice in result.advice:
        lines += _wrapped(f"{advice.topic}: {advice.text}", indent="  ")
        lines += _wrapped(f"try {advice.remedy}", indent="    ")
    lines += ["", f"Errors: {len(result.errors) or 'none; the run can start'}"]
    for error in result.errors:
        for line in str(error).split("\n"):
            lines += _wrapped(f"[{error.code}] {line}", indent="  ")
    return "\n".join(printable(line) for line in lines)


def _rows(title: str, *texts: str) -> list[str]:
    """Paragraphs beside one title."""
    indent = " " * _COLUMN
    lines = [line for text in texts for line in _wrapped(text, indent=indent)]
    return [title.ljust(_COLUMN) + lines[0][_COLUMN:], *lines[1:]]


def _wrapped(text: str, *, indent: str) -> list[str]:
    hanging = indent + "  " if indent.strip() == "" and len(indent) < _COLUMN else indent
    lines = textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(_GLUE, " ") for line in lines]


def _start(start: Start, out: Path) -> Iterator[str]:
    if start.finished:
        yield f"{out}: finished already at step {start.step:,}; the run would do nothing"
    elif start.checkpoint is not None:
        yield f"{out}: goes on from {start.checkpoint.name}, at step {start.step:,}"
    else:
        yield f"a new run in {out}"
    if start.weights:
        yield start.weights
    if start.removes:
        yield f"removes an earlier run's files there: {', '.join(path.name for path in start.removes)}"
    for change in start.changes:
        yield f"changes {change}"


def _preset(result: DryRun) -> str:
    name = result.settings.preset
    number = list(result.origins.values()).count(f"preset {name}")
    return f"{name}: {counted(number, 'value')} from it; --print-config shows which"


def _machine(machine: Machine) -> str:
    device = machine.device or "unknown device (see the errors)"
    return (
        f"{device}, {counted(machine.threads, 'thread')}, {counted(machine.workers, 'loader worker')}, "
        f"{machine.precision}; "
        f"{_size(machine.free_memory)} of memory and {_size(machine.free_disk)} of disk are free"
    )


def _images(images: Images, sample: Sample) -> Iterator[str]:
    labels = f" in {len(images.labels)} sub-folders" if len(images.labels) > 1 else ""
    yield f"{images.number:,}{labels}; {sample.tried:,} of them decoded"
    if sample.sides:
        smallest, middle, largest = (f"{width} x {height}" for width, height in sample.sides)
        yield f"sizes: {smallest} to {largest} px, median {middle}"
    if sample.bad:
        reasons = "; ".join(f"{count} {reason}" for reason, count in list(sample.bad.items())[:3])
        yield f"cannot be read: {sample.num_bad} of {sample.tried} ({reasons}), such as {sample.bad_files[0].path}"
    others = sum(images.other_formats.values())
    if others:
        share = others / (others + images.number)
        yield f"not read, {share:.1%} of the files: {other_formats_text(images.other_formats)}"
    if images.left_out:
        yield images.left_out
    yield from images.warnings


def _forecast(result: DryRun, forecast: Forecast) -> list[str]:
    settings, steps, size = result.settings, forecast.plan, forecast.size
    vit, crops, horizon = settings.vit, settings.augmentation, forecast.ema_horizon
    share = f", {horizon / steps.total_steps:.0%} of the run" if steps.total_steps and math.isfinite(horizon) else ""
    return [
        *_rows(
            "length",
            _length(result, forecast),
            *_left_out(result, forecast),
            f"the teacher averages over {horizon:,.0f} steps at the start{share}",
        ),
        *_rows(
            "network",
            f"ViT of width {vit.embed_dim}, depth {vit.depth}, patch {vit.patch_size} at {crops.image_size} px: "
            f"{size.backbone_parameters:,} parameters, and {size.head_parameters:,} of the heads",
            f"{size.flops_per_image / 1e9:,.1f} GFLOP for an image in a step "
            f"({crops.num_global_crops} global and {crops.num_local_crops} local crops)",
        ),
        *_rows("memory", *_memory(result, forecast)),
        *_rows("speed", *_speed(result, forecast)),
        *_rows("time", _time(result, forecast)),
        *_rows(
            "disk",
            f"{_size(forecast.disk_bytes)} at most: four checkpoints of {_size(size.checkpoint_bytes)} while one is "
            "being written, metrics, exports",
        ),
        *_files(result, forecast),
    ]


def _length(result: DryRun, forecast: Forecast) -> str:
    steps, origin = forecast.plan, result.origins.get("epochs", "")
    of = f"of {counted(steps.steps_per_epoch, 'step')} of {counted(steps.images_per_step, 'image')}"
    if origin == f"auto: {UNTIMED.source}":
        return f"epochs {of}; how many the minutes allow is not known, because no step was timed"
    by = f", by {origin.removeprefix('auto: ')}" if result.settings.train_minutes and origin.startswith("auto") else ""
    return f"{counted(known(result.settings.epochs), 'epoch')} {of}: {counted(steps.total_steps, 'step')}{by}"


def _memory(result: DryRun, forecast: Forecast) -> Iterator[str]:
    memory = forecast.memory
    on_device = forecast.needed_memory == memory.device
    total = memory.device if on_device else memory.host
    where = f" on {result.machine.device}" if on_device else ""
    compared = "not compared on such a device yet" if on_device else "measured peaks were 6 to 11% above it"
    yield f"about {_size(total)}{where} (computed from the settings; {compared})"
    parts = [f"{_NAMES.get(name, name)} {_size(value)}" for name, value in memory._asdict().items() if value]
    yield ", ".join(parts)
    if memory.is_largest_at_start and not on_device:
        yield "it is largest at the start, while the patch embedding is fitted to the images"


def _speed(result: DryRun, forecast: Forecast) -> Iterator[str]:
    speed = forecast.speed
    if speed is None:
        yield _unmeasured(result)
        return
    timed = f"{counted(speed.steps, 'step')} of {counted(speed.images_per_step, 'image')}"
    if speed.limited_by:
        yield f"{_rate(speed.together)} images/s, estimated from {timed}"
        yield f"(a whole step of {counted(forecast.plan.images_per_step, 'image')} {_TOO_MUCH[speed.limited_by]})"
    else:
        yield f"{_rate(speed.together)} images/s, timed on {timed}"
    if result.machine.load.is_busy:
        yield load_text(result.machine.load)
    yield f"the step alone {_rate(speed.step)}, the loader alone {_rate(speed.loader)} images/s"
    yield _loading(result, speed)


def _unmeasured(result: DryRun) -> str:
    if result.errors:
        return "not measured: the run would not get through (see the errors)"
    return "not measured: " + ("nothing is left to do" if result.start.finished else "two images a step do not fit")


def _loading(result: DryRun, speed: Speed) -> str:
    if speed.data_wait <= _STARVED:
        return f"the step waits {speed.data_wait:.0%} of the time for data, which is fine"
    cache = "" if result.settings.dataset.cache == "ram" else "--dataset-cache ram, "
    remedy = f"{cache}more --num-workers or smaller image files"
    return f"the step waits {speed.data_wait:.0%} of the time for data: {remedy}"


def _closeness(speed: Speed | None, load: Load) -> str:
    """How far the time can be trusted."""
    if speed is not None and speed.limited_by:
        return "a rough guess:" if speed.steps == 1 else "roughly"
    return "at most" if load.is_busy else "about"


def _left_out(result: DryRun, forecast: Forecast) -> Iterator[str]:
    """The incomplete last batch, where it is much of an epoch."""
    steps = forecast.plan
    seen = (result.images.number if result.images is not None else 0) * result.settings.pseudo_epochs
    left_out = seen - steps.steps_per_epoch * steps.images_per_step
    if steps.steps_per_epoch and left_out > _MUCH * seen:
        yield f"an epoch leaves out {left_out:,} of {counted(seen, 'image')}: the incomplete last batch"


def _time(result: DryRun, forecast: Forecast) -> str:
    if forecast.training_seconds is None or forecast.evaluation_seconds is None:
        return "not known"
    whole = duration(forecast.training_seconds + forecast.evaluation_seconds)
    about = _closeness(forecast.speed, result.machine.load)
    if not forecast.evaluation_seconds:
        return f"{about} {whole} to the end"
    return f"{about} {whole} to the end, {duration(forecast.evaluation_seconds)} of it for evaluation"


def _files(result: DryRun, forecast: Forecast) -> list[str]:
    out = result.output_dir
    inside = [file for file in forecast.files if file.path.parent == out]
    outside = [file for file in forecast.files if file.path.parent != out]
    rows = [f"in {out}:", *(_file(file, file.path.name) for file in inside)]
    return _rows("writes", *rows, *(_file(file, str(file.path)) for file in outside))


def _file(file: OutputFile, name: str) -> str:
    size = f" ({_size(file.num_bytes)})" if file.num_bytes > 1e6 else ""
    return f"{name}{size}: {file.note}"


def _settled(result: DryRun) -> Iterator[str]:
    values = flatten(result.settings.model_dump())
    size_is_given = not any(result.origins.get(key, "").startswith("auto") for key in ("vit.embed_dim", "vit.depth"))
    for key, leaf in BY_KEY.items():
        origin = result.origins.get(key, "")
        if origin.startswith("auto") and not (key == "vit.backbone" and size_is_given):
            value = f"{values[key]:.6g}" if isinstance(values[key], float) else str(values[key])
            yield from _in_columns(f"  {leaf.flag:<30} {value:<12} ", origin.removeprefix("auto: "))
    machine = result.machine
    for key, text in (
        ("device", machine.device or "unknown"),
        ("precision", machine.precision),
        ("dataset.num_workers", machine.workers),
    ):
        if values[key] == "auto":
            yield f"  {BY_KEY[key].flag:<30} {text:<12} this machine"


def _in_columns(head: str, text: str) -> Iterator[str]:
    """The text beside the head, and below itself where the line is full."""
    first, *rest = textwrap.wrap(text, _WIDTH - len(head), break_long_words=False, break_on_hyphens=False)
    yield head + first
    yield from (" " * len(head) + line for line in rest)


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f}{_GLUE}GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.0f}{_GLUE}MB"


def _rate(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"
