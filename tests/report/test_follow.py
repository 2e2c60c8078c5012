"""A run that is looked at until it ends."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sltdino.core.lock import FolderLock
from sltdino.core.run_files import LOCK
from sltdino.errors import MissingInputError
from sltdino.report.follow import exit_code, looks


def set_status(run: Path, state: str, **more: Any) -> None:
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(status | {"state": state, "message": "", **more}))


def append(run: Path, *records: dict[str, Any]) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


@pytest.fixture
def live(finished: Path) -> Iterator[Path]:
    """A run that goes on: its lock is held and its status says so."""
    set_status(finished, "running")
    lock = FolderLock(finished / LOCK)
    yield finished
    lock.release()


def test_each_look_tells_what_came_since_the_last(live: Path) -> None:
    each = looks(live, every=0)
    assert next(each).news[0].startswith(f"following {live}: running, step 6 of 6, epoch 2 of 2")
    assert next(each).news == ()
    append(
        live,
        {"step": 9, "context": "train_epoch", "epoch": 3, "loss": 2.5, "health": "healthy"},
        {"step": 9, "context": "eval", "epoch": 3, "knn": 0.5, "rankme": 12.34},
        {"step": 9, "context": "train_best", "epoch": 3, "metric": "knn", "value": 0.5},
        {"step": 9, "context": "train_best", "epoch": 3, "metric": "loss", "value": 0.5},
    )
    assert next(each).news == (
        "epoch 3: loss 2.500, healthy", "epoch 3: k-NN 50.0%, RankMe 12.3", "epoch 3: the best so far",
    )  # fmt: skip
    append(live, {"step": 9, "context": "resume"})
    assert next(each).news == ("resumed at step 9",)


def test_a_best_epoch_that_is_taken_back_is_told(live: Path) -> None:
    each = looks(live, every=0)
    next(each)
    gone = {"epoch": 2, "finding": "uniform collapse", "since_step": 3}
    append(live, {"step": 9, "context": "best_withdrawn", **gone})
    assert next(each).news == ("epoch 2: no longer the best; it lies in the uniform collapse since step 3",)


def test_findings_are_told_when_they_begin_and_when_they_end(live: Path) -> None:
    each = looks(live, every=0)
    next(each)
    steps = [
        {"step": number, "context": "train_step", "health": "healthy", "data_wait": 0.0 if number > 140 else 0.9}
        for number in range(100, 200)
    ]
    append(live, *steps[:20])
    [starved] = [line for line in next(each).news if "starved loader" in line]
    assert starved.startswith("step 1")
    assert "%" in starved
    assert "; " in starved  # and what to do
    append(live, *steps[20:])
    [over] = next(each).news
    assert re.fullmatch(r"step 1\d\d: starved loader is over; it began at step 1\d\d", over)


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("stopped", 75), ("failed", 3)])
def test_the_last_look_is_that_at_which_the_run_has_ended(live: Path, state: str, code: int) -> None:
    each = looks(live, every=0)
    next(each)
    set_status(live, state, exit_code=code)
    last = next(each)
    assert (last.facts["state"], exit_code(last.facts)) == (state, code)
    assert next(each, None) is None


def test_a_process_that_was_killed_is_noticed(finished: Path) -> None:
    set_status(finished, "running")
    code = (
        "import sys, time; from pathlib import Path; from sltdino.core.lock import FolderLock; "
        f"lock = FolderLock(Path({str(finished / LOCK)!r})); print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "held\n"
        each = looks(finished, every=0)
        assert next(each).facts["state"] == "running"
        os.kill(process.pid, signal.SIGKILL)
    last = next(each)
    assert (last.facts["state"], exit_code(last.facts)) == ("interrupted", 71)
    assert "its process is gone; go on with: sltdino resume" in last.facts["message"]
    assert next(each, None) is None


def test_a_run_that_is_being_set_up_is_waited_for(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "new"
    run.mkdir()
    lock = FolderLock(run / LOCK)
    each = looks(run, every=0)
    assert [next(each).facts, next(each).facts] == [{}, {}]
    set_status(finished, "running")
    shutil.copy(finished / "status.json", run)
    shutil.copy(finished / "params.json", run)
    assert next(each).facts["progress"]["finished_epochs"] == 0
    shutil.copy(finished / "metrics.jsonl", run)
    assert next(each).news[-1].startswith("epoch 2: ")
    lock.release()


def test_nobody_is_waited_for_where_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no run folder"):
        next(looks(tmp_path, every=0))


def test_a_history_that_was_cut_back_is_said_and_not_told_again(live: Path) -> None:
    each = looks(live, every=0)
    next(each)
    lines = (live / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["step"] <= 3]
    (live / "metrics.jsonl").write_bytes(b"".join(kept))
    append(live, {"step": 3, "context": "resume"})
    look = next(each)
    [said] = look.news
    assert said.startswith("the metrics were read anew: the run goes on from an earlier step")
    assert (look.facts["progress"]["finished_epochs"], len(look.facts["resumes"])) == (1, 1)


def test_a_run_that_goes_on_with_other_settings_is_seen_with_them(live: Path) -> None:
    each = looks(live, every=0)
    assert next(each).facts["progress"]["epochs"] == 2
    params = json.loads((live / "params.json").read_text())
    (live / "new").write_text(json.dumps(params | {"epochs": 5, "total_steps": 15}))
    (live / "new").rename(live / "params.json")
    assert next(each).facts["progress"]["epochs"] == 5
