"""The folder that `embed` writes: a file for each clip, a record of the finished ones, and an index of all."""

import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sltdino.core import files, json_files
from sltdino.core.json_files import text
from sltdino.core.json_lines import JsonLines, JsonLinesReader
from sltdino.core.lock import FolderLock
from sltdino.core.run_files import LOCK, PARAMS
from sltdino.errors import ChangeRefusedError, RunFolderError, RunInUseError, SettingsError

RECORD, INDEX = ".sltdino-embed.jsonl", "index.json"
_FORMAT = {"format": "sltdino-features", "version": 1}
Arrays = Mapping[str, NDArray[Any]]


def write_npz(file: BinaryIO, arrays: Arrays, names: Sequence[str]) -> None:
    """Arrays, and the names of the images as one more, for `numpy.load`; equal content gives equal bytes."""
    with zipfile.ZipFile(file, "w") as archive:  # numpy's own savez puts the time of day into the file
        for name, array in {**arrays, **({"names": np.array(names)} if names else {})}.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def write_safetensors(file: BinaryIO, arrays: Arrays, names: Sequence[str]) -> None:
    """Arrays as tensors, and the names of the images as a JSON list under `names` of the metadata."""
    from safetensors.numpy import save

    file.write(save(dict(arrays), {"names": json_files.dumps(names)} if names else None))


FORMATS: dict[str, Callable[[BinaryIO, Arrays, Sequence[str]], None]] = {
    "npz": write_npz,
    "safetensors": write_safetensors,
}


class Finished(NamedTuple):
    """What the index says about a clip."""

    file: str
    """Relative to the folder."""
    first_frame: int
    frames: int
    """Rows, one for every frame from the first on."""
    images: int
    missing: int
    black: int
    bad: int
    bad_images: list[dict[str, str]]
    """Path and reason of the first of them."""
    source: str
    """Digest of the names, sizes and times of the images."""
    sha256: str = ""
    """Of the file."""


class FeatureFolder:
    """Holds an output folder for one call of `embed`, knows what earlier calls finished there, and takes new clips.

    Args:
        settings: what the features depend on; an earlier call's must be equal.
        overwrite: remove the features of earlier calls first; what else lies there is never replaced.

    Raises:
        ChangeRefusedError: it holds features of other settings; both values of each are in the message.
        RunFolderError: it holds files, but no features of ours. RunInUseError: another call writes there.
        SettingsError: a package that the format needs is not installed.
        CannotCreateError, StorageError: it cannot be written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, overwrite: bool) -> None:
        self.path = path
        self.suffix = str(settings["format"])
        _check_installed(self.suffix)
        self._settings = json.loads(json_files.dumps(settings))  # as it reads back
        with files.os_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            entries = sorted(set(os.listdir(path)) - {LOCK})
        if (path / PARAMS).exists() or (entries and RECORD not in entries):
            what = "a run" if (path / PARAMS).exists() else f"files, such as {entries[0]}, but no features of sltdino"
            raise RunFolderError(f"--output: {path} holds {what}; choose another folder")
        try:
            self._lock = FolderLock(path / LOCK)
        except RunInUseError as error:
            reason = str(error).partition(";")[0]
            raise RunInUseError(f"--output: {reason}; wait for it, stop it, or choose another folder") from error
        try:
            header, self._finished = _read(path / RECORD)
            if overwrite:
                self._remove()
            elif header and header.get("settings") != self._settings:
                raise _refused(path, header.get("settings"), self._settings)
            self._record = JsonLines(path / RECORD)
            if overwrite or not header:
                self._record.truncate(0)
                self._record.append({**_FORMAT, "settings": self._settings})
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Let others have the folder."""
        self._record.close()
        self._lock.release()

    def place(self, clip_file: str) -> Path:
        """The path of a clip's features."""
        return self.path / f"{clip_file}.{self.suffix}"

    def finished(self, clip_file: str, source: str) -> Finished | None:
        """What an earlier call wrote for a clip, if it was of the same images and every byte of it is still there."""
        known = self._finished.get(text(f"{clip_file}.{self.suffix}"))
        place = self.place(clip_file)
        if known is None or known.source != source or not place.is_file():
            return None
        return known if files.sha256(place) == known.sha256 else None

    def start(self, clip_files: Sequence[str]) -> None:
        """Make the sub-folders of clips that are about to be written, and clear away what a killed call left."""
        for folder in {self.path, *(self.place(file).parent for file in clip_files)}:
            with files.os_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
            files.remove_leftovers(folder)
        if clip_files:
            with files.os_errors(self.path / INDEX):
                (self.path / INDEX).unlink(missing_ok=True)  # from here on it would not be the whole truth

    def add(self, clip_file: str, finished: Finished, arrays: Arrays, names: Sequence[str]) -> Finished:
        """Write a clip; it counts, and survives a kill, once this returns."""
        digests: list[str] = []
        with files.new_file(
            self.place(clip_file), before_rename=lambda path: digests.append(files.sha256(path))
        ) as file:
            FORMATS[self.suffix](file, arrays, names)
        finished = finished._replace(sha256=digests[0])
        self._record.append(finished._asdict())
        return finished

    def write_index(self, content: Mapping[str, Any], clips: Sequence[Finished]) -> Path:
        """Write the index, the last thing a call does."""
        self._record.offset()  # flushed, so that an index never knows more than the record
        path = self.path / INDEX
        rows = [clip._asdict() for clip in clips]
        json_files.write(path, {**_FORMAT, **content, "settings": self._settings, "clips": rows})
        return path

    def _remove(self) -> None:
        with files.os_errors(self.path):
            for name in (*self._finished, INDEX):
                path = self.path / name
                # the record may be anybody's: what it names is removed only inside the folder
                if path.suffix.removeprefix(".") in (*FORMATS, "json") and path.resolve().is_relative_to(
                    self.path.resolve()
                ):
                    path.unlink(missing_ok=True)
        self._finished = {}


def _check_installed(name: str) -> None:
    if name == "safetensors":
        try:
            import safetensors.numpy  # noqa: F401
        except ImportError as error:
            raise SettingsError(
                "--format safetensors: needs the package safetensors: pip install 'sltdino[safetensors]', "
                "or take --format npz"
            ) from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Finished]]:
    """The header of a record, empty when there is none, and the finished clips by file."""
    rows = iter(JsonLinesReader(path))
    header = next(rows, {})
    if not header:
        return {}, {}
    if {key: header.get(key) for key in _FORMAT} != _FORMAT:
        raise RunFolderError(f"{path}: not written by this version of sltdino; choose another folder for the features")
    finished = {}
    for row in rows:
        try:
            finished[row["file"]] = Finished(**row)
        except (KeyError, TypeError):
            continue  # not a record of ours: that clip is made again
    return header, finished


def _refused(path: Path, before: Any, now: dict[str, Any]) -> ChangeRefusedError:
    before = before if isinstance(before, dict) else {}
    different = [key for key in {**now, **before} if before.get(key) != now.get(key)]
    lines = [f"{key}: {json.dumps(before.get(key))} there, {json.dumps(now.get(key))} now" for key in different]
    what = "another input folder" if different == ["root"] else "other settings"
    first = f"{path}: holds features of {what}; choose another folder, or replace them with --overwrite"
    return ChangeRefusedError("\n".join([first, *lines]))
