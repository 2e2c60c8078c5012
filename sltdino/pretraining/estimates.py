"""What a run will need, computed from its settings before anything is built: parameters, memory, disk."""

import math
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from sltdino.core import run_files
from sltdino.core.auto import Plan
from sltdino.core.distributed import World
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_base import known
from sltdino.models.cost import Shape, forward_bytes, forward_flops, kept_bytes, passing_bytes, step_flops, step_shape
from sltdino.models.layout import CHUNK
from sltdino.pretraining.finish import export_paths
from sltdino.pretraining.loop import num_workers
from sltdino.pretraining.measured import Speed
from sltdino.pretraining.probes import Probes
from sltdino.pretraining.session import (
    CALIBRATION_IMAGES,
    COPIES,
    build_model,
    checkpoint_bytes,
    masked_share,
    uses_autocast,
)
from sltdino.pretraining.tracking import PICTURED

_EVALUATION_BATCH = 128  # images that a probe embeds at once
_STEP_RECORD, _EPOCH_RECORD = 800, 500  # bytes of metrics.jsonl: 700 and 300 were measured
_SAVE_SECONDS, _SAVE_RATE = 0.05, 2e8  # bytes a second
_INDEXES = 15_000  # bytes of params.json, status.json and artifacts.json together: 8 kB were measured


class Size(NamedTuple):
    """What a step works through."""

    backbone_parameters: int
    head_parameters: int
    """Of one network; the teacher has as many again."""
    flops_per_image: float
    """Of one training step."""
    checkpoint_bytes: int


class Memory(NamedTuple):
    """Bytes at the most, by what they are for."""

    program: int
    """What this process has taken already: Python, torch and the list of the images."""
    weights: int
    """Student and teacher."""
    gradients: int
    optimizer: int
    activations: int
    """What the forward passes of one batch keep, and the gradients where the backward pass starts."""
    start: int
    """What calibrating a layout start takes, before there are gradients; else 0."""
    evaluation: int
    """Images and features of the probes."""
    batches: int
    """Crops that the loader has ready."""
    cache: int
    """Decoded images; 0 unless they are kept."""

    @property
    def device(self) -> int:
        """At the step, on the device that computes."""
        return self.weights + self.gradients + self.optimizer + max(self.activations, self.evaluation)

    @property
    def host(self) -> int:
        """Of this process when the device is the CPU."""
        return self.program + self.cache + self.batches + max(self.device, self.weights + self.start)

    @property
    def is_largest_at_start(self) -> bool:
        """Before the first step, that is."""
        return self.weights + self.start > self.device


class OutputFile(NamedTuple):
    """A file that the run would write."""

    path: Path
    num_bytes: int
    """At the most, nearly."""
    note: str


def measure_size(settings: PretrainSettings) -> Size:
    """Count parameters and operations. The networks are built without memory for their weights."""
    with torch.device("meta"):
        model = build_model(settings)
    backbone, whole = (
        sum(parameter.numel() for parameter in part.parameters()) for part in (model.student.backbone, model.student)
    )
    flops = step_flops(shape_of(settings), masked_share=masked_share(settings))
    return Size(backbone, whole - backbone, flops, checkpoint_bytes(model))


def shape_of(settings: PretrainSettings) -> Shape:
    """The sizes that the cost formulas take."""
    return step_shape(settings.vit, settings.head, settings.augmentation)


