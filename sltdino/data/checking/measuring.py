"""Measure every image of a data set in worker processes, in order, with memory that hardly grows."""

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sltdino.core.ahead import ahead
from sltdino.core.files import os_errors
from sltdino.core.signals import STOP_SIGNALS, StopRequest, ignore_stop_signals
from sltdino.data.checking.perceptual_hash import SIDE
from sltdino.data.checking.quality import IMAGE, Measured, measure
from sltdino.data.decode import quiet
from sltdino.data.image_folder import ImageFolder
from sltdino.errors import ResourceError, StoppedError

_CHUNK = 64  # images a process takes at once
_AHEAD = 4  # chunks in flight for each process
_WORTH_PROCESSES = 1000  # images; a process takes as long to start as to measure several hundred


@contextmanager
def measured(
    folders: Sequence[ImageFolder],
    *,
    workers: int,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> Iterator[Measured]:
    """Measure the images of several folders, one folder after the other, and keep the result while entered.

    Memory: 72 bytes an image. The thumbnails, 1 kB each, lie in a nameless temporary file, which the system may keep in
    memory or not.

    Args:
        workers: processes that decode; with few images, or 0 or 1, there are none. Any number gives the same result.
        on_progress: called with the images done, and all of them.

    Raises:
        StoppedError: a signal asked to stop. ResourceError: out of memory or file handles, or a process died.
        StorageError: no room for the temporary file.
    """
    total = sum(map(len, folders))
    images, reasons, done = np.zeros(total, dtype=IMAGE), dict[int, str](), 0
    place = Path(tempfile.gettempdir())
    with os_errors(place):
        file = tempfile.TemporaryFile()  # noqa: SIM115  # closed below; its errors are told from those of the caller
    with file:
        workers = min(workers, total // _WORTH_PROCESSES + 1)
        with StopRequest() as stop, closing(_results(_chunks(folders), workers)) as results:
            for part in results:
                images[done : done + len(part.images)] = part.images
                reasons |= {done + at: reason for at, reason in part.reasons.items()}
                with os_errors(place):
                    file.write(part.thumbs_NHW.tobytes())
                done += len(part.images)
                on_progress(done, total)
                if stop.requested and done < total:
                    raise StoppedError(
                        f"{stop.requested} came after {done:,} of {total:,} images; nothing was written",
                        exit_code=STOP_SIGNALS[stop.requested],
                    )
        yield Measured(images, _mapped(file, total), reasons)


def _mapped(file: BinaryIO, total: int) -> NDArray[np.uint8]:
    file.flush()
    return np.memmap(file, np.uint8, mode="r", shape=(total, SIDE, SIDE))


def _chunks(folders: Sequence[ImageFolder]) -> Iterator[list[Path]]:
    for images in folders:
        for start in range(0, len(images), _CHUNK):
            yield [images.path(index) for index in range(start, min(start + _CHUNK, len(images)))]


def _results(chunks: Iterator[list[Path]], workers: int) -> Generator[Measured, None, None]:
    """Each chunk measured, in order."""
    if workers <= 1:
        with quiet():
            yield from map(measure, chunks)
        return
    # Processes: half the time of an image is Python and numpy, which threads would take turns at. Spawned, since the
    # caller may have threads.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker) as pool:
        try:
            yield from ahead(pool, _measure_quietly, chunks, most=_AHEAD * workers)
        except BrokenProcessPool as error:
            raise ResourceError("a process died, most often for lack of memory; use fewer --num-workers") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _measure_quietly(paths: list[Path]) -> Measured:
    with quiet():
        return measure(paths)


def _start_worker() -> None:
    """Leave stopping to the main process; end with it, however it ends."""
    ignore_stop_signals()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # which the pool ends a broken worker by
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
