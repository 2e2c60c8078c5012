"""Standard streams that are closed, full or gone, and terminals."""

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FULL = Path("/dev/full")
SLTDINO = [sys.executable, "-W", "error", "-m", "sltdino"]


def test_a_reader_that_has_gone_ends_the_program_without_a_word() -> None:
    process = subprocess.Popen(
        [*SLTDINO, "pretrain", "hands", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.communicate()[1] == b""
    assert process.returncode == 141


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_full_standard_output_is_an_io_error() -> None:
    with FULL.open("w") as full:
        done = subprocess.run([*SLTDINO, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 74
    [line] = done.stderr.splitlines()
    assert line.startswith("error [E-STORAGE] standard output: writing failed (")


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_an_error_that_cannot_be_told_still_has_its_exit_code() -> None:
    with FULL.open("w") as full:
        done = subprocess.run([*SLTDINO, "resume"], stdout=subprocess.PIPE, stderr=full, check=False)
    assert (done.returncode, done.stdout) == (2, b"")


def test_with_all_streams_closed_no_file_becomes_standard_error() -> None:
    code = """
import os, sys
from sltdino.cli.app import main
code = main(["resume"])
opened = os.open(os.devnull, os.O_RDONLY)
sys.exit(code if opened > 2 else 99)
"""
    command = f"{sys.executable} -c '{code}' <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 2


def test_in_a_folder_that_was_removed_the_program_says_so(tmp_path: Path) -> None:
    script = f"mkdir gone && cd gone && rmdir ../gone && {sys.executable} -m sltdino doctor"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 66
    assert done.stderr.splitlines()[-1].startswith("error [E-MISSING] the current folder was removed")


@pytest.mark.parametrize(
    ("environment", "painted"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "FORCE_COLOR": "1"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm", "CI": "true"}, False),
        ({"TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_a_bar_is_drawn_on_a_terminal_that_may_be_painted_on(environment: dict[str, str], painted: bool) -> None:
    from sltdino.pretraining.progress import takes_a_bar

    ours, theirs = pty.openpty()
    with os.fdopen(ours, "w"), os.fdopen(theirs, "w") as terminal:
        assert takes_a_bar(terminal, environment) is painted


def test_a_pipe_never_gets_a_bar(tmp_path: Path) -> None:
    from sltdino.pretraining.progress import takes_a_bar

    with (tmp_path / "log").open("w") as log:
        assert not takes_a_bar(log, {"TERM": "xterm", "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"})
    assert not takes_a_bar(None, {"TERM": "xterm"})


def test_importing_the_library_says_and_sets_nothing() -> None:
    code = """
import logging, os, signal, sys, warnings
before = dict(os.environ), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), list(warnings.filters)
import sltdino
from sltdino import errors
from sltdino.cli import app
assert not {"torch", "numpy", "PIL"} & set(sys.modules)
assert logging.root.handlers == [] and logging.root.level == logging.WARNING
assert before[:3] == (dict(os.environ), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
assert before[3] == warnings.filters
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_python_dash_m_is_the_program() -> None:
    done = subprocess.run([*SLTDINO, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("sltdino ")


def test_a_line_break_in_a_name_makes_no_line(run: Any) -> None:
    result = run("inspect", "run\nerror [E-BUG] forged")
    assert result.code == 66
    [line] = result.err
    assert line.startswith("error [E-MISSING] run\\nerror")
