"""The list of what a run made."""

import json
from pathlib import Path

import pytest

from sltdino.core import artifacts
from sltdino.core.lock import FolderLock, is_held
from sltdino.errors import RunFolderError, RunInUseError


def names(run: Path) -> list[str]:
    return [entry["name"] for entry in json.loads((run / "artifacts.json").read_text())]


def test_an_entry_takes_the_place_of_the_one_of_its_name(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "b"):
        artifacts.register(tmp_path, tmp_path / f"{name}.pt", name=name, metadata={"count": len(name)})
    assert names(tmp_path) == ["a", "b", "c"]


def test_the_lock_is_given_back(tmp_path: Path) -> None:
    artifacts.register(tmp_path, tmp_path / "a.pt", name="a", metadata={})
    assert not is_held(tmp_path / ".sltdino.lock")


def test_a_folder_that_another_holds_is_left_alone(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / ".sltdino.lock")
    try:
        with pytest.raises(RunInUseError):
            artifacts.register(tmp_path, tmp_path / "a.pt", name="a", metadata={})
    finally:
        lock.release()
    assert [path.name for path in tmp_path.iterdir()] == [".sltdino.lock"]


def test_a_damaged_list_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "artifacts.json").write_text("[{")
    with pytest.raises(RunFolderError):
        artifacts.register(tmp_path, tmp_path / "a.pt", name="a", metadata={})
    assert (tmp_path / "artifacts.json").read_text() == "[{"
