import errno
import json
import math
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sltdino.core import files, json_files
from sltdino.core.json_lines import JsonLines
from sltdino.core.lock import FolderLock
from sltdino.errors import CannotCreateError, MissingInputError, RunFolderError, RunInUseError, StorageError


def test_a_file_is_flushed_before_it_takes_its_name_and_the_folder_after(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor):
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("rename"), replace(*names)))
    with files.new_file(tmp_path / "a") as file:
        file.write(b"x")
    assert calls == ["file", "rename", "folder"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_temporary_file_is_made_for_us_alone_in_the_same_folder(tmp_path, monkeypatch):
    opened = []
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda path, flags, *rest: (opened.append((path, flags)), real(path, flags, *rest))[1]
    )
    with files.new_file(tmp_path / "a"):
        pass
    path, flags = opened[0]
    assert path.parent == tmp_path
    assert flags & os.O_EXCL
    assert flags & os.O_NOFOLLOW


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_and_leaves_the_old_file_alone(tmp_path, monkeypatch, number):
    target = tmp_path / "a"
    target.write_text("old")
    fired = []

    def full(descriptor):
        fired.append(descriptor)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="a: the disk is full") as caught, files.new_file(target) as file:
        file.write(b"new")
    assert fired
    assert caught.value.exit_code == 74
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_real_file_size_limit_ends_in_a_storage_error_and_no_temporary_file(tmp_path):
    code = f"""
import resource
from pathlib import Path
from sltdino.core import files
from sltdino.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    with files.new_file(Path({str(tmp_path / "a")!r})) as file:
        file.write(bytes(100_000))
except StorageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "larger than a file may be" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_any_error_while_writing_removes_the_temporary_file(tmp_path, error):
    def write_half():
        with files.new_file(tmp_path / "a") as file:
            file.write(b"half")
            assert len(list(tmp_path.iterdir())) == 1
            raise error

    with pytest.raises(error):
        write_half()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [lambda path: path / "no" / "folder", lambda path: path / ("n" * 300)])
def test_a_file_that_cannot_be_made_is_a_73(tmp_path, make):
    with pytest.raises(CannotCreateError, match="cannot be created") as caught, files.new_file(make(tmp_path)) as file:
        file.write(b"x")
    assert caught.value.exit_code == 73
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_place_of_the_file_is_left_alone(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(CannotCreateError), files.new_file(tmp_path / "a"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_link_in_the_place_of_the_file_is_replaced_and_its_target_untouched(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("precious")
    run = tmp_path / "run"
    run.mkdir()
    (run / "a").symlink_to(outside)
    with files.new_file(run / "a") as file:
        file.write(b"new")
    assert outside.read_text() == "precious"
    assert not (run / "a").is_symlink()


def test_a_second_name_is_a_hard_link_and_leaves_no_temporary_even_between_two_names_of_one_file(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("x")
    assert files.second_name(one, two)
    assert files.second_name(one, two)  # a rename between two names of one file does nothing and leaves the source
    assert one.samefile(two)
    assert sorted(tmp_path.iterdir()) == [one, two]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_without_hard_links_a_second_name_is_a_copy(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(os.urandom(3_000_000))
    two.write_text("old")
    assert not files.second_name(one, two)
    assert one.read_bytes() == two.read_bytes()
    assert not one.samefile(two)
    assert sorted(tmp_path.iterdir()) == [one, two]
    assert not files.probe(tmp_path)


def _holder(lock: Path, body: str = "time.sleep(60)") -> "subprocess.Popen[str]":
    code = f"""
import os, sys, time
from pathlib import Path
from sltdino.core.lock import FolderLock
lock = FolderLock(Path({str(lock)!r}))
print("held", flush=True)
{body}
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_held_by_another_process_is_refused_with_its_pid_and_free_after_kill_9(tmp_path):
    lock = tmp_path / ".sltdino.lock"
    process = _holder(lock)
    try:
        with pytest.raises(RunInUseError, match=f"in use by pid {process.pid} on ") as caught:
            FolderLock(lock)
        assert caught.value.exit_code == 69
    finally:
        process.kill()
        process.communicate()
    FolderLock(lock).release()


def test_a_child_that_outlives_its_killed_parent_does_not_keep_the_lock(tmp_path):
    lock = tmp_path / ".sltdino.lock"
    body = """
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
time.sleep(60)
"""
    process = _holder(lock, body)
    child = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        os.kill(child, 0)  # it does live
        mine = FolderLock(lock)  # RunInUseError, if the child still held it
        assert f"{os.getpid()}" in lock.read_text()
        mine.release()
    finally:
        os.kill(child, 9)
        process.communicate()


def test_one_process_cannot_take_a_lock_twice_and_release_lets_it(tmp_path):
    first = FolderLock(tmp_path / "lock")
    with pytest.raises(RunInUseError, match=f"pid {os.getpid()}"):
        FolderLock(tmp_path / "lock")
    first.release()
    first.release()
    FolderLock(tmp_path / "lock").release()


