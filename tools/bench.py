"""How fast is a step, against what this machine's matrix products allow; all in one run, interleaved.

    python tools/bench.py small          # width 192, depth 6, patch 16, 112 px, 2+4 crops of 48, batch 32
    python tools/bench.py vits --json    # ViT-S/16, 224 px, 2+8 crops of 96, 65,536 prototypes, batch 8
    python tools/bench.py inspect        # how long `sltdino inspect` takes for a run of a million step records
    python tools/bench.py vits --watch   # instead: what the health watch costs, of a step
    python tools/bench.py check          # `sltdino check`: images measured, and 100,000 hashes compared all with all
    python tools/bench.py processes      # a thread a core, or a process a core with averaged gradients

Every figure is the median over the rounds, with the smallest and the largest.
"""

import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from bench_processes import figures as process_figures

from sltdino.core.auto import settle
from sltdino.core.distributed import World
from sltdino.core.memory import keep_freed_memory
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_base import known
from sltdino.data.checking.measuring import measured
from sltdino.data.checking.near_pairs import close_pairs
from sltdino.data.image_folder import scan
from sltdino.data.loader import build_loader
from sltdino.data.synthetic import write_demo_crops
from sltdino.models.cost import step_flops, step_shape
from sltdino.pretraining.session import Session, build_session, masked_share
from sltdino.training.observation import PrototypeUsage, observe
from sltdino.training.trainer import StepResult
from sltdino.types import Batch

CASES: dict[str, dict[str, Any]] = {
    "small": {
        "dataset": {"batch_size": 32},
        "augmentation": {"image_size": 112, "local_crop_size": 48, "num_local_crops": 4},
        "vit": {"embed_dim": 192, "depth": 6, "num_heads": 3, "patch_size": 16},
        "head": {"out_dim": 4096, "hidden_dim": 2048},
    },
    "vits": {
        "dataset": {"batch_size": 8},
        "augmentation": {"image_size": 224, "local_crop_size": 96, "num_local_crops": 8},
        "vit": {"backbone": "vit-small", "patch_size": 16},
        "head": {"out_dim": 65_536, "hidden_dim": 2048},
    },
}
NUM_WORKERS = 2
RECORD = (
    '{{"step": {step}, "timestamp": "2026-01-01T00:00:00.000+00:00", "context": "train_step", "loss": {loss!r}, '
    '"loss_cls": {loss!r}, "loss_koleo": 1.8214075565338135, "grad_norm": 1.9110548496246338, "epoch": {epoch}, '
    '"epoch_step": 1, "learning_rate": 0.00019999999999999998, "weight_decay": 0.040336746461255346, '
    '"teacher_momentum": 0.9921073897140109, "teacher_temp": 0.33, "loss_gap": {gap!r}, '
    '"target_entropy": 4.800544738769531, "assignment_entropy": 6.931262016296387, '
    '"assignment_kl": 0.014523849487304688, "feature_spread": 0.6743646264076233, '
    '"cosine_to_mean": 0.738398551940918, "prototypes_used": 1016, "images_per_second": 89.01030955202, '
    '"data_wait": 0.016472550034392054, "eta_seconds": 669.4110341072083, "health": "healthy"}}\n'
)
"""A step as a run writes it."""
MEASURE = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
seconds, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""


class Figure(NamedTuple):
    """A measured value: median, smallest and largest over the rounds."""

    median: float
    smallest: float
    largest: float


