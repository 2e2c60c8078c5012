"""Where else than to its folder a run's records go: TensorBoard, Weights & Biases. None of them can stop a run."""

import importlib
import queue
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any, NamedTuple

from sltdino.core.tracked import TrackedRun, Tracker, point_of
from sltdino.core.tracker_tensorboard import open_tensorboard
from sltdino.core.tracker_wandb import open_wandb
from sltdino.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OPEN_SECONDS = 120.0
"""To wait for a tracker to open; wandb gives up by itself, with a better reason, after 90."""
CALL_SECONDS = 30.0
CLOSE_SECONDS = 60.0

TRACKERS: dict[str, Callable[[TrackedRun], Tracker]] = {"tensorboard": open_tensorboard, "wandb": open_wandb}
"""What `--track` may name; also the name of the package, and of the extra that installs it."""


def refuse_missing(names: Iterable[str]) -> None:
    """Find out before anything is written that a tracker's package is not there: that is a mistake in the settings.

    Raises:
        SettingsError: with the line that installs it, for each.
    """
    problems = []
    for name in names:
        if wrong := _wrong_with(name):
            problems.append(
                f"--track {name}: {name} {wrong}; pip install 'sltdino[{name}]', or leave it out: --set 'track=[]'"
            )
    if problems:
        raise SettingsError(*problems)


def _wrong_with(package: str) -> str:
    absent = "is not installed"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the package imports in its turn
            found = importlib.import_module(package)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == package
        return absent if missing else f"does not import ({type(error).__name__}: {error})"
    # a folder `wandb` of somebody's data imports too, as an empty package
    return absent if getattr(found, "__file__", None) is None else ""


class Trackers:
    """The trackers of a run that work. One that fails, or does not answer, is reported once and asked nothing more."""

    def __init__(self) -> None:
        self._open: dict[str, _Served] = {}
        self._words: dict[str, str] = {}
        self._on_failure: Callable[[str], None] = _not_opened

    def open(self, names: Iterable[str], run: TrackedRun, *, on_failure: Callable[[str], None]) -> list[str]:
        """Open the trackers of these names, as far as they let themselves; where each shows the run, a line each.

        Args:
            on_failure: told what became of a tracker, now or later, in the thread that called.
        """
        self._on_failure = on_failure
        for name in dict.fromkeys(names):
            thread = _Thread(name)
            try:
                tracker = thread.call(partial(TRACKERS[name], run), seconds=OPEN_SECONDS)
            except Exception as error:
                thread.end()
                self._failed(name, error)
            else:
                self._open[name] = _Served(tracker, thread)
                self._show_history(name, run)
        return [f"{name}: {served.tracker.where}" for name, served in self._open.items()]

    def _show_history(self, name: str, run: TrackedRun) -> None:
        for record in run.history if self._open[name].tracker.is_new else ():
            self._call(name, methodcaller("point", point_of(record)))
            if name not in self._open:
                return

    def record(self, record: Mapping[str, Any]) -> None:
        """Draw a record of the metrics. Words are passed on where they are others than before."""
        if not self._open:
            return
        point = point_of(record)
        news = {tag: text for tag, text in point.texts.items() if self._words.get(tag) != text}
        self._words |= news
        self._each(lambda tracker: tracker.point(point._replace(texts=news)))

    def text(self, tag: str, text: str, *, step: int) -> None:
        """Show words, as Markdown."""
        self._each(lambda tracker: tracker.text(tag, text, step=step))

    def image(self, tag: str, make: "Callable[[], NDArray[np.uint8]]", *, step: int) -> None:
        """Show the picture that `make` gives, uint8 `[H, W, 3]`; it is not made where nobody looks at it."""
        if not self._open:
            return
        try:
            image_HW3 = make()
        except Exception as error:
            for name in list(self._open):
                self._switch_off(name, error)
        else:
            self._each(lambda tracker: tracker.image(tag, image_HW3, step=step))

    def close(self, exit_code: int) -> None:
        """End every tracker, waiting for each for a minute at most; Ctrl-C ends the wait."""
        while self._open:
            name, (tracker, thread) = self._open.popitem()
            try:
                thread.call(partial(tracker.close, exit_code), seconds=CLOSE_SECONDS)
            except (Exception, KeyboardInterrupt) as error:
                thread.end(tracker.abandon)
                self._failed(name, error)
            else:
                thread.end()

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name in list(self._open):
            self._call(name, call)

    def _call(self, name: str, call: Callable[[Tracker], None]) -> None:
        tracker, thread = self._open[name]
        try:
            thread.call(partial(call, tracker), seconds=CALL_SECONDS)
        except Exception as error:
            self._switch_off(name, error)

    def _switch_off(self, name: str, error: Exception) -> None:
        tracker, thread = self._open.pop(name)
        thread.end(tracker.abandon)
        self._failed(name, error)

    def _failed(self, name: str, error: BaseException) -> None:
        reason = f"{type(error).__name__}: {error}".strip(": ").partition("\n")[0]
        self._on_failure(f"--track {name} is switched off, and the run goes on without it: {reason}")


class _Served(NamedTuple):
    tracker: Tracker
    thread: "_Thread"


def _not_opened(text: str) -> None:
    raise AssertionError(f"no tracker is open, and one failed: {text}")


class _Thread:
    """Makes a tracker's calls in a thread of its own, one after the other, so that one that hangs is left behind."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        # a daemon, so that the program can end while a call hangs
        threading.Thread(target=self._serve, name=f"sltdino-{name}", daemon=True).start()

    def call(self, function: Callable[[], Any], *, seconds: float) -> Any:
        """What the function gives, or raises.

        Raises:
            TimeoutError: it did not return in time.
        """
        future: Future[Any] = Future()
        self._calls.put((future, function))
        try:
            return future.result(timeout=seconds)
        except TimeoutError as error:
            if future.done():
                raise
            raise TimeoutError(f"it did not answer in {seconds:.0f} s") from error

    def end(self, last: Callable[[], Any] = lambda: None) -> None:
        """Let the thread end after `last`, which is not waited for."""
        self._calls.put((Future(), last))
        self._calls.put(None)

    def _serve(self) -> None:
        while (item := self._calls.get()) is not None:
            future, function = item
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)
            except BaseException as error:  # SystemExit of a library is no wish of the user's
                future.set_exception(RuntimeError(f"{type(error).__name__} {error}"))
