"""`sltdino` commands as a study calls them: each a process of its own, with so many threads."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

_STOPPED = (75, 130, -signal.SIGINT, -signal.SIGTERM)
"""Ends of a command that somebody asked to stop."""
_TOLD = 2000
"""Characters of an error that are kept."""


class Ended(NamedTuple):
    """How a command ended."""

    exit_code: int
    output: str
    error: str
    """The end of what it said on stderr."""
    seconds: float
    cpu_seconds: float
    """Of all its processes that it waited for, loader workers among them."""


class InterruptedStudyError(Exception):
    """The study was asked to stop, or a command of it was: what was at work is no result."""


class Commands:
    """Starts commands, from several threads too, and can end those at work.

    Args:
        num_threads: that torch computes with in each of them. With more than one, images are decoded by as many
            processes beside it; with one, by the same process, so that it takes one core and no more.
        program: what is started, before its arguments.
    """

    def __init__(self, num_threads: int, program: Sequence[str] = (sys.executable, "-m", "sltdino")) -> None:
        self.program = program
        self.num_workers = num_threads if num_threads > 1 else 0
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        self._environment = {**os.environ, **dict.fromkeys(names, str(num_threads)), "NO_COLOR": "1"}
        self._lock, self._at_work, self._is_ended = threading.Lock(), set[int](), False

    def run(self, *arguments: str) -> Ended:
        """Run `sltdino` with these arguments to its end.

        Raises:
            InterruptedStudyError: it was stopped, or all were.
        """
        start = time.monotonic()
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error:
            with self._lock:
                if self._is_ended:
                    raise InterruptedStudyError
                process = subprocess.Popen(
                    [*self.program, *arguments],
                    env=self._environment, stdin=subprocess.DEVNULL, stdout=output, stderr=error,
                )  # fmt: skip
                self._at_work.add(process.pid)
            _, status, used = os.wait4(process.pid, 0)  # as `wait`, and says what this one of several used
            process.returncode = os.waitstatus_to_exitcode(status)
            with self._lock:
                self._at_work.discard(process.pid)
            texts = []
            for file in (output, error):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
        if process.returncode in _STOPPED:
            raise InterruptedStudyError
        seconds, cpu_seconds = time.monotonic() - start, used.ru_utime + used.ru_stime
        return Ended(process.returncode, texts[0], texts[1].strip()[-_TOLD:], seconds, cpu_seconds)

    def end(self) -> None:
        """Ask what is at work to stop, and start nothing any more."""
        with self._lock:
            self._is_ended = True
            for pid in self._at_work:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
