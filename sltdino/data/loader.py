"""Prefetch the items of a BatchBuilder with worker processes that survive signals and never die unnoticed."""

import atexit
import os
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from sltdino.core.signals import ignore_stop_signals
from sltdino.data.batches import BatchBuilder, LoadedBatch
from sltdino.errors import ResourceError, SltDinoError

__all__ = ["BatchBuilder", "LoadedBatch", "Stream", "build_loader"]

_PREFETCH = 2  # steps made ahead by each worker
_STALL_SECONDS = 600  # a worker that needs longer for one step is stuck on a device, and ends itself


def build_loader(
    builder: BatchBuilder, *, first_step: int, last_step: int, num_workers: int, pin_memory: bool = False
) -> "Stream":
    """Iterate over the batches of the steps `first_step` to `last_step` (exclusive), in order.

    Args:
        num_workers: processes that prepare steps ahead; 0 prepares each when it is asked for. The bits are the same.
        pin_memory: copy to page-locked memory; without a GPU it does nothing.

    Raises:
        ResourceError: /dev/shm, through which workers hand over batches, is too small. While iterating: a worker died.
        DataError: while iterating: too many bad images in a row.
    """
    num_workers = min(num_workers, max(0, last_step - first_step))
    if num_workers:
        _check_shared_memory(bytes_in_flight(num_workers, builder.bytes_per_step))
    with warnings.catch_warnings():
        # more workers than cores were asked for; and Python >= 3.12 on fork with threads, answered below
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        warnings.filterwarnings("ignore", message="This process .* is multi-threaded", category=DeprecationWarning)
        loader: DataLoader[LoadedBatch] = DataLoader(
            _Reporting(builder),  # type: ignore[arg-type]  # the errors among its items are raised by Stream
            batch_size=None,
            sampler=range(first_step, last_step),
            num_workers=num_workers,
            collate_fn=_as_it_is,
            pin_memory=pin_memory and torch.cuda.is_available(),
            # Fork: workers share the file list and the cache copy-on-write and start at once. It is safe because a
            # worker runs torch on one thread (OpenMP's pool does not survive a fork) and never touches CUDA. The
            # system libraries of macOS are not fork-safe.
            multiprocessing_context=("fork" if sys.platform == "linux" else "spawn") if num_workers else None,
            worker_init_fn=_start_worker,
            prefetch_factor=_PREFETCH if num_workers else None,
            generator=torch.Generator(),  # else DataLoader draws from, and so changes, torch's global generator
        )
        return Stream(loader)


def bytes_in_flight(num_workers: int, bytes_per_step: int) -> int:
    """Shared memory that the workers' batches take: those made ahead, and the one in use."""
    return (num_workers * _PREFETCH + 1) * bytes_per_step


class Stream(Iterator[LoadedBatch]):
    """The batches of consecutive steps. `close` ends the workers; so does the last step, and leaving the stream."""

    def __init__(self, loader: "DataLoader[LoadedBatch]") -> None:
        before = signal.getsignal(signal.SIGCHLD)
        self._held = [iter(loader)]
        if before is not None and threading.current_thread() is threading.main_thread():
            # DataLoader's handler raises wherever the main thread is when a worker dies; __next__ finds out by itself
            signal.signal(signal.SIGCHLD, before)
        self._finish = weakref.finalize(self, self._held.clear)
        atexit.register(self._finish)  # before multiprocessing's, which would wait for workers that ignore SIGTERM

    def __next__(self) -> LoadedBatch:
        if not self._held:
            raise StopIteration
        try:
            item: LoadedBatch | SltDinoError = next(self._held[0])
        except StopIteration:
            self.close()
            raise
        except RuntimeError as error:
            if not str(error).startswith(("DataLoader worker (pid", "Too many open files", "Pin memory thread")):
                raise  # a bug in our code inside the worker
            advice = "resume the run, with fewer --num-workers if it recurs"
            raise ResourceError(f"{self._cause(error)}; {advice}") from error
        if isinstance(item, SltDinoError):
            self.close()
            raise item
        return item

    def close(self) -> None:
        """End the workers. Nothing comes after."""
        self._finish()

    def _cause(self, error: RuntimeError) -> str:
        workers = getattr(self._held[0], "_workers", ())  # private; only makes the message better
        codes = sorted({worker.exitcode for worker in workers if worker.exitcode})
        self.close()
        causes = ", ".join(_CAUSES.get(code, f"exit code {code}") for code in codes)
        return f"a loader worker died ({causes})" if causes else f"the loader failed ({str(error).splitlines()[0]})"


_CAUSES = {
    -signal.SIGKILL: "killed, most often for lack of memory",
    -signal.SIGBUS: "bus error: shared memory is full",
    -signal.SIGSEGV: "segmentation fault",
    -signal.SIGALRM: f"one step took more than {_STALL_SECONDS} s",
}


class _Reporting(Dataset[LoadedBatch | SltDinoError]):
    """Hands errors for the user over as items: raised in a worker they would arrive wrapped in a traceback's text."""

    def __init__(self, builder: BatchBuilder) -> None:
        self._builder = builder

    def __getitem__(self, step: int) -> LoadedBatch | SltDinoError:
        in_worker = get_worker_info() is not None
        if in_worker:
            signal.alarm(_STALL_SECONDS)
        try:
            return self._builder[step]
        except SltDinoError as error:
            return error
        except MemoryError:
            return ResourceError("a loader worker is out of memory: use fewer --num-workers")
        finally:
            if in_worker:
                signal.alarm(0)


def _as_it_is(item: Any) -> Any:
    return item


def _start_worker(_number: int) -> None:
    ignore_stop_signals()  # the main process answers them at its next step, and needs the workers until then
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    torch.set_num_threads(1)


def _check_shared_memory(needed: int) -> None:
    if not os.path.isdir("/dev/shm"):
        return
    status = os.statvfs("/dev/shm")
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise ResourceError(
            f"the workers' batches need {needed / 2**20:.0f} MiB of /dev/shm and {free / 2**20:.0f} MiB are free: use "
            "fewer --num-workers, or enlarge it (docker run --shm-size)"
        )
