"""Runs with trackers: what these show, and that none of them changes or stops a run."""

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sltdino.core import trackers
from sltdino.core.run_files import load_checkpoint, read_metrics, read_params, read_status
from sltdino.core.tracked import point_of
from sltdino.errors import SettingsError, StoppedError
from sltdino.pretraining import resume
from tools.compare_runs import first_difference

FAKE = """
import os, threading
from pathlib import Path

run, log = None, Path(os.environ["FAKE_LOG"])
fails_at, hangs_at = os.environ.get("FAKE_FAILS_AT"), os.environ.get("FAKE_HANGS_AT")
calls = 0

def _note(name, *said):
    global calls
    calls += 1
    with log.open("a") as file:
        print(name, *said, file=file)
    if fails_at in (name, str(calls)):
        raise ConnectionError("the network is lost")
    if hangs_at == name:
        threading.Event().wait()

class Settings:
    def __init__(self, **values): pass

class Image:
    def __init__(self, data): pass

class Config(dict):
    def update(self, values, allow_val_change): _note("config", *sorted(values))

class Run:
    offline, dir, config = True, "there/files", Config()
    def __init__(self, id): self.id, self.summary = id, {}
    def log(self, values, step): _note("log", step)
    def finish(self, exit_code): _note("finish", exit_code)

def setup(settings): _note("setup")

def teardown(exit_code): _note("teardown")

def init(**values):
    _note("init", values["id"], values["name"], values["project"], values["resume"])
    return Run(values["id"])
"""
"""A wandb that writes down what it is asked, and fails or hangs where it is told to."""


@pytest.fixture
def fake_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file with the calls of a wandb that stands in for the real one."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "wandb.py").write_text(FAKE)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "calls"))
    yield tmp_path / "calls"
    sys.modules.pop("wandb", None)  # else the real one, once imported, would come back beside it


def read(run: Path) -> EventAccumulator:
    reader = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    reader.Reload()
    return reader


