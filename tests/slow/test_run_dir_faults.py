"""Every file-system call of a run folder killed or failed in turn, and real full disks. Minutes."""

import errno
import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from sltdino.core.run_dir import RunDir
from sltdino.core.run_files import load_checkpoint, read_artifacts, read_metrics, read_status
from sltdino.errors import CannotCreateError, StorageError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CALLS = ("open", "write", "fsync", "replace", "link", "unlink", "ftruncate", "fdopen")
NAMES = ("checkpoint_last.pt", "checkpoint_prev.pt", "checkpoint_best.pt")
MOST = 400


def _publish(run, step, *, best):
    run.log(step, {"loss": 1 / step}, context="train_step")
    state = {"progress": {"global_step": step}, "w": torch.full((20_000,), float(step)), "v": torch.ones(5000)}
    run.publish_checkpoint(state, best=best, epoch=step, loss=1 / step)


def _step(path, **options):
    loaded = load_checkpoint(path, **options)
    step = loaded.state["progress"]["global_step"]
    assert torch.equal(loaded.state["w"], torch.full((20_000,), float(step)))
    return step


class Faults:
    """Calls `fault` just before, or just after, the chosen one of the file-system calls of this process."""

    def __init__(self, number, fault, *, after=False):
        self.number, self.fault, self.after, self.count = number, fault, after, 0
        self.fired = ""

    def point(self, name, after):
        if after != self.after:
            return
        self.count += 1
        if self.count == self.number:
            self.fired = name
            self.fault()

    def wrap(self, name, function):
        def call(*args, **kwargs):
            self.point(name, False)
            result = function(*args, **kwargs)
            if name == "fdopen":
                result = FaultyFile(result, self)
            self.point(name, True)
            return result

        return call

    def __enter__(self):
        self.real = {name: getattr(os, name) for name in CALLS}
        for name, function in self.real.items():
            setattr(os, name, self.wrap(name, function))
        return self

    def __exit__(self, *_):
        for name, function in self.real.items():
            setattr(os, name, function)


class FaultyFile:
    """A file whose every write reaches the kernel and is one of the counted calls."""

    def __init__(self, file, faults):
        self.file, self.faults = file, faults

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        self.faults.point("file.write", False)
        done = self.file.write(data)
        self.file.flush()
        self.faults.point("file.write", True)
        return done


