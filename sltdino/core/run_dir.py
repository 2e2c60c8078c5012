"""The folder of a run: everything the first process writes about it."""

from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from sltdino.core import artifacts, files, json_files, run_files, run_place
from sltdino.core.json_lines import JsonLines, JsonLinesReader
from sltdino.core.lock import FolderLock
from sltdino.core.run_files import DEFAULT_NAMES, LoadedCheckpoint
from sltdino.core.settings import CheckpointSettings
from sltdino.core.trackers import Trackers
from sltdino.errors import CheckpointError, MissingInputError, RunFolderError

State = Literal["running", "done", "stopped", "failed"]
_NO_HARD_LINKS = "the file system has no hard links: checkpoints are copied, which takes time and space"


class RunDir:
    """Writes one run. Made by `create` or `open`, which take the folder's lock; `close` or `with` gives it back.

    Every method that writes raises CannotCreateError or StorageError, and then leaves what was there before.
    """

    def __init__(self, path: Path, names: CheckpointSettings, *, overwrite: bool, resuming: bool) -> None:
        self.path = path
        self.names = names
        self._status: dict[str, object] = {"state": "running", "exit_code": None, "message": ""}
        self._progress: dict[str, object] = {}
        self._notices: list[dict[str, Any]] = []
        self._last_is_whole = False
        self.trackers = Trackers()
        """Where records go beside the folder; none is open at first."""
        self._open = ExitStack()
        self._lock = FolderLock(path / run_files.LOCK)
        self._open.callback(self._lock.release)
        try:
            self._prepare(overwrite=overwrite, resuming=resuming)
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, path: Path, names: CheckpointSettings = DEFAULT_NAMES, *, overwrite: bool = False) -> "RunDir":
        """Start a run in `path`. Other files in the folder are left alone; with `overwrite`, an old run's are removed.

        Raises:
            RunFolderError: the folder holds a run, or something of another program under our names.
            RunInUseError: another process holds it. CannotCreateError, StorageError: it cannot be written to.
        """
        run_files.check_names(names)
        with files.os_errors(path):
            new = [folder for folder in (path, *path.parents) if not folder.exists()]
            path.mkdir(parents=True, exist_ok=True)
            for folder in new:
                files.flush_folder(folder.parent)
        return cls(path, names, overwrite=overwrite, resuming=False)

    @classmethod
    def open(cls, path: Path, names: CheckpointSettings = DEFAULT_NAMES) -> "RunDir":
        """Continue the run in `path`.

        Raises:
            MissingInputError: there is no such folder. RunFolderError: it holds no run.
            RunInUseError: another process holds it. CannotCreateError, StorageError: it cannot be written to.
        """
        run_files.check_names(names)
        if not path.is_dir():
            raise MissingInputError(f"{path}: there is no such run folder; check its name")
        if not run_files.own_files(path, names):
            raise RunFolderError(f"{path}: holds no run to resume; check its name, or start one with pretrain")
        return cls(path, names, overwrite=False, resuming=True)

    def __enter__(self) -> "RunDir":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files and give the lock back. Doing it twice does nothing."""
        self._open.close()

    @property
    def last(self) -> Path:
        """The file of the last checkpoint."""
        return self.path / self.names.last_name

    @property
    def previous(self) -> Path:
        """The file of the checkpoint before the last one."""
        return self.path / run_files.previous_name(self.names)

    @property
    def best(self) -> Path:
        """The file of the best checkpoint."""
        return self.path / self.names.best_name

    @property
    def num_bad_images(self) -> int:
        """Images that could not be read, since the run first started."""
        return len(self._bad_paths)

    def check_free_space(self, bytes_needed: int) -> None:
        """Raise StorageError unless so many bytes are free on the folder's disk."""
        files.check_free_space(self.path, bytes_needed)

    def write_params(self, params: Mapping[str, object]) -> None:
        """Write params.json: what this run is, and what reproduces it."""
        json_files.write(self.path / run_files.PARAMS, params)

    def log(self, step: int, metrics: Mapping[str, float | int | str | bool | None], *, context: str) -> None:
        """Add a record to the metrics, and show it to the trackers.

        A number that is not finite becomes null and is named under `non_finite`.
        """
        reserved = {"step", "timestamp", "context", "non_finite"} & metrics.keys()
        assert not reserved, f"metrics named {reserved} would hide the record's own fields"
        record: dict[str, object] = {"step": step, "timestamp": json_files.now(), "context": context}
        record |= json_files.finite(metrics)
        self._metrics.append(record)
        self.trackers.record(record)

    def metrics_offset(self) -> int:
        """The length of the metrics in bytes, once they are on the disk."""
        return self._metrics.offset()

    def rewind(self, checkpoint: LoadedCheckpoint) -> int:
        """Bring the folder back to the moment the checkpoint was saved; the number of metric records that were cut."""
        state, source = checkpoint
        if source.name == self.last.name:  # the process may have ended between publishing this one and the best
            if state.get("is_best") and not files.same_file(self.last, self.best):
                self._second_name(self.last, self.best)
            elif state.get("best_withdrawn"):
                self._remove_best()
        return self.truncate_metrics(int(state.get("metrics_offset", 0)))

    def truncate_metrics(self, offset: int) -> int:
        """Cut the metrics back to `offset` bytes; the number of records that were cut."""
        cut = self._metrics.truncate(offset)
        if (length := self._metrics.offset()) != offset:
            self.notice(f"{self.names.history_file} was changed by others: it ends at byte {length}, not {offset}")
        return cut

    def register_artifact(
        self, path: Path | str, *, name: str | None = None, metadata: Mapping[str, object] | None = None
    ) -> None:
        """Record a file that the run made. A second one of the same name takes the place of the first in the list."""
        self._artifacts[:] = artifacts.placed(self._artifacts, path, name=name, metadata=metadata or {})
        json_files.write(self.path / run_files.ARTIFACTS, self._artifacts)

    def write_status(self, state: State, *, exit_code: int | None = None, message: str = "", **progress: Any) -> None:
        """Write status.json: what the run is doing or how it ended. `progress` is kept until it is given anew."""
        self._progress |= json_files.finite(progress)
        self._status = {"state": state, "exit_code": exit_code, "message": message}
        self._write_status()

    def notice(self, text: str) -> None:
        """Record in status.json, for good, that something was not as planned; the same text is counted."""
        known = next((notice for notice in self._notices if notice["text"] == text), None)
        if known is None:
            self._notices.append({"text": text, "timestamp": json_files.now(), "count": 1})
        else:
            known["count"] += 1
        self._write_status()

    def record_bad_image(self, path: Path | str, reason: str, *, use: str = "training") -> bool:
        """Record an image that cannot be read, once for the run; False when it was known."""
        record = {"path": str(path), "reason": reason, "use": use, "timestamp": json_files.now()}
        if (key := json_files.text(record["path"])) in self._bad_paths:
            return False
        self._bad_images.append(record)
        self._bad_paths.add(key)
        return True

    def publish_checkpoint(
        self, state: Mapping[str, Any], *, best: bool, withdrawn: bool = False, epoch: int, loss: float | None,
        **progress: Any,
    ) -> Path:  # fmt: skip
        """Save `state` as the last checkpoint, and as the best one if it is; the one before stays as the previous.

        When it returns, the new checkpoint is verified and on the disk. Until the instant it takes its name the old one
        stands, whatever happens. `metrics_offset`, `is_best` and `best_withdrawn` are added to the state.

        Args:
            withdrawn: the best one is none any more, and is removed.

        Raises:
            DivergedError: a tensor is not finite. TypeError: the state holds something other than data.
        """
        from sltdino.core import checkpoint

        full = {**state, "metrics_offset": self.metrics_offset(), "is_best": best, "best_withdrawn": withdrawn}
        checkpoint.save(self.last, full, before_rename=self._keep_previous)
        self._last_is_whole = True
        metadata = {"epoch": epoch, "loss": loss}
        self.register_artifact(self.last, name="checkpoint_last", metadata=metadata)
        if best:
            self._second_name(self.last, self.best)
            self.register_artifact(self.best, name="checkpoint_best", metadata=metadata)
        elif withdrawn:
            self._remove_best()
        self.write_status("running", saved=self.last.name, epoch=epoch, loss=loss, **progress)
        return self.last

    def _prepare(self, *, overwrite: bool, resuming: bool) -> None:
        """With the lock held: what must be known before any work is done."""
        had_records = not resuming and run_place.make_place(self.path, self.names, overwrite=overwrite)
        files.remove_leftovers(self.path)
        hard_links = files.probe(self.path)
        status, damaged = run_files.read_index(self.path / run_files.STATUS, dict)
        self._notices = run_files.notices_in(status)
        self._artifacts, damaged_too = run_files.read_index(self.path / run_files.ARTIFACTS, list)
        self._metrics = self._open.enter_context(closing(JsonLines(self.path / self.names.history_file)))
        self._bad_images = self._open.enter_context(closing(JsonLines(self.path / run_files.BAD_IMAGES)))
        self._bad_paths = {str(record.get("path")) for record in JsonLinesReader(self.path / run_files.BAD_IMAGES)}
        self._write_status()
        for log in (self._metrics, self._bad_images):
            if log.torn_bytes:
                self.notice(f"{log.path.name}: {log.torn_bytes} bytes of an unfinished record were cut off its end")
        if had_records and not overwrite:
            self.notice("begun again: an earlier start in this folder ended before its first step")
        for text in (damaged, damaged_too, self._lock.notice, "" if hard_links else _NO_HARD_LINKS):
            if text:
                self.notice(text)

    def _keep_previous(self) -> None:
        """Make the last checkpoint the previous one; but a damaged one must not take the place of a good one."""
        if not self.last.exists():
            return
        if not self._last_is_whole:
            from sltdino.core import checkpoint

            try:
                checkpoint.verify(self.last)
            except CheckpointError as error:
                self.notice(f"a damaged checkpoint was replaced and not kept as the previous one: {error}")
                return
        self._second_name(self.last, self.previous)

    def _remove_best(self) -> None:
        self.best.unlink(missing_ok=True)
        self._artifacts[:] = [row for row in self._artifacts if row.get("name") != "checkpoint_best"]
        json_files.write(self.path / run_files.ARTIFACTS, self._artifacts)

    def _second_name(self, source: Path, target: Path) -> None:
        if not files.second_name(source, target):
            self.notice(_NO_HARD_LINKS)

    def _write_status(self) -> None:
        status = {"timestamp": json_files.now(), "bad_images": self.num_bad_images, "notices": self._notices}
        json_files.write(self.path / run_files.STATUS, self._status | self._progress | status)
