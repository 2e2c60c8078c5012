"""Facts about the machine: processor, memory and their limits, shared memory, open files, language, terminal.

Everything is a plain value, None where it cannot be found. Nothing names the host, the user or a folder of theirs.
"""

import getpass
import locale
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

Facts = dict[str, Any]

SHARED_MEMORY = Path("/dev/shm")
MOST_WORKERS = 8
"""Processes or threads started where nobody says how many and there are as many cores."""


class Limits(NamedTuple):
    """What the control groups of Linux (containers, batch systems) allow; None where they set no limit."""

    cores: float | None
    memory_bytes: int | None


def system() -> Facts:
    """Operating system, and whether it is a container."""
    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "container": _container(),
        "python": f"{platform.python_implementation()}, {sys.maxsize.bit_length() + 1} bits",
    }


def processor() -> Facts:
    """Model, cores, and how many of them this process may use."""
    cores = os.cpu_count()
    quota = cgroup_limits().cores
    return {
        "model": _processor_model(),
        "cores": cores,
        "usable_cores": usable_cores(),
        "cgroup_cores": quota,
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
    }


def usable_cores() -> int:
    """Cores that the scheduler lets this process run on; a control group's quota of time is not counted here."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_or_default(number: int | None) -> int:
    """The number that was asked for; without one as many as this process may use cores, at most `MOST_WORKERS`."""
    return min(MOST_WORKERS, usable_cores()) if number is None else number


def memory() -> Facts:
    """Main memory, the control group's limit, and shared memory, through which loader workers hand over batches."""
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = cgroup_limits().memory_bytes
    shared = os.statvfs(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else None
    return {
        "installed_bytes": installed,
        "available_bytes": _available_memory(),
        "cgroup_bytes": limit if limit is not None and limit < installed else None,
        "shared_bytes": None if shared is None else shared.f_blocks * shared.f_frsize,
        "shared_free_bytes": None if shared is None else shared.f_bavail * shared.f_frsize,
    }


def session() -> Facts:
    """Open-files limit, language, terminal."""
    import resource  # not on Windows

    limits = [
        None if limit == resource.RLIM_INFINITY else limit for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    ]
    names = ("LC_ALL", "LC_CTYPE", "LANG", "TERM", "NO_COLOR", "CI")
    return {
        "open_files_limit": limits[0],
        "open_files_hard_limit": limits[1],
        "encoding": locale.getencoding(),
        "file_name_encoding": sys.getfilesystemencoding(),
        "stderr_is_a_terminal": sys.stderr is not None and sys.stderr.isatty(),
        "terminal_size": "x".join(map(str, shutil.get_terminal_size())),
        "environment": ", ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ) or "nothing set",
    }


def cgroup_limits(membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Limits:
    """The tightest limits of this process's control groups and those above them, version 1 or 2."""
    cores: list[float] = []
    memory: list[int] = []
    for folder in _cgroup_folders(membership, root):
        if (quota := _words(folder / "cpu.max")) and quota[0] != "max":
            cores.append(int(quota[0]) / int(quota[1]))
        old_quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
        if old_quota and period and int(old_quota[0]) > 0:
            cores.append(int(old_quota[0]) / int(period[0]))
        for name in ("memory.max", "memory.limit_in_bytes"):
            if (
                (limit := _words(folder / name)) and limit[0] != "max" and int(limit[0]) < 1 << 60
            ):  # 1: no limit is 2^63
                memory.append(int(limit[0]))
    return Limits(min(cores, default=None), min(memory, default=None))


def anonymous(text: str) -> str:
    """Text without the folders, the user and the host of this machine; of a path elsewhere, only its end."""
    known = {os.path.expanduser("~"): "~", sys.prefix: "PREFIX", sys.base_prefix: "PREFIX"}
    for path in sorted((path for path in known if len(path) > 1), key=len, reverse=True):
        text = text.replace(path, known[path])
    for name in (socket.gethostname(), _user()):
        if len(name) > 2:
            text = re.sub(rf"\b{re.escape(name)}\b", "...", text)
    return re.sub(r"(?<![\w.~])/(?:[^\s:'\",;()]+/)+", ".../", text)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""


def _cgroup_folders(membership: Path, root: Path) -> Iterator[Path]:
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        mounts = (
            [root / name for name in (controllers, *controllers.split(","))]
            if controllers
            else [root, root / "unified"]
        )
        for mount in dict.fromkeys(mounts):
            folder = mount / group.lstrip("/")
            # in a container the path may be the host's, of which only the mount itself is visible
            yield from (above for above in (folder, *folder.parents) if above.is_relative_to(mount))


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _container() -> str | None:
    if Path("/.dockerenv").exists():
        return "docker"
    if Path("/run/.containerenv").exists():
        return "podman"
    signs = {
        "APPTAINER_CONTAINER": "apptainer",
        "SINGULARITY_CONTAINER": "singularity",
        "KUBERNETES_SERVICE_HOST": "pod",
    }
    return next((kind for name, kind in signs.items() if name in os.environ), None)


def _processor_model() -> str | None:
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string")
    for line in _lines("/proc/cpuinfo"):
        if line.startswith(("model name", "Model", "cpu model")):
            return line.partition(":")[2].strip()
    return platform.processor() or None


def _available_memory() -> int | None:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return []


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
