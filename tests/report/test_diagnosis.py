"""What the doctor finds, and that it survives what it finds."""

import copy
import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from sltdino.errors import StorageError
from sltdino.report.diagnosis import TITLE, Diagnosis, as_json, diagnose, look, render
from sltdino.report.remedies import find_problems, shared_memory_needed

GIB = 2**30
NEEDED = ("torch", "images", "output_folder")  # without which nothing trains
HEALTHY: dict[str, dict[str, Any]] = {
    "versions": {"missing": []},
    "torch": {"build": "CUDA 12.8", "threads": 1},
    "devices": {
        "cuda": [{"name": "X", "architecture": "sm_90", "runs_this_build": True}],
        "cuda_warning": None,
        "nvidia_smi": ["X, 80 GiB, 550"],
    },
    "processor": {"usable_cores": 8, "cgroup_cores": None},
    "memory": {"installed_bytes": 64 * GIB, "cgroup_bytes": None, "shared_free_bytes": 32 * GIB},
    "images": {"jpeg_library": "libjpeg-turbo 3.2", "codecs_missing": []},
    "output_folder": {"free_bytes": 90 * GIB, "flock": True, "hard_links": True, "written_bytes_per_second": GIB},
    "system": {"platform": "Linux-6"},
    "session": {"open_files_limit": 1024, "encoding": "UTF-8"},
}

OLD_GPU = {"name": "P", "architecture": "sm_60", "runs_this_build": False}


def changed(section: str, **facts: Any) -> dict[str, dict[str, Any]]:
    sections = copy.deepcopy(HEALTHY)
    sections[section] = facts if "not_found" in facts else sections[section] | facts
    return sections


def test_a_healthy_machine_has_no_problems() -> None:
    assert find_problems(HEALTHY) == []


@pytest.mark.parametrize(
    ("section", "facts", "what", "what_to_do", "exit_code"),
    [
        ("torch", {"build": "CPU"}, "built without CUDA", "pytorch.org", 0),
        ("devices", {"cuda": [], "cuda_warning": "driver too old"}, "finds no GPU.*driver too old", "update", 0),
        ("devices", {"cuda": [OLD_GPU]}, "no code for P", "build", 0),
        ("torch", {"not_found": "OSError: libcudart.so"}, "torch does not work .*libcudart", "pip install", 71),
        ("torch", {"not_found": "no answer in 120 s"}, "torch: no answer in 120 s", "try again", 71),
        ("images", {"not_found": "ImportError"}, "pillow does not work", "pip install", 71),
        ("versions", {"missing": ["tomli-w"]}, "tomli-w", "pip install --upgrade tomli-w", 71),
        ("processor", {"usable_cores": 1}, "one core", "--num-workers 0", 0),
        ("processor", {"cgroup_cores": 2.5}, "2.5 cores and 8 are seen", "OMP_NUM_THREADS=2", 0),
        ("torch", {"threads": 64}, "64 threads on 8", "OMP_NUM_THREADS=8", 0),
        ("memory", {"cgroup_bytes": GIB}, "1.0 GiB of memory", "--batch-size", 0),
        ("memory", {"shared_free_bytes": 64 * 2**20}, "/dev/shm has 64 MiB free", "--shm-size", 0),
        ("images", {"jpeg_library": "libjpeg, not turbo"}, "without libjpeg-turbo", "pillow", 0),
        ("images", {"codecs_missing": ["jpeg"]}, "cannot read jpeg", "pillow", 0),
        ("output_folder", {"not_found": "full", "exit_code": 74}, "output folder: full", "--output-dir", 74),
        ("output_folder", {"not_found": "no answer in 10 s"}, "no answer", "--output-dir", 74),
        ("output_folder", {"free_bytes": GIB}, "1.0 GiB left", "free", 0),
        ("output_folder", {"flock": False}, "no flock", "local disk", 0),
        ("output_folder", {"hard_links": False}, "no hard links", "local disk", 0),
        ("output_folder", {"written_bytes_per_second": 1000}, "takes only", "local disk", 0),
        ("session", {"open_files_limit": 256}, "256 open files", "ulimit", 0),
        ("session", {"encoding": "ANSI_X3.4-1968"}, "ANSI_X3.4-1968", "C.UTF-8", 0),
        ("system", {"platform": "Windows-11"}, "Windows", "WSL", 2),
    ],
)  # fmt: skip
def test_each_problem_comes_with_what_to_do(
    section: str, facts: dict[str, Any], what: str, what_to_do: str, exit_code: int
) -> None:
    [problem] = find_problems(changed(section, **facts))
    assert re.search(what, problem.what)
    assert what_to_do in problem.what_to_do
    assert problem.exit_code == exit_code


def test_shared_memory_is_what_the_loader_would_ask_for() -> None:
    crops = 2 * 224**2 + 4 * 96**2  # the default crops of 20,000 images, in pixels of three float32
    assert shared_memory_needed(8) == (2 * 8 + 1) * 32 * crops * 12


@pytest.mark.parametrize("section", HEALTHY)
def test_a_section_that_was_not_found_counts_only_where_one_cannot_train_without_it(section: str) -> None:
    found = find_problems(changed(section, not_found="gone"))
    assert [problem.exit_code != 0 for problem in found] == ([True] if section in NEEDED else [])


def test_what_fails_or_hangs_is_part_of_the_findings() -> None:
    def broken() -> dict[str, Any]:
        raise SystemExit("no\nmore")

    def full() -> dict[str, Any]:
        raise StorageError("the disk is full")

    def hangs() -> dict[str, Any]:
        threading.Event().wait(5)
        return {}

    assert look(broken) == {"not_found": "SystemExit: no"}
    assert look(full) == {"not_found": "the disk is full", "exit_code": 74}
    assert look(hangs, seconds=0.05) == {"not_found": "no answer in 0.05 s"}


def test_problems_come_first_and_the_worst_of_them_first(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = diagnose(tmp_path / "file")
    assert (found.exit_code, found.problems[0].exit_code) == (73, 73)
    lines = render(found).splitlines()
    assert lines[:2] == [f"problem: {found.problems[0].what}", f"  -> {found.problems[0].what_to_do}"]
    assert lines.index(TITLE) == 2 * len(found.problems) + 1


def test_the_report_is_plain_and_names_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "someones-study"
    monkeypatch.setenv("HOME", str(secret))
    found = diagnose(secret / "runs")
    text = render(found) + json.dumps(as_json(found), allow_nan=False)
    assert "someones-study" not in text
    assert str(tmp_path) not in text
    assert text.isascii()


def test_a_file_name_cannot_paint_the_terminal() -> None:
    found = Diagnosis([], {"devices": {"nvidia_smi": ["\x1b[31mX"]}})
    assert "\\x1b[31mX" in render(found)
