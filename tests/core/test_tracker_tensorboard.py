"""TensorBoard's files, read back with its own reader."""

import io
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from sltdino.core.tracked import Point, TrackedRun
from sltdino.core.tracker_tensorboard import open_tensorboard, remove_events


def tracked(path: Path, *, steps_done: int = 0, **hyperparameters: Any) -> TrackedRun:
    return TrackedRun(path, "", "", (), hyperparameters, steps_done, ())


def read(run: Path) -> EventAccumulator:
    reader = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    reader.Reload()
    return reader


def scalars(run: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(run).Scalars(tag)]


def hparams(run: Path, tag: str) -> Any:
    content = read(run).SummaryMetadata(tag).plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(content)


def test_numbers_have_their_step_and_the_moment_of_their_record(tmp_path: Path) -> None:
    tracker = open_tensorboard(tracked(tmp_path))
    tracker.point(Point(3, 1767225607.5, {"train/loss": 2.5, "health/feature_spread": 0.25}, {}))
    tracker.point(Point(4, 1767225608.5, {"train/loss": 2.0}, {}))
    events = read(tmp_path).Scalars("train/loss")
    assert [(event.step, event.wall_time, event.value) for event in events] == [
        (3, 1767225607.5, 2.5), (4, 1767225608.5, 2.0),
    ]  # fmt: skip
    assert scalars(tmp_path, "health/feature_spread") == [(3, 0.25)]


def test_words_are_words_whatever_they_hold(tmp_path: Path) -> None:
    tracker = open_tensorboard(tracked(tmp_path))
    tracker.text("experiment/notes", "ñandú <b> \udcff", step=0)
    [event] = read(tmp_path).Tensors("experiment/notes")
    assert list(event.tensor_proto.string_val) == ["ñandú <b> \\udcff".encode()]
    assert read(tmp_path).SummaryMetadata("experiment/notes").plugin_data.plugin_name == "text"


def test_a_picture_comes_back_as_it_was(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    open_tensorboard(tracked(tmp_path)).image("crops", picture, step=9)
    [event] = read(tmp_path).Images("crops")
    assert (event.step, event.height, event.width) == (9, 5, 7)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(event.encoded_image_string))), picture)


def test_hyperparameters_are_of_the_run_itself_with_their_kinds(tmp_path: Path) -> None:
    open_tensorboard(tracked(tmp_path, epochs=5, shuffle=True, algorithm="ibot", lr=0.5)).close(0)
    found = hparams(tmp_path, metadata.SESSION_START_INFO_TAG).session_start_info.hparams
    kinds = {name: value.WhichOneof("kind") for name, value in found.items()}
    assert {name: (kind, getattr(found[name], kind)) for name, kind in kinds.items()} == {
        "epochs": ("number_value", 5), "shuffle": ("bool_value", True), "algorithm": ("string_value", "ibot"),
        "lr": ("number_value", 0.5),
    }  # fmt: skip
    assert hparams(tmp_path, metadata.SESSION_END_INFO_TAG).session_end_info.status == 1  # STATUS_SUCCESS


def test_a_run_that_stopped_is_not_called_done(tmp_path: Path) -> None:
    open_tensorboard(tracked(tmp_path)).close(75)
    assert metadata.SESSION_END_INFO_TAG not in read(tmp_path).Tags()["tensors"]


def test_a_resumed_run_takes_back_what_it_makes_anew(tmp_path: Path) -> None:
    first = open_tensorboard(tracked(tmp_path))
    for step in (1, 2, 3, 4):
        first.point(Point(step, float(step), {"train/loss": step}, {}))
    second = open_tensorboard(tracked(tmp_path, steps_done=2))
    assert scalars(tmp_path, "train/loss") == [(1, 1), (2, 2)]
    for step in (3, 4, 5):
        second.point(Point(step, time.time(), {"train/loss": 10 * step}, {}))
    assert scalars(tmp_path, "train/loss") == [(1, 1), (2, 2), (3, 30), (4, 40), (5, 50)]


def test_a_tracker_is_new_where_there_are_no_events_of_the_run(tmp_path: Path) -> None:
    assert open_tensorboard(tracked(tmp_path, steps_done=2, epochs=5)).is_new
    assert hparams(tmp_path, metadata.SESSION_START_INFO_TAG).session_start_info.hparams["epochs"].number_value == 5
    assert not open_tensorboard(tracked(tmp_path, steps_done=2)).is_new


def test_a_folder_that_becomes_a_file_is_an_error(tmp_path: Path) -> None:
    tracker = open_tensorboard(tracked(tmp_path))
    (tmp_path / "tensorboard").rename(tmp_path / "moved")
    (tmp_path / "tensorboard").write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        tracker.point(Point(1, 1.0, {"train/loss": 1.0}, {}))


def test_no_tensorflow_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    tracker = open_tensorboard(tracked(tmp_path, epochs=5))
    tracker.text("a", "b", step=0)
    tracker.close(0)
    assert "tensorflow" not in sys.modules


def test_old_events_are_removed_and_files_of_others_stay(tmp_path: Path) -> None:
    open_tensorboard(tracked(tmp_path))
    theirs = tmp_path / "tensorboard" / "events.out.tfevents.1.theirs"
    theirs.write_text("")
    remove_events(tmp_path)
    assert [path.name for path in (tmp_path / "tensorboard").iterdir()] == [theirs.name]
    theirs.unlink()
    open_tensorboard(tracked(tmp_path))
    remove_events(tmp_path)
    assert not (tmp_path / "tensorboard").exists()
    remove_events(tmp_path)


def test_events_behind_a_link_are_not_removed(tmp_path: Path) -> None:
    open_tensorboard(tracked(tmp_path))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").symlink_to(tmp_path / "tensorboard")
    remove_events(tmp_path / "run")
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
