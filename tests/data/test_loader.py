"""Workers change the speed and nothing else, survive signals, and never die unnoticed."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sltdino.data import loader as loader_module
from sltdino.data.loader import BatchBuilder, LoadedBatch, build_loader
from sltdino.errors import DataError, ResourceError

Build = Callable[..., BatchBuilder]


def assert_same(ours: LoadedBatch, theirs: LoadedBatch) -> None:
    for one, other in zip(ours.batches, theirs.batches, strict=True):
        for name in one._fields:
            assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert torch.equal(ours.indices, theirs.indices)
    assert ours.bad == theirs.bad
    assert type(ours.batches) is type(theirs.batches) is tuple


def all_children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()}


BEFORE: set[int] = set()


@pytest.fixture(autouse=True)
def _tell_the_children_of_other_tests_apart() -> None:
    BEFORE.clear()
    BEFORE.update(all_children())  # such as the service of wandb, which stays with its process


def children() -> list[int]:
    return sorted(all_children() - BEFORE)


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_workers_give_the_same_bits_as_none(num_workers: int, build: Build) -> None:
    builder = build(accumulate_steps=2)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.randn(600, 600) @ torch.randn(600, 600)  # start the pool of threads that a fork does not survive
    torch.set_num_threads(threads)
    expected = list(build_loader(builder, first_step=0, last_step=6, num_workers=0))
    ours = list(build_loader(builder, first_step=0, last_step=6, num_workers=num_workers))
    assert len(ours) == len(expected) == 6
    for one, other in zip(ours, expected, strict=True):
        assert_same(one, other)


def test_starting_in_the_middle_of_an_epoch_goes_on_with_the_same_stream(build: Build) -> None:
    whole = list(build_loader(build(), first_step=0, last_step=9, num_workers=2))
    rest = list(build_loader(build(), first_step=3, last_step=9, num_workers=2))
    for one, other in zip(rest, whole[3:], strict=True):
        assert_same(one, other)


def test_no_steps_and_no_random_numbers_of_torch_are_used(build: Build) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert list(build_loader(build(), first_step=4, last_step=4, num_workers=2)) == []
    list(build_loader(build(), first_step=0, last_step=2, num_workers=2))
    assert torch.equal(torch.get_rng_state(), before)


def test_errors_of_a_worker_arrive_as_they_were_raised(build: Build, picture_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(picture_folder, folder)
    builder = build(folder)
    for path in folder.iterdir():
        path.write_bytes(b"no image")
    for num_workers in (0, 1):
        stream = build_loader(builder, first_step=0, last_step=2, num_workers=num_workers)
        with pytest.raises(DataError, match="bad too") as caught:
            next(stream)
        assert "Traceback" not in str(caught.value)
        assert list(stream) == []


class SlowBuilder(BatchBuilder):
    """Takes its time, so that there is a worker to be killed."""

    def __getitem__(self, step: int) -> LoadedBatch:
        if step > 2:
            time.sleep(30)
        return super().__getitem__(step)


def slowed(builder: BatchBuilder) -> BatchBuilder:
    builder.__class__ = SlowBuilder
    return builder


def test_a_killed_worker_is_a_resource_error(build: Build) -> None:
    stream = build_loader(slowed(build()), first_step=0, last_step=9, num_workers=1)
    next(stream)
    (worker,) = children()
    os.kill(worker, signal.SIGKILL)
    time.sleep(0.5)  # a SIGCHLD handler would raise here, in the middle of a training step
    with pytest.raises(
        ResourceError, match=r"a loader worker died \(killed, most often for lack of memory\)"
    ) as caught:
        list(stream)
    assert caught.value.exit_code == 71
    assert caught.value.__cause__ is not None
    assert children() == []


def test_a_worker_stuck_on_a_step_ends_itself(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "_STALL_SECONDS", 1)
    stream = build_loader(slowed(build()), first_step=0, last_step=9, num_workers=1)
    with pytest.raises(ResourceError, match="one step took more than"):
        list(stream)


def test_workers_ignore_the_signals_of_the_group(build: Build) -> None:
    stream = build_loader(build(), first_step=0, last_step=12, num_workers=2)
    next(stream)
    workers = children()
    assert len(workers) == 2
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        for worker in workers:
            os.kill(worker, name)
    assert len(list(stream)) == 11


def test_leaving_the_stream_ends_the_workers(build: Build) -> None:
    stream = build_loader(build(), first_step=0, last_step=500, num_workers=2)
    next(stream)
    assert len(children()) == 2
    stream.close()
    assert children() == []
    assert list(stream) == []
    stream = build_loader(build(), first_step=0, last_step=500, num_workers=2)
    next(stream)
    del stream
    assert children() == []


@pytest.mark.parametrize("end", ["raise RuntimeError('bug')", "os._exit(3)"])
def test_a_process_that_ends_early_leaves_no_worker_behind(end: str, picture_folder: Path) -> None:
    script = textwrap.dedent(f"""
        import os
        from pathlib import Path
        from sltdino.core.distributed import World
        from sltdino.core.settings import AugmentationSettings, DatasetSettings
        from sltdino.data.image_folder import scan
        from sltdino.data.loader import BatchBuilder, build_loader
        from sltdino.data.masking import Masking
        crops = AugmentationSettings(
            image_size=32, local_crop_size=16, num_local_crops=2, light=0.3, rotation=9.0, solarize_prob=0.1
        )
        builder = BatchBuilder(
            scan([Path({str(picture_folder)!r})]), DatasetSettings(batch_size=4), crops, seed=0, patch_size=8,
            masking=Masking(0.3, 0.5), pseudo_epochs=1, accumulate_steps=1, world=World(),
        )
        stream = build_loader(builder, first_step=0, last_step=10_000, num_workers=2)
        next(stream)
        print(Path(f"/proc/{{os.getpid()}}/task/{{os.getpid()}}/children").read_text(), flush=True)
        {end}
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=Path.cwd())
    workers = [int(pid) for pid in done.stdout.split()]
    assert len(workers) == 2, done.stderr
    deadline = time.monotonic() + 15  # a worker looks for its parent every 5 seconds
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_too_little_shared_memory_is_said_at_the_start(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    class Small:
        f_bavail, f_frsize = 10, 4096

    monkeypatch.setattr(loader_module.os, "statvfs", lambda path: Small)
    with pytest.raises(ResourceError, match=r"need \d+ MiB of /dev/shm and 0 MiB are free"):
        build_loader(build(batch_size=8), first_step=0, last_step=4, num_workers=2)
    assert len(list(build_loader(build(), first_step=0, last_step=2, num_workers=0))) == 2


def test_many_steps_held_at_once_need_few_file_handles(build: Build) -> None:
    before = len(os.listdir("/proc/self/fd"))
    stream = build_loader(build(batch_size=1, accumulate_steps=8), first_step=0, last_step=6, num_workers=1)
    held = list(stream)
    assert len(held) == 6
    assert len(os.listdir("/proc/self/fd")) - before <= 4 * len(held) + 12
