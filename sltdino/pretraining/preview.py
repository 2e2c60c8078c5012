"""A dry run: everything that can be known about a run before it starts, without writing a byte."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch

from sltdino.core import files
from sltdino.core.auto import Plan, Settled, plan, settle
from sltdino.core.distributed import World, join
from sltdino.core.run_files import LoadedCheckpoint, own_files
from sltdino.core.run_place import other_files
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_schema import with_absolute_paths
from sltdino.core.trackers import refuse_missing
from sltdino.data.batches import BatchBuilder
from sltdino.data.cache import free_memory
from sltdino.data.image_folder import ImageFolder, scan_listed
from sltdino.errors import SltDinoError
from sltdino.pretraining.advice import (
    Advice,
    advise_bad_images,
    advise_data,
    advise_folder,
    advise_load,
    advise_resources,
    advise_settings,
    ema_horizon,
)
from sltdino.pretraining.estimates import (
    Memory,
    Size,
    disk_bytes,
    estimate_memory,
    measure_size,
    num_evaluations,
    output_files,
)
from sltdino.pretraining.finish import export_paths, export_problems
from sltdino.pretraining.initial import initial_network, start_text
from sltdino.pretraining.length import UNTIMED, Costs, costs_of, length_within, timing_seconds
from sltdino.pretraining.loop import num_workers
from sltdino.pretraining.measured import (
    Load,
    expected_step_seconds,
    longest_seconds,
    machine_load,
    measure_speed,
    trial,
)
from sltdino.pretraining.preview_facts import DryRun, Forecast, Images, Machine, Start
from sltdino.pretraining.probes import Probes, build_probes, evaluation_plan
from sltdino.pretraining.progress import Reporter, Silent
from sltdino.pretraining.sample import Sample, decode_sample, stops_a_run, too_many_bad
from sltdino.pretraining.session import COPIES, uses_autocast
from sltdino.pretraining.start import (
    Collected,
    asked_for,
    check_output_dir,
    continuation,
    folder_problems,
    out_of_memory_said,
    output_dir,
    overwrites,
)
from sltdino.training.batches import build_batches

SECONDS = 15.0
"""Time for the measurements; building the networks and the first images come on top."""
_DECODING = 0.2  # share of it
_MEMORY_USED = 0.9  # share of the free memory that a measurement may take


def dry_run(
    settings: PretrainSettings,
    *,
    origins: Mapping[str, str] | None = None,
    seconds: float = SECONDS,
    reporter: Reporter | None = None,
) -> DryRun:
    """Check, scan, decode a sample, estimate and time a few steps of what `pretrain` would do; nothing is written.

    Args:
        origins: where each value came from, by dotted key.
        seconds: about how long to measure.
        reporter: told what is being measured.

    Raises:
        Nothing a user can act on: that is in `errors` of the result.
    """
    return _Preview(settings, dict(origins or {}), reporter or Silent()).run(seconds)


class _Preview:
    """A dry run as it goes on. Errors are collected, in the order in which a run would meet them."""

    def __init__(self, settings: PretrainSettings, origins: dict[str, str], reporter: Reporter) -> None:
        self.settings, self.origins, self.reporter = settings, origins, reporter
        self.asked = settings
        self.settle_for: Callable[..., Settled] | None = None
        """Settles what was asked for, for a `length`; None for a run that goes on, which has its own."""
        self.errors: list[SltDinoError] = []
        self.world = World()
        self.is_device_known = False
        self.load = machine_load()
        self.batches: BatchBuilder | None = None
        self.is_surely_bad = False
        self.checkpoint: LoadedCheckpoint | None = None
        self.start = Start(0, None, False, (), ())

    def run(self, seconds: float) -> DryRun:
        with Collected(self.errors):
            self.checkpoint = asked_for(self.settings)
        start_is_known = not self.errors
        with Collected(self.errors):
            refuse_missing(self.settings.track)
        out = output_dir(self.settings) if self.checkpoint is None else self.checkpoint.path.parent
        self.settings = with_absolute_paths(self.settings)
        with Collected(self.errors):
            self.world = join(self.settings.device)
            self.is_device_known = True
        with Collected(self.errors):
            check_output_dir(self.settings, out)
        images, sample, size = None, None, None
        with Collected(self.errors):
            images = scan_listed(self.settings.train_dir, self.settings.dataset.exclude)
        if images is not None:
            size = self._settled_size(images, out)
        probes = self._probes(images) if images is not None and size is not None else None
        if start_is_known:
            self.errors += folder_problems(out, self.settings, resuming=self.checkpoint is not None)
        if size is not None:
            self._check_disk(out, size)
        self._check_exports(out)
        machine = _machine(self.settings, self.world, out, self.load)
        if not self.is_device_known:
            machine = machine._replace(device="")
        forecast, advice = None, list[Advice]()
        if images is not None:
            self.reporter.say(f"dry run: decoding a sample of {len(images):,} images")
            sample = decode_sample(images, seed=self.settings.seed, seconds=_DECODING * seconds)
            self._check_sample(images, sample)
            if size is not None:
                forecast = self._forecast(images, sample, size, machine, out, probes, (1 - _DECODING) * seconds)
                advice = [*self._advice(images, sample, machine, forecast), *self._folder_advice(out)]
        return DryRun(
            self.settings, self.origins, out, self.start, machine, None if images is None else _images(images), sample,
            "" if probes is None else evaluation_plan(self.settings, probes), forecast, tuple(advice),
            tuple(self.errors),
        )  # fmt: skip

    def _settled_size(self, images: ImageFolder, out: Path) -> Size | None:
        """Replace the settings by those the run would have, and size it; None where there are no such settings."""
        if self.checkpoint is not None:
            with Collected(self.errors):
                found = continuation(
                    self.checkpoint, self.settings, images, allow_change=(), world_size=self.world.size
                )
                changes = tuple(f"{change.key}: {change.old} -> {change.new}" for change in found.changes)
                self.start = Start(found.step, self.checkpoint.path, found.finished, changes, ())
                self.settings, self.origins = found.settings, {**self.checkpoint.state["origins"], **self.origins}
                return measure_size(self.settings)
        elif overwrites(self.settings):
            self.start = self.start._replace(removes=tuple(own_files(out, self.settings.checkpointing)))
        with Collected(self.errors):
            self.start = self.start._replace(weights=start_text(self.settings, self.origins))
            self.asked, initial = self.settings, initial_network(self.settings)
            self.settle_for = partial(
                settle, self.asked, num_images=len(images), world_size=self.world.size, initial=initial
            )
            self._take(self.settle_for(length=None if self.asked.train_minutes is None else UNTIMED))
            return measure_size(self.settings)
        return None

    def _take(self, settled: Settled) -> None:
        self.settings, self.origins = settled.settings, {**self.origins, **settled.origins}

    def _probes(self, images: ImageFolder) -> Probes | None:
        """Check that the images make a batch and that the validation images serve."""
        dataset = self.settings.dataset
        with Collected(self.errors):
            self.batches = build_batches(trial(self.settings, dataset.batch_size, self.passes), images, self.world)
        with Collected(self.errors):
            return build_probes(self.settings, images)
        return None

    def _check_sample(self, images: ImageFolder, sample: Sample) -> None:
        """Refuse what a new run is sure to stop at; one that goes on has counted some of its bad images before."""
        if self.batches is None or self.checkpoint is not None:
            return
        allowed, number = self.settings.dataset.max_bad_fraction, len(images)
        total = plan(self.settings, num_images=number, world_size=self.world.size).total_steps
        if stops_a_run(sample, self.batches, num_images=number, allowed=allowed, total_steps=total):
            bad = [(file.path, file.reason) for file in sample.bad_files]
            then = "mend or remove them, or allow more"
            self.errors.append(too_many_bad(bad, num_images=number, allowed=allowed, then=then))
            self.is_surely_bad = True

    def _check_disk(self, out: Path, size: Size) -> None:
        found = [path.lstat() for path in self.start.removes]
        freed = {(file.st_dev, file.st_ino): file.st_size for file in found}  # two checkpoints may be one file
        with Collected(self.errors):
            files.check_free_space(out, COPIES * size.checkpoint_bytes - sum(freed.values()))

    def _check_exports(self, out: Path) -> None:
        self.errors += export_problems(self.settings, out)
        for path in export_paths(self.settings, out):
            with Collected(self.errors):
                files.check_writable(path.parent)

    @property
    def passes(self) -> int:
        return self.settings.optimizer.accumulate_steps

    def _forecast(
        self, images: ImageFolder, sample: Sample, size: Size, machine: Machine, out: Path,
        probes: Probes | None,
        seconds: float,
    ) -> Forecast:  # fmt: skip
        world = self.world
        steps = plan(self.settings, num_images=len(images), world_size=world.size)

        def memory_of(batch_size: int) -> Memory:
            image_bytes = 3 * sample.mean_pixels
            return estimate_memory(
                self.settings, size, world, batch_size=batch_size, num_images=len(images), image_bytes=image_bytes
            )

        def fits(batch_size: int) -> bool:
            return _needed(memory_of(batch_size), world) < _MEMORY_USED * machine.free_memory

        memory, speed = memory_of(self.settings.dataset.batch_size), None
        can_run = not self.errors and steps.total_steps and sample.num_bad < sample.tried
        if can_run and not self.start.finished and fits(2):
            step_seconds = expected_step_seconds(size.flops_per_image * steps.images_per_step, world.device)
            longest = longest_seconds(seconds, step_seconds, images=steps.images_per_step)
            how_long = f"about {seconds:.0f} s" if longest < 1.5 * seconds else f"{seconds:.0f} to {longest:.0f} s"
            self.reporter.say(f"dry run: timing the loader and a few steps, {how_long}")
            with Collected(self.errors), out_of_memory_said():
                speed = measure_speed(
                    self.settings, images, world, seconds=seconds, step_seconds=step_seconds, fits=fits
                )
        training = evaluation = None
        if speed is not None and probes is not None:
            costs = costs_of(self.settings, steps, size, probes, speed)
            steps = self._with_length(steps, costs, num_images=len(images))
            training = (steps.total_steps - self.start.step) * costs.step
            evaluation = num_evaluations(self.settings, steps) * costs.evaluation
        settings, has_labels = self.settings, probes is not None and probes.knn is not None
        outputs = tuple(output_files(settings, size, steps, out, has_labels=has_labels))
        return Forecast(
            steps, ema_horizon(settings), size, memory, _needed(memory, world), outputs, disk_bytes(outputs, size),
            speed, training, evaluation,
        )  # fmt: skip

    def _with_length(self, steps: Plan, costs: Costs, *, num_images: int) -> Plan:
        """The plan once the steps are timed: another one where minutes are given."""
        if self.settle_for is None or self.asked.train_minutes is None:
            return steps
        with Collected(self.errors):
            spent = timing_seconds(self.asked.train_minutes)
            self._take(self.settle_for(length=length_within(self.asked, steps, costs, spent=spent)))
        return plan(self.settings, num_images=num_images, world_size=self.world.size)

    def _advice(self, images: ImageFolder, sample: Sample, machine: Machine, forecast: Forecast) -> Iterator[Advice]:
        yield from advise_settings(self.settings, self.world)
        if not self.is_surely_bad:
            yield from advise_bad_images(self.settings, sample)
        yield from advise_data(self.settings, images, forecast.plan)
        if forecast.speed is not None:
            yield from advise_load(self.load)
        yield from advise_resources(
            self.settings,
            self.origins,
            self.world,
            seconds=(forecast.training_seconds or 0) + (forecast.evaluation_seconds or 0),
            memory=forecast.needed_memory,
            free_memory=machine.free_memory,
            disk=forecast.disk_bytes,
            free_disk=machine.free_disk,
        )

    def _folder_advice(self, out: Path) -> Iterator[Advice]:
        """A new run says so when it begins; one that goes on has said it."""
        if self.checkpoint is None and out.is_dir():
            removed = {path.name for path in self.start.removes}
            with Collected(self.errors):
                others = other_files(out, self.settings.checkpointing)
                yield from advise_folder(out, [name for name in others if name not in removed])


def _images(images: ImageFolder) -> Images:
    left_out = "" if images.excluded is None else images.excluded.text
    return Images(len(images), images.fingerprint, images.labels, images.other_formats, images.warnings, left_out)


def _machine(settings: PretrainSettings, world: World, out: Path, load: Load) -> Machine:
    on_cuda = torch.device(world.device).type == "cuda"
    return Machine(
        device=world.device,
        threads=torch.get_num_threads(),
        workers=num_workers(settings),
        precision="bf16" if uses_autocast(settings, world) else "fp32",
        free_memory=torch.cuda.mem_get_info(world.device)[0] if on_cuda else free_memory(),
        free_disk=files.free_space(out),
        load=load,
    )


def _needed(memory: Memory, world: World) -> int:
    """Beyond what the process has already, on the device that computes."""
    return memory.device if torch.device(world.device).type == "cuda" else memory.host - memory.program
