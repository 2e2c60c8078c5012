"""What a run ran on, as far as it can change the numbers or help to reproduce them."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from sltdino.core.machine import usable_cores

_PACKAGE = Path(__file__).resolve().parent.parent


def environment() -> dict[str, str | int]:
    """Versions and machine, for params.json and checkpoints. No host, user or folder names: runs are shared."""
    import torch

    return {
        "sltdino": version("sltdino"),
        "git_revision": git_revision(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": version("numpy"),
        "pillow": version("pillow"),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count() or 0,
        "cpu_affinity": usable_cores(),
        "torch_threads": torch.get_num_threads(),
        "cuda": str(torch.version.cuda or ""),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
    }


def version(distribution: str) -> str:
    """The installed version; empty when it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def git_revision(folder: Path = _PACKAGE.parent) -> str:
    """Commit of a working copy, with `-dirty` when files differ from it; empty when `folder` is none or without git."""
    if not (folder / ".git").exists():  # an installed package lies in a folder whose repository is another project
        return ""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, env=clean, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