def shown(run: Path) -> dict[str, list[tuple[int, float]]]:
    reader = read(run)
    return {tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def recorded(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What the metrics say, as a reader of TensorBoard's 32-bit numbers sees it."""
    found: dict[str, list[tuple[int, float]]] = {}
    for record in read_metrics(run):
        point = point_of(record)
        for tag, value in point.scalars.items():
            found.setdefault(tag, []).append((point.step, float(np.float32(value))))
    return found


def warnings_of(reporter: Any) -> list[str]:
    return [text for text in reporter.said if text.startswith("warning: ")]


# TensorBoard


def test_tensorboard_shows_every_number_of_every_record(train: Any, draw: Any, tmp_path: Path) -> None:
    for label in ("a", "b"):
        draw(tmp_path / "val" / label, 4, seed=ord(label))
    run = train(track=["tensorboard"], val_dir=str(tmp_path / "val")).run_dir
    assert shown(run) == recorded(run)
    assert {"train/loss", "train_epoch/loss", "eval/knn", "health/feature_spread"} <= shown(run).keys()


def test_tensorboard_shows_words_settings_and_the_crops_of_the_start_and_of_every_evaluation(train: Any) -> None:
    run = train(track="tensorboard", **{"experiment.notes": "left hands", "eval_every": 1, "epochs": 2}).run_dir
    reader = read(run)
    words = {tag: reader.Tensors(tag)[0].tensor_proto.string_val for tag in reader.Tags()["tensors"]}
    assert list(words["experiment/notes"]) == [b"left hands"]
    assert words["run/outcome"][0].startswith(b"done: 6 steps")
    assert "_hparams_/session_start_info" in words
    assert [event.step for event in reader.Images("crops")] == [1, 3, 6]
    picture = np.asarray(Image.open(io.BytesIO(reader.Images("crops")[0].encoded_image_string)))
    assert len(np.unique(picture)) > 20


def test_a_tracked_run_is_the_same_run(train: Any, finished_once: Path) -> None:
    run = train(track="tensorboard").run_dir
    assert first_difference(finished_once, run) == ""
    assert {path.name for path in run.iterdir()} - {path.name for path in finished_once.iterdir()} == {"tensorboard"}


def test_no_step_is_shown_twice_after_a_run_that_died_beyond_its_checkpoint(
    train: Any, recorder: Any, tmp_path: Path, finished_once: Path
) -> None:
    class Dying(recorder):  # type: ignore[misc]
        def step(self, step: int, total_steps: int, metrics: Any) -> None:
            if step == 5:
                raise MemoryError

    with pytest.raises(Exception, match="out of memory"):
        train(track="tensorboard", reporter=Dying())
    run = tmp_path / "run"
    assert [step for step, _ in shown(run)["train/loss"]] == [1, 2, 3, 4, 5]
    resume(run)
    assert first_difference(finished_once, run) == ""
    assert shown(run) == recorded(run)
    assert shown(run)["resume/records_cut"] == [(3, 2)]


def test_a_resume_may_begin_to_track_and_then_shows_the_whole_run(finished: Path) -> None:
    resume(finished, flags={"epochs": 3, "track": ["tensorboard"]})
    assert shown(finished) == recorded(finished)
    assert len(shown(finished)["train/loss"]) == 9


def test_overwriting_a_run_removes_what_tensorboard_shows_of_it(train: Any) -> None:
    run = train(track="tensorboard").run_dir
    train(track="tensorboard", epochs=1, overwrite=True)
    assert len(shown(run)["train/loss"]) == 3
    train(epochs=1, overwrite=True)
    assert not (run / "tensorboard").exists()


def test_a_folder_lost_on_the_way_is_one_warning_and_one_notice_and_the_same_run(
    train: Any, recorder: Any, tmp_path: Path, finished_once: Path
) -> None:
    folder = tmp_path / "run" / "tensorboard"

    class Breaking(recorder):  # type: ignore[misc]
        def step(self, step: int, total_steps: int, metrics: Any) -> None:
            if step == 2:
                shutil.rmtree(folder)
                folder.write_text("")

    reporter = Breaking()
    summary = train(track="tensorboard", reporter=reporter)
    assert summary.steps == 6
    assert first_difference(finished_once, summary.run_dir) == ""
    [warning] = warnings_of(reporter)
    assert "--track tensorboard is switched off, and the run goes on without it: NotADirectoryError" in warning
    status = read_status(summary.run_dir)
    assert (status["state"], [notice["count"] for notice in status["notices"]]) == ("done", [1])
    assert f"warning: {status['notices'][0]['text']}" == warning


def test_a_folder_that_cannot_be_made_is_a_warning_too(train: Any, recorder: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("mine")
    reporter = recorder()
    assert train(track="tensorboard", reporter=reporter).steps == 6
    assert "FileExistsError" in warnings_of(reporter)[-1]
    assert (tmp_path / "run" / "tensorboard").read_text() == "mine"


def test_a_signal_saves_a_tracked_run(train: Any, recorder: Any, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        train(track="tensorboard", reporter=recorder(stop_at=2, by=signal.SIGTERM))
    assert load_checkpoint(tmp_path / "run").state["progress"]["global_step"] == 2
    assert read_status(tmp_path / "run")["exit_code"] == 75


def test_tensorboard_opens_no_socket(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a socket was asked for")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert shown(train(track="tensorboard").run_dir)["train/loss"]


# wandb


def calls(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()]


def test_a_resumed_run_has_the_same_page(train: Any, fake_wandb: Path, recorder: Any) -> None:
    with pytest.raises(StoppedError):
        train(track="wandb", reporter=recorder(stop_at=2), **{"experiment.name": "first try"})
    run = fake_wandb.parent / "run"
    resume(run)
    first, second = [call for call in calls(fake_wandb) if call[0] == "init"]
    assert first == second
    assert first[2:] == ["first", "try", "sltdino", "allow"]
    assert [call for call in calls(fake_wandb) if call[0] == "finish"] == [["finish", "75"], ["finish", "0"]]


def test_a_new_run_in_the_place_of_an_old_one_has_a_new_page(train: Any, fake_wandb: Path) -> None:
    train(track="wandb", epochs=1)
    train(track="wandb", epochs=1, overwrite=True)
    first, second = [call for call in calls(fake_wandb) if call[0] == "init"]
    assert first[1] != second[1]
    assert first[2] == "run"


def test_the_environment_says_project_name_and_page(
    train: Any, fake_wandb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("project", "name", "run_id"):
        monkeypatch.setenv(f"WANDB_{name.upper()}", f"my-{name}")
    train(track="wandb", epochs=1)
    assert ["init", "my-run_id", "my-name", "my-project", "allow"] in calls(fake_wandb)


@pytest.mark.parametrize("fails_at", ["setup", "init", "config", "log", "7", "finish"])
def test_a_wandb_that_fails_is_one_warning_and_the_same_run(
    fails_at: str, train: Any, fake_wandb: Path, recorder: Any, finished_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAILS_AT", fails_at)
    reporter = recorder()
    run = train(track="wandb", reporter=reporter).run_dir
    assert first_difference(finished_once, run) == ""
    [warning] = warnings_of(reporter)
    assert warning.endswith("without it: ConnectionError: the network is lost")
    assert [notice["count"] for notice in read_status(run)["notices"]] == [1]
    assert read_status(run)["state"] == "done"
    names = [call[0] for call in calls(fake_wandb)]
    failed = 6 if fails_at == "7" else names.index(fails_at)
    assert set(names[failed + 1 :]) <= {"finish", "teardown"}


@pytest.mark.parametrize("hangs_at", ["init", "log", "finish"])
def test_a_wandb_that_hangs_is_one_warning_and_the_same_run(
    hangs_at: str, train: Any, fake_wandb: Path, recorder: Any, finished_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPEN_SECONDS", "CALL_SECONDS", "CLOSE_SECONDS"):
        monkeypatch.setattr(trackers, name, 0.5)
    monkeypatch.setenv("FAKE_HANGS_AT", hangs_at)
    reporter = recorder()
    run = train(track="wandb", reporter=reporter).run_dir
    assert first_difference(finished_once, run) == ""
    assert len(warnings_of(reporter)) == 1
    assert [call[0] for call in calls(fake_wandb)].index(hangs_at) == len(calls(fake_wandb)) - 1


def test_both_at_once_do_not_know_of_each_other(
    train: Any, fake_wandb: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAILS_AT", "log")
    run = train(track=["wandb", "tensorboard"], reporter=recorder()).run_dir
    assert shown(run) == recorded(run)


# Settings


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_said_before_anything_is_written(
    name: str, train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SettingsError, match=rf"--track {name}: .* pip install 'sltdino\[{name}\]'"):
        train(track=name)
    assert not (tmp_path / "run").exists()


def test_a_resume_where_the_package_is_missing_can_do_without_it(
    train: Any, recorder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoppedError):
        train(track="tensorboard", reporter=recorder(stop_at=2))
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    with pytest.raises(SettingsError, match="--set 'track=\\[\\]'"):
        resume(tmp_path / "run")
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()} == before
    assert resume(tmp_path / "run", sets=["track=[]"]).steps == 6
    assert read_params(tmp_path / "run")["settings"]["track"] == []


def test_without_a_tracker_neither_package_is_imported(pictures: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    script = (
        "import json, sys; from sltdino import load_settings, pretrain; "
        "pretrain(load_settings('hands', flags=json.loads(sys.argv[1])).settings); "
        "sys.exit(bool({'tensorboard', 'wandb'} & set(sys.modules)))"
    )
    flags = {**tiny, "train_dir": str(pictures), "output_dir": str(tmp_path / "run"), "epochs": 1}
    assert subprocess.run([sys.executable, "-c", script, json.dumps(flags)], check=False).returncode == 0


@pytest.mark.parametrize("given", ["tensorbord", ["wandb", "tensorbord"]])
def test_an_unknown_tracker_is_refused_with_a_suggestion(given: Any, train: Any) -> None:
    said = r"value \d must be one of tensorboard, wandb \(got 'tensorbord'\); did you mean 'tensorboard'"
    with pytest.raises(SettingsError, match=said):
        train(track=given)
