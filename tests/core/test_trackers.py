"""Records as trackers draw them, and trackers that fail in every way they can."""

import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from sltdino.core import trackers
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_schema import BY_KEY
from sltdino.core.tracked import Point, TrackedRun, point_of
from sltdino.core.trackers import TRACKERS, Trackers, refuse_missing
from sltdino.errors import SettingsError

RECORD = {"step": 7, "timestamp": "2026-01-01T00:00:07.500+00:00", "context": "train_step", "loss": 2.5}
MOMENT = 1767225607.5


class Witness:
    """A tracker that remembers, and does something bad when asked for `fails_at`."""

    def __init__(self, fails_at: str = "", what: Any = None) -> None:
        self.where, self.is_new, self.fails_at, self.what = "here", True, fails_at, what
        self.seen: list[tuple[str, Any]] = []

    def __call__(self, run: TrackedRun) -> "Witness":
        self._note("open", run)
        return self

    def _note(self, name: str, value: Any) -> None:
        self.seen.append((name, value))
        if name == self.fails_at:
            if callable(self.what):
                self.what()
            else:
                raise self.what

    def point(self, point: Point) -> None:
        self._note("point", point)

    def text(self, tag: str, text: str, *, step: int) -> None:
        self._note("text", (tag, text, step))

    def image(self, tag: str, image_HW3: Any, *, step: int) -> None:
        self._note("image", (tag, image_HW3, step))

    def close(self, exit_code: int) -> None:
        self._note("close", exit_code)

    def abandon(self) -> None:
        self._note("abandon", None)

    @property
    def calls(self) -> list[str]:
        return [name for name, _ in self.seen]


@pytest.fixture
def run(tmp_path: Path) -> TrackedRun:
    return TrackedRun(tmp_path, "", "", (), {}, 0, ())


def use_all(opened: Trackers) -> None:
    opened.record(RECORD)
    opened.text("a", "b", step=1)
    opened.image("c", lambda: np.zeros((2, 2, 3), np.uint8), step=1)
    opened.close(0)


def opened_with(run: TrackedRun, monkeypatch: pytest.MonkeyPatch, **rows: Any) -> tuple[Trackers, list[str]]:
    failures: list[str] = []
    monkeypatch.setattr(trackers, "TRACKERS", rows)
    opened = Trackers()
    opened.open(rows, run, on_failure=failures.append)
    return opened, failures


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_choice_of_the_setting_has_a_row() -> None:
    [choices] = [item for item in get_args(PretrainSettings.model_fields["track"].annotation) if item is not ...]
    assert get_args(choices) == tuple(TRACKERS)


def test_help_shows_the_choices_of_one_value() -> None:
    assert BY_KEY["track"].metavar == "tensorboard|wandb"


@pytest.mark.parametrize(
    ("context", "field", "tag"),
    [
        ("train_step", "loss", "train/loss"),
        ("train_step", "loss_cls", "train/loss_cls"),
        ("train_step", "loss_gap", "health/loss_gap"),
        ("train_step", "grad_norm", "train/grad_norm"),
        ("train_step", "learning_rate", "schedule/learning_rate"),
        ("train_step", "images_per_second", "speed/images_per_second"),
        ("train_step", "epoch", "progress/epoch"),
        ("train_step", "something_new", "health/something_new"),
        ("train_epoch", "loss", "train_epoch/loss"),
        ("eval", "knn", "eval/knn"),
    ],
)
def test_numbers_have_tags(context: str, field: str, tag: str) -> None:
    record = {"step": 7, "timestamp": RECORD["timestamp"], "context": context, field: 2}
    assert point_of(record) == Point(7, MOMENT, {tag: 2.0}, {})


def test_words_have_tags_too_and_what_has_no_value_is_left_out() -> None:
    point = point_of({**RECORD, "loss": None, "non_finite": ["loss", "x"], "health": "healthy"})
    assert point == Point(7, MOMENT, {}, {"health/non_finite": "loss, x", "health/verdict": "healthy"})