def estimate_memory(
    settings: PretrainSettings, size: Size, world: World, *, batch_size: int, num_images: int, image_bytes: float
) -> Memory:
    """The most memory that a run will hold, nearly.

    Weights, gradients and optimizer follow from the parameters, activations from what autograd keeps of a batch
    (`models.cost`); buffers of the matrix products and fragmentation are left out. Peaks measured on the CPU were 6 to
    11 % higher, for ViT-S/16 at 224 px (DINO, batches of 8 and 32; iBOT, 16) and for width 128 at 64 px (32).

    Args:
        batch_size: that of the settings, or another one that is thought of.
        image_bytes: of an image once decoded, for `dataset.cache`.
    """
    shape, share, half = shape_of(settings), masked_share(settings), uses_autocast(settings, world)
    parameters = 4 * (size.backbone_parameters + size.head_parameters)
    activations = kept_bytes(shape, masked_share=share, half=half) + passing_bytes(shape, masked_share=share)
    return Memory(
        program=resident_bytes(),
        weights=2 * parameters,
        gradients=parameters,
        optimizer=2 * parameters,
        activations=round(batch_size * activations)
        + (parameters // 2 if half else 0),  # autocast's copies of the weights
        start=_calibration_bytes(settings, shape, num_images),
        evaluation=round(_EVALUATION_BATCH * forward_bytes(shape, shape.global_size)),
        batches=_batches_bytes(settings, shape, batch_size),
        cache=round(num_images * image_bytes) if settings.dataset.cache == "ram" else 0,
    )


def resident_bytes() -> int:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def output_files(
    settings: PretrainSettings, size: Size, steps: Plan, out: Path, *, has_labels: bool
) -> list[OutputFile]:
    """Every file that a new run writes, in the run folder and elsewhere.

    Args:
        has_labels: k-NN is measured.
    """
    names = settings.checkpointing
    saved = size.checkpoint_bytes
    epochs, judged = math.ceil(known(settings.epochs)), num_evaluations(settings, steps)
    logged = math.ceil(steps.total_steps / settings.log_interval) + max(epochs, judged)
    history = logged * _STEP_RECORD + (epochs + judged) * _EPOCH_RECORD
    rows = [
        OutputFile(out / names.last_name, saved, "each epoch and every --save-every-minutes"),
        OutputFile(out / run_files.previous_name(names), saved, "the one before"),
        OutputFile(out / names.best_name, saved, "by k-NN" if has_labels else "by the epoch's loss"),
        OutputFile(out / names.history_file, history, "metrics"),
        OutputFile(out / run_files.PARAMS, _INDEXES, "settings, with their origins"),
        OutputFile(out / run_files.STATUS, 0, "state, exit code, notices"),
        OutputFile(out / run_files.ARTIFACTS, 0, "what the run made"),
        OutputFile(out / run_files.BAD_IMAGES, 0, "images that could not be read"),
        OutputFile(out / run_files.LOCK, 0, "keeps a second process out"),
    ]
    for name in settings.track:
        shown = history + _pictures(settings, 1 + judged) + _INDEXES
        rows.append(OutputFile(out / name, shown, f"what {name} shows: records, settings, crops"))
    backbone = 4 * size.backbone_parameters
    for path in export_paths(settings, out):
        rows.append(OutputFile(path, backbone, "export, at the end"))
        if path == settings.export_backbone:
            rows.append(OutputFile(path.with_suffix(".json"), 0, "its metadata"))
    return rows


def _pictures(settings: PretrainSettings, times: int) -> int:
    """Bytes of the pictures of crops, which compress little."""
    crops = settings.augmentation
    pixels = 2 * crops.image_size**2 + known(crops.num_local_crops) * known(crops.local_crop_size) ** 2
    return 3 * pixels * PICTURED * times


def disk_bytes(files: Sequence[OutputFile], size: Size) -> int:
    """The most that all files take, with the checkpoint that is being written."""
    return sum(file.num_bytes for file in files) + (COPIES - 3) * size.checkpoint_bytes


def num_evaluations(settings: PretrainSettings, steps: Plan) -> int:
    """Of a run, with that of the network as it starts."""
    return 1 + math.ceil(steps.total_steps / steps.evaluation_steps(known(settings.evaluation.eval_every)))


def save_seconds(size: Size) -> float:
    """How long it takes to write a checkpoint and to read it back, on a disk that is not tried for it."""
    return _SAVE_SECONDS + size.checkpoint_bytes / _SAVE_RATE


def evaluation_seconds(settings: PretrainSettings, size: Size, probes: Probes, speed: Speed) -> float:
    """How long an evaluation takes: at the step's rate of operations, and one thread of the loader's."""
    shape = shape_of(settings)
    passes = probes.num_inputs * forward_flops(shape, shape.global_size) / (size.flops_per_image * speed.step)
    return passes + probes.num_images * max(1, num_workers(settings)) / speed.loader


def _calibration_bytes(settings: PretrainSettings, shape: Shape, num_images: int) -> int:
    """The sample's images and their stack, and the forward pass of a few."""
    if settings.vit.weight_init != "layout":
        return 0
    passing = min(CHUNK, num_images) * forward_bytes(shape, shape.global_size)
    return min(CALIBRATION_IMAGES, num_images) * 2 * 4 * 3 * shape.global_size**2 + round(passing)


def _batches_bytes(settings: PretrainSettings, shape: Shape, batch_size: int) -> int:
    pixels = shape.num_global * shape.global_size**2 + shape.num_local * shape.local_size**2
    workers = num_workers(settings)
    ready = 2 * workers + 1 if workers else 2
    return ready * settings.optimizer.accumulate_steps * batch_size * pixels * 12
