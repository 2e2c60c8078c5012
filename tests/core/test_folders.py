"""Folders that appear whole, or not at all."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sltdino.core import files
from sltdino.core.folders import new_folder
from sltdino.errors import StorageError


def test_a_folder_appears_complete_and_in_the_place_of_the_old_one(tmp_path):
    for text in ("one", "two"):
        with new_folder(tmp_path / "f") as folder:
            assert folder.parent == tmp_path
            (folder / text).write_text(text)
            assert not (tmp_path / "f" / text).exists()
        assert [path.name for path in tmp_path.rglob("*")] == ["f", text]


def test_a_folder_that_fails_leaves_the_old_one_and_nothing_else(tmp_path):
    with new_folder(tmp_path / "f") as folder:
        (folder / "old").write_text("old")
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "f") as folder:
        (folder / "new").write_text(str(1 / 0))
    assert [path.name for path in tmp_path.rglob("*")] == ["f", "old"]


def test_a_folder_that_cannot_take_its_name_gives_the_old_one_back(tmp_path, monkeypatch):
    with new_folder(tmp_path / "f") as folder:
        (folder / "old").write_text("old")
    rename = Path.rename

    def fail_at_the_new_one(self, target):
        if (self / "new").exists():
            raise OSError(errno.EIO, "input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_at_the_new_one)
    with pytest.raises(StorageError), new_folder(tmp_path / "f") as folder:
        (folder / "new").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["f", "old"]


def test_the_folder_of_a_killed_process_does_not_stop_the_next_run(tmp_path):
    context = new_folder(tmp_path / "f")
    context.__enter__()
    assert files.remove_leftovers(tmp_path) == 0


def half_filled(parent, *, then):
    """A folder that another process fills, and that process: killed, or still at work."""
    script = (
        "import os, signal, sys; from pathlib import Path; from sltdino.core.folders import new_folder\n"
        "with new_folder(Path(sys.argv[1]) / 'f') as folder:\n"
        "    (folder / 'half').write_text('')\n"
        "    print(folder, flush=True)\n"
        f"    {then}"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return Path(process.stdout.readline().strip()), process


@pytest.mark.parametrize(("minutes", "is_left"), [(5, False), (0, True)])
def test_what_a_killed_process_left_half_filled_is_removed_by_the_next_a_while_later(tmp_path, minutes, is_left):
    folder, process = half_filled(tmp_path, then="os.kill(os.getpid(), signal.SIGKILL)")
    assert process.communicate() == ("", None)
    assert (folder / "half").exists()
    os.utime(folder, (time.time() - 60 * minutes,) * 2)
    with new_folder(tmp_path / "g"):
        assert folder.exists() is is_left


def test_what_a_living_process_is_filling_is_left_to_it(tmp_path):
    folder, process = half_filled(tmp_path, then="sys.stdin.read()")
    os.utime(folder, (0, 0))
    with new_folder(tmp_path / "g"):
        assert (folder / "half").exists()
    process.communicate("")
    assert process.returncode == 0
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["f", "g", "half"]
