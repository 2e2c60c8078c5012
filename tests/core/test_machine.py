"""Facts about the machine."""

import getpass
import json
import os
import socket
import sys
from pathlib import Path

import pytest

from sltdino.core import machine
from sltdino.core.machine import Limits, anonymous, cgroup_limits


def limits(tmp_path: Path, membership: str, files: dict[str, str]) -> Limits:
    (tmp_path / "membership").write_text(membership)
    for name, content in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(content)
    return cgroup_limits(tmp_path / "membership", tmp_path / "root")


@pytest.mark.parametrize(
    ("membership", "files", "found"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000\n", "a/memory.max": "1073741824\n"}, Limits(1.5, 1 << 30)),
        ("0::/a/b\n", {"a/b/memory.max": "9000\n", "a/memory.max": "8000\n"}, Limits(None, 8000)),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/b/memory.max": "max\n"}, Limits(None, None)),
        ("0::/../host/path\n", {"cpu.max": "200000 100000"}, Limits(2.0, None)),  # a container sees its own as the root
        (
            "4:memory:/job\n3:cpu,cpuacct:/job\n0::/\n",
            {"memory/job/memory.limit_in_bytes": "4096", "cpu,cpuacct/job/cpu.cfs_quota_us": "50000",
             "cpu,cpuacct/job/cpu.cfs_period_us": "100000"},
            Limits(0.5, 4096),
        ),
        (
            "4:memory:/\n3:cpu:/\n",
            {"memory/memory.limit_in_bytes": "9223372036854771712", "cpu/cpu.cfs_quota_us": "-1",
             "cpu/cpu.cfs_period_us": "100000"},
            Limits(None, None),
        ),
        ("", {}, Limits(None, None)),
    ],
)  # fmt: skip
def test_the_tightest_limit_of_the_groups_above_counts(
    membership: str, files: dict[str, str], found: Limits, tmp_path: Path
) -> None:
    assert limits(tmp_path, membership, files) == found


def test_without_control_groups_there_are_no_limits(tmp_path: Path) -> None:
    assert cgroup_limits(tmp_path / "none", tmp_path) == Limits(None, None)


@pytest.mark.skipif(sys.platform != "linux", reason="compared with /proc")
def test_cores_and_memory_are_those_of_the_kernel() -> None:
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert machine.memory()["installed_bytes"] == int(total.split()[1]) * 1024
    assert machine.processor()["usable_cores"] == len(os.sched_getaffinity(0))


def test_the_facts_are_plain_values() -> None:
    facts = [machine.system(), machine.processor(), machine.memory(), machine.session()]
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_no_name_and_no_folder_is_left_in_anonymous_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setattr(socket, "gethostname", lambda: "lab-7")
    monkeypatch.setattr(getpass, "getuser", lambda: "someone")
    text = "/home/someone/x.so: no such file on lab-7 (asked by someone: '/data/private/y.so')"
    assert anonymous(text) == "~/x.so: no such file on ... (asked by ...: '.../y.so')"