def test_terminal_escapes_in_a_lock_file_do_not_reach_the_message(tmp_path):
    held = FolderLock(tmp_path / "lock")
    (tmp_path / "lock").write_text("pid 1 \x1b[31m")
    with pytest.raises(RunInUseError, match="in use by another process"):
        FolderLock(tmp_path / "lock")
    held.release()


def test_without_flock_a_file_holds_the_folder_and_says_so(tmp_path, monkeypatch):
    import fcntl

    def unsupported(*_):
        raise OSError(errno.EOPNOTSUPP, "no flock")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    first = FolderLock(tmp_path / "lock")
    assert "no flock" in first.notice
    with pytest.raises(RunInUseError, match=rf"held by pid {os.getpid()} on .*rm .*lock-held"):
        FolderLock(tmp_path / "lock")
    first.release()
    FolderLock(tmp_path / "lock").release()
    assert not (tmp_path / "lock-held").exists()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_with_its_key_path(tmp_path, number):
    with pytest.raises(ValueError, match=r"a\.b\[1\]: -?(nan|inf) is not a number JSON knows"):
        json_files.write(tmp_path / "x.json", {"a": {"b": [1, number]}})
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_json_is_refused_with_its_key_path():
    with pytest.raises(TypeError, match=r"a\[0\]: a complex cannot"):
        json_files.dumps({"a": [1j]})
    with pytest.raises(TypeError, match="the key 1 is not text"):
        json_files.dumps({1: 2})


def test_any_file_name_is_written_as_utf_8_and_reads_back_as_text(tmp_path):
    name = os.fsdecode(b"h\xe4nde-\xff-\xc3\xa4.png")
    json_files.write(tmp_path / "x.json", {"path": Path(name), name: "\ud800 é"})
    text = (tmp_path / "x.json").read_bytes().decode("utf-8")
    assert json.loads(text) == {"path": "h\\xe4nde-\\xff-ä.png", "h\\xe4nde-\\xff-ä.png": "\\ud800 é"}


def test_sets_are_sorted_lists_and_moments_are_text():
    moment = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    written = json_files.dumps({"tags": {"b", "a", "c"}, "numbers": frozenset((2, 1)), "at": moment})
    assert written == '{"tags": ["a", "b", "c"], "numbers": [1, 2], "at": "2026-01-02T03:04:00+00:00"}'
    with pytest.raises(ValueError, match=r"a\[1\]: nan is not a number"):
        json_files.dumps({"a": {1.0, math.nan}})


def test_numpy_scalars_are_numbers():
    np = pytest.importorskip("numpy")
    assert json_files.dumps([np.float32(0.5), np.int64(3), True]) == "[0.5, 3, true]"


def test_data_of_others_becomes_json_with_null_for_what_is_none():
    import numpy as np

    value = {"a": [1, float("inf"), object(), {"b": (True, None)}], 3: np.float64("nan"), "\udcff": "x"}
    assert json_files.data(value) == {"a": [1, None, None, {"b": [True, None]}], "3": None, "\\xff": "x"}


def test_data_that_holds_itself_or_unfolds_without_end_is_cut():
    cycle: list[object] = []
    cycle.append(cycle)
    json_files.dumps(json_files.data(cycle))
    laughs: list[object] = ["ha"]
    for _ in range(30):
        laughs = [laughs] * 10
    assert len(json_files.dumps(json_files.data(laughs))) < 2_000_000


def test_json_of_a_run_is_read_within_caps_and_with_typed_errors(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    with pytest.raises(MissingInputError, match="no such file"):
        json_files.read(path)
    for content in ("[" * 100_000, "{", "\udcff".encode("utf-8", "surrogatepass"), "9" * 5000):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(RunFolderError, match="not JSON"):
            json_files.read(path)
    path.write_text('{"loss": NaN}')
    assert json_files.read(path) == {"loss": None}
    monkeypatch.setattr(json_files, "_LARGEST_FILE", 4)
    with pytest.raises(RunFolderError, match="not a file of a run"):
        json_files.read(path)


def test_importing_the_files_of_a_run_does_not_import_torch():
    modules = "sltdino.core.run_dir, sltdino.core.signals, sltdino.core.environment"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_open_file_limit_is_not_eaten_by_writing(tmp_path):
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for _ in range(50):
        files.probe(tmp_path)
        FolderLock(tmp_path / "lock").release()
        JsonLines(tmp_path / "m").close()
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    assert after <= before + 1


def test_a_folder_or_a_device_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (("folder", "a folder"), ("pipe", "a device or pipe")):
        with pytest.raises(CannotCreateError, match=f"is {kind}; name a file"), files.new_file(tmp_path / name):
            pass
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]


def test_a_file_is_no_folder_to_probe(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CannotCreateError, match="Not a directory"):
        files.probe(tmp_path / "file")
