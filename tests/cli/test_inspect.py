"""What `sltdino inspect` takes, prints and ends with."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sltdino.core.lock import FolderLock
from sltdino.core.run_files import LOCK

SLTDINO = [sys.executable, "-m", "sltdino"]


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "CI", "TERM", "PYTHONUTF8")}
    return kept | {"PYTHONIOENCODING": "utf-8", **more}


@pytest.fixture
def live(finished: Path) -> Any:
    """A run that goes on, as its lock and its status say."""
    status = json.loads((finished / "status.json").read_text())
    (finished / "status.json").write_text(json.dumps(status | {"state": "running"}))
    lock = FolderLock(finished / LOCK)
    yield finished
    lock.release()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["a", "b", "--follow"], "--follow: shows one run, and 2 are named; name one"),
        (["a", "--follow", "--json"], "--follow: does not go with --json"),
        (["a", "--follow", "--md"], "--follow: does not go with --md"),
        (["a", "--every", "3"], "--every: is for --follow"),
        (["a", "--md", "--json"], "--md: does not go with --json"),
        (["a", "--follow", "--every", "0"], "--every: input should be greater than or equal to 0.2"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(run: Any, options: list[str], said: str) -> None:
    result = run("inspect", *options)
    assert result.code == 2
    assert result.err[0].startswith(f"error: {said}")


@pytest.mark.parametrize("options", [["--follow"], ["--md"]])
def test_what_only_runs_have_is_not_asked_of_weights(run: Any, finished_once: Path, options: list[str]) -> None:
    file = finished_once / "checkpoint_last.pt"
    result = run("inspect", str(file), *options)
    assert result.code == 2
    assert f"{file}: {options[0]} can only be runs, and this is none" in result.err[0]
    assert run("inspect", str(file), str(finished_once), str(finished_once)).code == 2


def test_any_number_of_runs_is_set_side_by_side(run: Any, finished_once: Path) -> None:
    result = run("inspect", *[str(finished_once)] * 3)
    assert result.code == 0
    assert result.out.startswith(f"A  {finished_once}\n")
    assert json.loads(run("inspect", *[str(finished_once)] * 3, "--json").out)["results"]["step"] == [6, 6, 6]
    assert run("inspect", *[str(finished_once)] * 2, "--md").out.startswith("**Results**\n\n| run | state |")


def test_a_wrong_folder_among_several_is_named(run: Any, finished_once: Path, tmp_path: Path) -> None:
    result = run("inspect", str(finished_once), str(tmp_path / "x"), str(tmp_path / "y"))
    assert result.code == 66
    assert [str(tmp_path / name) in line for name, line in zip("xy", result.err, strict=True)] == [True, True]


def test_a_page_is_ascii_where_the_stream_is_and_never_coloured(finished: Path) -> None:
    arguments = [*SLTDINO, "inspect", str(finished)]
    ascii_page = subprocess.run(arguments, env=environment(PYTHONIOENCODING="ascii"), capture_output=True, check=True)
    assert ascii_page.stdout.isascii()
    assert b"\\u" not in ascii_page.stdout
    assert b"####" in ascii_page.stdout
    page = subprocess.run(arguments, env=environment(FORCE_COLOR="1", TERM="xterm"), capture_output=True, check=True)
    assert b"\x1b" not in page.stdout
    assert "████" in page.stdout.decode()


def test_looking_at_a_run_needs_no_torch(finished_once: Path) -> None:
    code = "import sys; from sltdino.cli.app import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, "inspect", str(finished_once)], check=True, capture_output=True)


def test_following_a_run_that_has_ended_says_so_and_ends_as_it_did(run: Any, finished: Path) -> None:
    result = run("inspect", str(finished), "--follow")
    assert result.code == 0
    assert [line.partition(":")[0] for line in result.out.splitlines()] == [f"following {finished}", "done", "verdict"]
    status = json.loads((finished / "status.json").read_text())
    (finished / "status.json").write_text(json.dumps(status | {"state": "stopped", "exit_code": 130}))
    result = run("inspect", str(finished), "--follow")
    assert (result.code, result.err) == (130, [])


def test_ctrl_c_ends_following_at_once_and_in_silence(live: Path) -> None:
    command = [*SLTDINO, "inspect", str(live), "--follow", "--every", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"following ")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, b"")


def test_on_a_terminal_the_page_is_drawn_again_in_its_place(live: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*SLTDINO, "inspect", str(live), "--follow", "--every", "0.2"]
    env = environment(TERM="xterm", LINES="24", COLUMNS="80")
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        drawn = b""
        while drawn.count(b"verdict") < 3:
            drawn += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # the terminal is gone
            while more := os.read(ours, 65536):
                drawn += more
    os.close(ours)
    assert process.returncode == 130
    assert b"\x1b[1A" in drawn  # up again
    assert drawn.rfind(b"\x1b[?25h") > drawn.rfind(b"\x1b[?25l")  # and the cursor is there
    assert b"Traceback" not in drawn