def _in_a_fork(work):
    """What `work(tell)` told before it ended or was killed, and whether it was killed."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        code = 1
        try:
            real = os.write
            work(lambda text: real(writer, text))
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as file:
        told = file.read()
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return told, os.WIFSIGNALED(status)


def _kill():
    os.kill(os.getpid(), 9)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("best", [(True, True, True), (False, True, False), (True, False, True)])
def test_a_kill_at_every_call_of_a_whole_run_leaves_what_was_reported(tmp_path, after, best):
    for number in range(1, MOST):
        folder = tmp_path / "run"

        def work(tell, folder=folder, number=number):
            with Faults(number, _kill, after=after), RunDir.create(folder) as run:
                for step in (1, 2, 3):
                    _publish(run, step, best=best[step - 1])
                    tell(str(step).encode())

        told, killed = _in_a_fork(work)
        if not killed:
            break
        reported = int(told[-1:] or b"0")
        if reported or (folder / NAMES[0]).exists():
            _is_whole_and_goes_on(folder, reported, best)
        elif folder.exists():
            RunDir.create(folder, overwrite=True).close()
        shutil.rmtree(folder, ignore_errors=True)
    assert 100 < number < MOST - 1


def _is_whole_and_goes_on(folder, reported, best):
    step = _step(folder)
    assert reported <= step <= reported + 1
    for name in NAMES:
        assert not (folder / name).exists() or _step(folder / name) <= step
    with RunDir.open(folder) as run:
        run.rewind(load_checkpoint(folder))
        assert [record["step"] for record in read_metrics(folder)] == list(range(1, step + 1))
        expected = [number for number in range(1, step + 1) if best[number - 1]]
        assert (_step(folder, which="best") if (folder / NAMES[2]).exists() else 0) == max(expected, default=0)
        _publish(run, step + 1, best=False)
    assert (_step(folder), _step(folder / NAMES[1])) == (step + 1, step)
    assert read_artifacts(folder)[0]["metadata"]["epoch"] == step + 1
    assert not list(folder.glob("*.tmp")) + list(folder.glob(".sltdino-*"))


def test_a_kill_at_every_call_of_an_overwrite_leaves_a_folder_that_can_be_overwritten_or_resumed(tmp_path):
    for number in range(1, MOST):
        folder = tmp_path / "run"
        with RunDir.create(folder) as run:
            run.write_params({"algorithm": "dino", "stream": "hand"})
            for step in (1, 2):
                _publish(run, step, best=True)

        def work(tell, folder=folder, number=number):
            with Faults(number, _kill):
                RunDir.create(folder, overwrite=True).close()

        _, killed = _in_a_fork(work)
        if (folder / NAMES[0]).exists():
            assert _step(folder) == 2
        RunDir.create(folder, overwrite=True).close()
        assert not any((folder / name).exists() for name in NAMES)
        shutil.rmtree(folder)
        if not killed:
            break
    assert 10 < number < MOST - 1


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EACCES])
def test_an_error_at_every_call_is_typed_and_the_run_can_go_on_in_the_same_process(tmp_path, code):
    def fail():
        raise OSError(code, os.strerror(code))

    with RunDir.create(tmp_path) as run:
        _publish(run, 1, best=True)
        num_caught = 0
        for number in itertools.count(1):
            before, caught = _step(tmp_path), None
            with Faults(number, fail) as faults:
                try:
                    _publish(run, before + 1, best=True)
                except (StorageError, CannotCreateError) as error:
                    caught = error
            if not faults.fired:
                assert caught is None
                break
            assert caught is None or str(caught).startswith(str(tmp_path))
            num_caught += caught is not None
            assert before <= _step(tmp_path) <= before + 1
            assert _step(tmp_path / NAMES[1]) <= before + 1 if (tmp_path / NAMES[1]).exists() else before == 1
            assert faults.fired == "unlink" or not list(tmp_path.glob(".sltdino-*.tmp"))
            _publish(run, _step(tmp_path) + 1, best=False)
        assert num_caught > 25
        assert {path.name for path in tmp_path.iterdir()} - {path.name for path in tmp_path.glob(".sltdino-*.tmp")} == {
            *NAMES, "artifacts.json", "bad_images.jsonl", "metrics.jsonl", "status.json", ".sltdino.lock",
        }  # fmt: skip


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def _fill(disk: Path, leave: int) -> Path:
    free = shutil.disk_usage(disk).free
    filler = disk / "filler"
    filler.write_bytes(b"x" * (free - leave))
    assert shutil.disk_usage(disk).free <= leave
    return filler


def test_a_disk_that_fills_up_anywhere_in_a_save_is_named_and_the_run_goes_on_when_there_is_space(small_disk):
    full = 0
    with RunDir.create(small_disk / "run") as run:
        _publish(run, 1, best=True)
        for pages in range(35):
            before, caught = _step(run.path), None
            filler = _fill(small_disk, 4096 * pages)
            try:
                _publish(run, before + 1, best=True)
            except StorageError as error:
                caught = error
            full += caught is not None
            assert caught is None or "the disk is full" in str(caught)
            assert not list(run.path.glob(".sltdino-*.tmp"))
            assert before <= _step(run.path) <= before + 1
            filler.unlink()
            _publish(run, _step(run.path) + 1, best=False)
            read_artifacts(run.path)
            reader = read_metrics(run.path)
            assert list(reader)
            assert reader.unreadable == 0
    assert 20 < full < 35


def test_a_full_disk_is_found_before_any_work(small_disk):
    filler = _fill(small_disk, 0)
    with pytest.raises((StorageError, CannotCreateError), match="the disk is full"):
        RunDir.create(small_disk / "run")
    filler.unlink()
    RunDir.create(small_disk / "run").close()
    assert read_status(small_disk / "run")["state"] == "running"
