"""How far a command is that works through images, on standard error."""

import sys
import time

_LINE_SECONDS, _TERMINAL_SECONDS = 10.0, 0.2


class ProgressLine:
    """A line that is rewritten on a terminal; elsewhere one every few seconds."""

    def __init__(self, unit: str = "images") -> None:
        self._unit = unit
        self._is_terminal = sys.stderr.isatty()
        self._started = self._shown = time.monotonic()
        self._is_open = False

    def __call__(self, done: int, total: int) -> None:
        """Show it, when it is time."""
        now = time.monotonic()
        if done < total and now - self._shown < (_TERMINAL_SECONDS if self._is_terminal else _LINE_SECONDS):
            return
        self._shown = now
        rate = max(done, 1) / max(now - self._started, 1e-9)
        line = f"{done:,} of {total:,} {self._unit}  {rate:.0f} {self._unit}/s  {(total - done) / rate:.0f} s left"
        if self._is_terminal:
            self._is_open = True
            print(f"\r{line:<70}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """What is printed next has a line of its own."""
        if self._is_open:
            print(file=sys.stderr)
