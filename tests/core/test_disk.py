"""Facts about the output folder."""

import errno
import fcntl
from pathlib import Path
from typing import Any

import pytest

from sltdino.core.disk import file_system, output_folder
from sltdino.errors import CannotCreateError


def test_a_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    facts = output_folder(tmp_path)
    assert (facts["exists"], facts["flock"], facts["hard_links"]) == (True, True, True)
    assert facts["written_bytes_per_second"] > 0
    assert list(tmp_path.iterdir()) == []


def test_of_a_folder_that_is_not_there_the_one_above_is_tried(tmp_path: Path) -> None:
    assert output_folder(tmp_path / "a" / "b")["exists"] is False
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_its_place_is_refused_without_naming_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotCreateError, match=r"^cannot be created \(Not a directory\)$"):
        output_folder(tmp_path / "file" / "run")


def test_no_flock_is_a_fact_and_not_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert output_folder(tmp_path)["flock"] is False
    assert list(tmp_path.iterdir()) == []


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    mounts, folder = tmp_path / "mountinfo", (tmp_path / "with space" / "deep").resolve()
    folder.mkdir(parents=True)
    escaped = str(folder.parent).replace(" ", "\\040")
    mounts.write_text(f"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:9 / {escaped} rw shared:1 - nfs4 host:/x rw\n")
    assert (file_system(folder, mounts), file_system(tmp_path, mounts)) == ("nfs4", "ext4")
    assert file_system(tmp_path, tmp_path / "none") is None