def test_words_are_passed_on_when_they_change(run: TrackedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    witness = Witness()
    opened, _ = opened_with(run, monkeypatch, one=witness)
    for word in ("healthy", "healthy", "starved loader"):
        opened.record({**RECORD, "health": word})
    texts = [value.texts for name, value in witness.seen if name == "point"]
    assert texts == [{"health/verdict": "healthy"}, {}, {"health/verdict": "starved loader"}]


@pytest.mark.parametrize("what", [ValueError("lost\nmore"), OSError(28, "full"), SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("fails_at", ["open", "point", "text", "image", "close"])
def test_one_that_fails_is_reported_once_and_left_alone_and_the_others_go_on(
    fails_at: str, what: BaseException, run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = Witness(fails_at, what), Witness()
    opened, failures = opened_with(run, monkeypatch, bad=bad, good=good)
    use_all(opened)
    wait_until(lambda: bad.calls[-1] == ("open" if fails_at == "open" else "abandon"))
    assert bad.calls.count(fails_at) == 1
    assert good.calls == ["open", "point", "text", "image", "close"]
    [failure] = failures
    assert failure.startswith("--track bad is switched off, and the run goes on without it: ")
    assert "\n" not in failure


def test_only_one_that_knows_nothing_of_the_run_is_shown_its_history(
    run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, old, bad = Witness(), Witness(), Witness("point", ValueError())
    old.is_new = False
    history = [{**RECORD, "step": step} for step in (1, 2, 3)]
    _, failures = opened_with(run._replace(history=history), monkeypatch, new=new, old=old, bad=bad)
    assert [value.step for name, value in new.seen if name == "point"] == [1, 2, 3]
    assert old.calls == ["open"]
    assert (bad.calls.count("point"), len(failures)) == (1, 1)


@pytest.mark.parametrize("fails_at", ["open", "point", "close"])
def test_one_that_hangs_is_left_behind(fails_at: str, run: TrackedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPEN_SECONDS", "CALL_SECONDS", "CLOSE_SECONDS"):
        monkeypatch.setattr(trackers, name, 0.1)
    release = threading.Event()
    bad, good = Witness(fails_at, release.wait), Witness()
    opened, failures = opened_with(run, monkeypatch, bad=bad, good=good)
    before = time.monotonic()
    use_all(opened)
    assert time.monotonic() - before < 5
    release.set()
    assert bad.calls.count(fails_at) == 1
    assert good.calls[-1] == "close"
    assert [text.rpartition(": ")[2] for text in failures] == ["it did not answer in 0 s"]


def test_a_time_out_of_its_own_is_told_as_it_is(run: TrackedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, failures = opened_with(run, monkeypatch, bad=Witness("point", TimeoutError("no server")))
    opened.record(RECORD)
    assert failures == ["--track bad is switched off, and the run goes on without it: TimeoutError: no server"]


def test_a_picture_that_cannot_be_made_stops_no_run(run: TrackedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, failures = opened_with(run, monkeypatch, one=Witness(), two=Witness())
    opened.image("crops", lambda: 1 / 0, step=1)  # type: ignore[arg-type, return-value]
    opened.record(RECORD)
    assert sorted(text.split()[1] for text in failures) == ["one", "two"]


def test_ctrl_c_ends_the_wait_for_the_end(run: TrackedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def interrupt() -> None:
        time.sleep(0.5)  # as a person does: a signal in the instant before the wait begins does not end it
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        release.wait(20)

    opened, failures = opened_with(run, monkeypatch, bad=Witness("close", interrupt))
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = time.monotonic()
    try:
        opened.close(0)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert time.monotonic() - before < 10
    release.set()
    assert failures == ["--track bad is switched off, and the run goes on without it: KeyboardInterrupt"]


def test_a_picture_nobody_looks_at_is_not_made() -> None:
    made: list[int] = []
    Trackers().image("crops", lambda: made.append(1), step=1)  # type: ignore[arg-type, return-value]
    assert made == []


def test_threads_end_with_their_trackers(run: TrackedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, _ = opened_with(run, monkeypatch, ends=Witness(), fails=Witness("point", ValueError()))
    use_all(opened)
    ours = {"sltdino-ends", "sltdino-fails"}
    wait_until(lambda: ours.isdisjoint(thread.name for thread in threading.enumerate()))


def test_a_folder_that_is_called_like_a_package_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nobodys_tracker").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SettingsError, match="nobodys_tracker is not installed"):
        refuse_missing(["nobodys_tracker"])


def test_a_package_that_is_broken_is_told_from_one_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_tracker.py").write_text("raise AttributeError('np.float_')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SettingsError, match=r"broken_tracker does not import \(AttributeError: np\.float_\)"):
        refuse_missing(["broken_tracker"])


def test_a_package_that_is_missing_is_a_mistake_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(SettingsError) as caught:
        refuse_missing(["tensorboard", "wandb"])
    assert caught.value.problems == (
        "--track wandb: wandb is not installed; pip install 'sltdino[wandb]', or leave it out: --set 'track=[]'",
    )