def matmul_rate() -> float:
    """The machine's best rate of square fp32 products, in operations a second."""
    best = 0.0
    for size in (1024, 2048, 3072, 4096):
        a, b = torch.randn(size, size), torch.randn(size, size)
        repeats = max(1, round(2e10 / (2 * size**3)))
        start = time.perf_counter()
        for _ in range(repeats):
            a @ b
        best = max(best, 2 * size**3 * repeats / (time.perf_counter() - start))
    return best


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Bench:
    """One case with its network, its crops on disk and one batch in memory."""

    def __init__(self, case: str, algorithm: str, folder: Path) -> None:
        keep_freed_memory()
        write_demo_crops("hands", folder, count=400, seed=0)
        values = {"train_dir": str(folder), "algorithm": algorithm, "epochs": 1000, **CASES[case]}
        images = scan([folder])
        settings = settle(PretrainSettings.model_validate(values), num_images=len(images)).settings
        self.session: Session = build_session(settings, images, World())
        self.batch_size = settings.dataset.batch_size
        self.log_interval = settings.log_interval
        self.usage = PrototypeUsage(known(settings.head.out_dim), first_step=0, device="cpu")
        shape = step_shape(settings.vit, settings.head, settings.augmentation)
        self.flops = step_flops(shape, masked_share=masked_share(settings)) * self.batch_size
        self.fixed: tuple[Batch, ...] = self.session.batches[0].batches
        self.stream = build_loader(self.session.batches, first_step=0, last_step=10**6, num_workers=NUM_WORKERS)

    def step(self, repeats: int) -> None:
        for _ in range(repeats):
            self.session.trainer.step(self.fixed)

    def augment(self, repeats: int) -> None:
        for step in range(repeats):
            self.session.batches[step]

    def end_to_end(self, repeats: int) -> None:
        for _ in range(repeats):
            self.session.trainer.step(next(self.stream).batches)

    def watched_step(self, repeats: int) -> None:
        """As the loop: each step is seen, and each logged one is measured."""
        for step in range(1, repeats + 1):
            result = self.session.trainer.step(self.fixed)
            self.usage.see(step, result.scores_MK)
            if step % self.log_interval == 0:
                self.measure(result)

    def measure(self, result: StepResult) -> None:
        observe(result, student_temp=self.session.settings.loss.student_temp)
        self.usage.count(100, window=100)

    def watch_figures(self, rounds: int) -> dict[str, Figure]:
        """Steps with the watch against steps without, in turns; and its own work, which is less than their noise."""
        rows: dict[str, list[float]] = {}
        result = self.session.trainer.step(self.fixed)
        num_steps = self.log_interval
        for number in range(rounds):
            works = [partial(self.step, num_steps), partial(self.watched_step, num_steps)]
            order = [0, 1] if number % 2 else [1, 0]
            seconds = {index: timed(works[index]) for index in order}
            step = seconds[0] / num_steps
            see, measure = timed(lambda: self.usage.see(1, result.scores_MK)), timed(lambda: self.measure(result))
            row = {
                "watch.step_ratio": seconds[1] / seconds[0],
                "watch.share_of_step": (see + measure / num_steps) / step,
                "watch.see_ms": 1e3 * see,
                "watch.measure_ms": 1e3 * measure,
                "step_ms": 1e3 * step,
            }
            for name, value in row.items():
                rows.setdefault(name, []).append(value)
        return {name: Figure(statistics.median(v), min(v), max(v)) for name, v in rows.items()}

    def figures(self, rounds: int, repeats: int) -> dict[str, Figure]:
        """Measure everything once a round, one after the other, so that a slow moment hits all alike."""
        rows: dict[str, list[float]] = {}
        self.end_to_end(2)
        self.step(1)
        images = repeats * self.batch_size
        for _ in range(rounds):
            rate = matmul_rate()
            step, augment = timed(lambda: self.step(repeats)), timed(lambda: self.augment(repeats))
            end_to_end = timed(lambda: self.end_to_end(repeats))
            row = {
                "matmul.gflops": rate / 1e9,
                "step.images_per_second": images / step,
                "step.matmul_share": self.flops * repeats / step / rate,
                "augmentation.images_per_second": images / augment,
                "end_to_end.images_per_second": images / end_to_end,
                "end_to_end.share_of_step": step / end_to_end,
            }
            for name, value in row.items():
                rows.setdefault(name, []).append(value)
        return {name: Figure(statistics.median(v), min(v), max(v)) for name, v in rows.items()}


