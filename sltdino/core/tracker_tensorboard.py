"""TensorBoard's files in `RUN/tensorboard`: scalars, pictures, words and hyper-parameters."""

import io
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sltdino.core.run_files import TENSORBOARD
from sltdino.core.tracked import Point, TrackedRun

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_OURS = "events.out.tfevents.*.sltdino"


class _Folder:
    """Appends events to a file of its own in the folder; earlier processes of the run have theirs beside it.

    TensorBoard's record writer is given the file, and not its event writer: that one writes from a thread, keeps what
    went wrong there to itself, and imports TensorFlow where it is installed.
    """

    def __init__(self, run: TrackedRun) -> None:
        folder = run.path / TENSORBOARD
        self.where = str(folder)
        folder.mkdir(exist_ok=True)
        self.is_new = not any(folder.glob(_OURS))
        # TensorBoard reads the files of a folder in the order of their names
        self._path = folder / _OURS.replace("*", f"{time.time():017.6f}.{os.getpid()}")
        os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
        self._write({"file_version": "brain.Event:2"})
        if self.is_new:
            self._write({"summary": _hyperparameters(run.hyperparameters)})
        else:  # readers take everything from this step on out of what they have read
            self._write({"session_log": {"status": "START"}, "step": run.steps_done + 1})

    def point(self, point: Point) -> None:
        """The numbers of a record as one event, its words as one each."""
        self._write(*_events(point))

    def text(self, tag: str, text: str, *, step: int) -> None:
        """Words, as Markdown."""
        self._write({"summary": _text(tag, text), "step": step})

    def image(self, tag: str, image_HW3: "NDArray[np.uint8]", *, step: int) -> None:
        """A picture, as PNG."""
        from PIL import Image

        height, width, _ = image_HW3.shape
        png = io.BytesIO()
        Image.fromarray(image_HW3).save(png, "PNG")
        picture = {"height": height, "width": width, "colorspace": 3, "encoded_image_string": png.getvalue()}
        self._write({"summary": {"value": [{"tag": tag, "image": picture}]}, "step": step})

    def close(self, exit_code: int) -> None:
        """Say that the run is done, when it is."""
        if exit_code == 0:  # of several such words the readers take the first: a run that may go on has none yet
            self._write({"summary": _is_done()})

    def abandon(self) -> None:
        """Nothing is held: the file is open while it is written to."""

    def _write(self, *events: Mapping[str, Any]) -> None:
        """Append to a file that is opened for it each time: so a folder that is gone is noticed."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        with self._path.open("r+b") as file:
            file.seek(0, os.SEEK_END)
            for event in events:
                RecordWriter(file).write(Event(**{"wall_time": time.time(), **event}).SerializeToString())


def open_tensorboard(run: TrackedRun) -> _Folder:
    """Begin an event file in the run's folder; what a resumed run makes anew is taken back from those before it.

    Raises:
        OSError: the folder cannot be written to.
    """
    return _Folder(run)


def remove_events(run: Path) -> None:
    """Remove the event files of an earlier run in the same folder; what others put beside them stays.

    Raises:
        OSError: a file cannot be removed.
    """
    folder = run / TENSORBOARD
    if folder.is_symlink() or not folder.is_dir():
        return
    for file in folder.glob(_OURS):
        file.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def _events(point: Point) -> Iterator[Mapping[str, Any]]:
    when = {"step": point.step, "wall_time": point.seconds}
    if point.scalars:
        values = [{"tag": tag, "simple_value": value} for tag, value in point.scalars.items()]
        yield {"summary": {"value": values}, **when}
    for tag, text in point.texts.items():
        yield {"summary": _text(tag, text), **when}


def _text(tag: str, text: str) -> Mapping[str, Any]:
    from tensorboard.plugins.text.metadata import create_summary_metadata

    tensor = {"dtype": "DT_STRING", "string_val": [text.encode("utf-8", "backslashreplace")]}
    metadata = create_summary_metadata(display_name="", description="")
    return {"value": [{"tag": tag, "metadata": metadata, "tensor": tensor}]}


def _hyperparameters(values: Mapping[str, bool | int | float | str]) -> Any:
    """Of a session that is the run itself: with them in its folder, and no `Experiment`, TensorBoard's table of
    hyper-parameters compares the runs under a folder, by every scalar they have, and shows first what differs."""
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    return hparams_pb(dict(values))


def _is_done() -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
    summary = Summary()
    summary.value.add(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end)),
        tensor=metadata.NULL_TENSOR,
    )
    return summary
