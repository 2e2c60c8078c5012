"""Stopping at a step boundary when the system or the user asks for it."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Final

STOP_SIGNALS: Final = {"SIGTERM": 75, "SIGUSR1": 75, "SIGHUP": 75, "SIGINT": 130}
"""Exit code after the run was saved, by the signal that asked for it."""


class StopRequest:
    """While entered, the stop signals only set `requested`; training reads it between steps and saves.

    A second signal stops the process at once, by that signal; the last checkpoint stands. A signal that was ignored
    before (SIGHUP under nohup) stays ignored. Outside the main thread, where Python has no handlers, this does nothing.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        """Name of the signal that asked to stop."""
        self._previous: dict[int, Any] = {}

    @property
    def exit_code(self) -> int:
        """The exit code once the run is saved: 75, 130 after Ctrl-C, 0 when nobody asked to stop."""
        return STOP_SIGNALS[self.requested] if self.requested is not None else 0

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in _stop_signals():
                if (previous := signal.getsignal(number)) != signal.SIG_IGN:
                    self._previous[number] = previous
                    signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)  # None: was not set from Python
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested is None:
            self.requested = signal.Signals(number).name
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def ignore_stop_signals() -> None:
    """For loader workers: leave stopping to the main process, which must live to save when its group is signalled."""
    for number in _stop_signals():
        signal.signal(number, signal.SIG_IGN)


def _stop_signals() -> list[signal.Signals]:
    return [signal.Signals[name] for name in STOP_SIGNALS if name in signal.Signals.__members__]