def inspect_figures(folder: Path, records: int) -> dict[str, float]:
    """Write a run with so many step records and an epoch's for each thousand, and read it as a user would."""
    settings = {"train_dir": "crops", "epochs": 10_000, "head": {"out_dim": 1024}}
    params = {
        "algorithm": "dino", "stream": "hand", "epochs": 10_000, "total_steps": records * 10,
        "backbone": {"image_size": 64, "patch_size": 8, "embed_dim": 128, "depth": 4, "num_heads": 2},
        "settings": PretrainSettings.model_validate(settings).model_dump(mode="json"), "origins": {},
    }  # fmt: skip
    (folder / "params.json").write_text(json.dumps(params))
    with (folder / "metrics.jsonl").open("w") as file:
        for number in range(1, records + 1):
            step, epoch, gap = number * 10, number // 1000 + 1, number / records + (number * 7919 % 101) / 1000
            file.write(RECORD.format(step=step, epoch=epoch, loss=math.log(1024) - gap, gap=gap))
            if number % 1000 == 0:
                file.write(json.dumps({"step": step, "context": "train_epoch", "epoch": epoch, "loss": 6.0}) + "\n")
    # a child begins with the peak of its parent, which has torch: so a small process starts and measures it
    command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "sltdino", "inspect", str(folder)]
    seconds, processor_seconds, peak = json.loads(subprocess.check_output(command))
    return {
        "records": records,
        "file_mb": (folder / "metrics.jsonl").stat().st_size / 1e6,
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "peak_memory_mib": peak * (1 if sys.platform == "darwin" else 1024) / 2**20,
    }


def check_figures(folder: Path) -> dict[str, float]:
    """Images of 128 px that one process measures a second, and seconds to compare 100,000 hashes all with all."""
    write_demo_crops("hands", folder, count=2000, seed=0)
    images, hashes = scan([folder]), np.random.default_rng(0).integers(0, 1 << 63, 100_000, dtype=np.uint64)
    start = time.perf_counter()
    with measured([images], workers=1):
        rate = len(images) / (time.perf_counter() - start)
    seconds = timed(lambda: [*close_pairs(hashes, np.arange(len(hashes)))])
    return {"images_per_second": rate, "seconds_for_100000_hashes": seconds}


def main(
    case: Annotated[str, typer.Argument(help="small, vits, inspect, check or processes.")],
    algorithm: Annotated[str, typer.Option(help="dino, ibot or dinov2.")] = "dino",
    rounds: Annotated[int, typer.Option(min=1, help="Times everything is measured.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="Steps in one measurement.")] = 4,
    records: Annotated[int, typer.Option(min=1, help="Steps in the metrics, for inspect.")] = 1_000_000,
    watch: Annotated[bool, typer.Option("--watch", help="Measure the health watch instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a training step and what surrounds it, or how long a long run takes to inspect."""
    if case in ("inspect", "check", "processes"):
        with tempfile.TemporaryDirectory() as folder:
            found = {
                "inspect": lambda: inspect_figures(Path(folder), records),
                "check": lambda: check_figures(Path(folder)),
                "processes": lambda: process_figures(Path(folder), rounds, repeats),
            }[case]()
        print(json.dumps(found, indent=2) if as_json else "\n".join(f"{k:<32} {v:12,.2f}" for k, v in found.items()))
        return
    if case not in CASES:
        raise typer.BadParameter(
            f"{case!r} is not one of {', '.join([*CASES, 'inspect', 'check', 'processes'])}", param_hint="CASE"
        )
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(case, algorithm, Path(folder) / "crops")
        figures = bench.watch_figures(rounds) if watch else bench.figures(rounds, repeats)
        bench.stream.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    report = {
        "case": case, "algorithm": algorithm, "threads": torch.get_num_threads(), "workers": NUM_WORKERS,
        "gflops_per_image": bench.flops / bench.batch_size / 1e9, "peak_memory_mib": peak / 2**20,
    }  # fmt: skip
    if as_json:
        print(json.dumps({**report, **{name: figure._asdict() for name, figure in figures.items()}}, indent=2))
        return
    for key, fact in report.items():
        print(f"{key:<32} {fact:10.1f}" if isinstance(fact, float) else f"{key:<32} {fact:>10}")
    for name, figure in figures.items():
        print(f"{name:<32} {figure.median:10.3f}   ({figure.smallest:.3f} to {figure.largest:.3f})")


if __name__ == "__main__":
    typer.run(main)
