"""A thread a core, or a process a core whose gradients are averaged: which makes more steps of the laptop preset?

    python tools/bench.py processes

A process of several has its share of the batch. Batch norm, Sinkhorn and KoLeo stay within a process, as they would not
in training, so a real run of several processes is a little slower than what this measures.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from sltdino import load_settings
from sltdino.core.auto import settle
from sltdino.core.distributed import World
from sltdino.core.machine import usable_cores
from sltdino.core.memory import keep_freed_memory
from sltdino.data.image_folder import scan
from sltdino.data.synthetic import write_demo_crops
from sltdino.pretraining.session import build_session

_WARM_UP = 3
"""Steps before the clock starts."""
_MOST_PROCESSES = 16
"""Each has at least two of a batch of 32: batch norm needs them."""
_TIMEOUT = timedelta(minutes=2)
"""For the others, where one has failed."""


def figures(folder: Path, rounds: int, repeats: int) -> dict[str, float]:
    """Images a second of each way, medians over the rounds, and their ratio in each round's pair.

    Args:
        folder: for crops and for what the processes meet by.
    """
    cores = min(usable_cores(), _MOST_PROCESSES)
    rows: dict[str, list[float]] = {"threads": [], "processes": [], "ratio": []}
    write_demo_crops("hands", folder / "crops", count=400, seed=0)
    for number in range(rounds):
        ways = [("threads", 1), ("processes", cores)]
        rates = {name: _rate(folder, size, repeats) for name, size in (ways if number % 2 else ways[::-1])}
        for name, value in {**rates, "ratio": rates["processes"] / rates["threads"]}.items():
            rows[name].append(value)
    medians = {name: statistics.median(values) for name, values in rows.items()}
    return {
        "cores": cores,
        "one_process.images_per_second": medians["threads"],
        "process_a_core.images_per_second": medians["processes"],
        "ratio.median": medians["ratio"],
        "ratio.smallest": min(rows["ratio"]),
        "ratio.largest": max(rows["ratio"]),
    }


def _rate(folder: Path, size: int, repeats: int) -> float:
    threads = usable_cores() // size
    meeting = folder / f"meeting-{time.monotonic_ns()}"
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, __file__, str(folder / "crops"), str(meeting), str(size), str(repeats)]
    children = [
        subprocess.Popen([*command, str(rank)], env=env, stdout=subprocess.PIPE, text=True) for rank in range(size)
    ]
    answers = [child.communicate()[0] for child in children]
    if any(child.returncode for child in children):
        raise RuntimeError("a process of the measurement failed; see its message above")
    return size * min(float(json.loads(answer)["images_per_second"]) for answer in answers)


def _steps(crops: Path, meeting: Path, size: int, repeats: int, rank: int) -> float:
    """Images a second of this process, from crops on disk to the teacher's update."""
    keep_freed_memory()
    flags: dict[str, Any] = {"preset": "laptop", "init_from": None, "train_dir": str(crops)}
    asked = load_settings("hands", flags=flags).settings
    images = scan([crops])
    settings = settle(asked, num_images=len(images)).settings
    whole = settings.dataset.batch_size
    dataset = settings.dataset.model_copy(update={"batch_size": whole // size})
    session = build_session(settings.model_copy(update={"dataset": dataset}), images, World())
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size, timeout=_TIMEOUT)

    def average(optimizer: torch.optim.Optimizer, *_: object) -> None:
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        flat = torch.cat([grad.flatten() for grad in grads])
        dist.all_reduce(flat)
        flat.div_(size)
        at = 0
        for grad in grads:
            grad.copy_(flat[at : at + grad.numel()].view_as(grad))
            at += grad.numel()

    if size > 1:
        session.trainer.optimizer.register_step_pre_hook(average)
    for step in range(_WARM_UP):
        session.trainer.step(session.batches[step * size + rank].batches)
    dist.barrier()
    start = time.perf_counter()
    for step in range(repeats):
        session.trainer.step(session.batches[(_WARM_UP + step) * size + rank].batches)
    seconds = time.perf_counter() - start
    dist.destroy_process_group()
    return repeats * (whole // size) / seconds


if __name__ == "__main__":
    crops, meeting, size, repeats, rank = sys.argv[1:]
    rate = _steps(Path(crops), Path(meeting), int(size), int(repeats), int(rank))
    print(json.dumps({"images_per_second": rate}))
