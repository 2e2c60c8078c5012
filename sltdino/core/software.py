"""Facts about the software: versions, how torch was built and what it finds, image codecs, optional extras."""

import importlib.metadata
import platform
import re
import subprocess
import warnings
from typing import Any

from sltdino.core.environment import git_revision, version
from sltdino.core.machine import Facts, anonymous

_DISTRIBUTION = "sltdino"
_CODECS = {"jpg": "jpeg", "zlib": "png", "libtiff": "tiff_compressed"}
"""Pillow's name of a codec, and what it is for."""


def versions() -> Facts:
    """Installed versions of this package and of what it computes with; None for what is absent."""
    names = ("sltdino", "torch", "numpy", "pillow", "pydantic", "typer", "rich")
    found = {name: version(name) or None for name in names}
    return {
        "python": platform.python_version(),
        **found,
        "git_revision": git_revision() or None,
        "missing": missing_requirements() if found["sltdino"] else [],
    }


def missing_requirements(extra: str = "") -> list[str]:
    """Requirements of the package, or of one of its extras, that are not installed or older than needed.

    Raises:
        PackageNotFoundError: the package runs from a folder, so nothing says what it requires.
    """
    missing = []
    for text in importlib.metadata.requires(_DISTRIBUTION) or ():
        requirement, _, marker = text.partition(";")
        name = re.split(r"[^\w.-]", requirement.strip())[0]
        least = re.search(r">=\s*([\d.]+)", requirement)
        wanted_by = re.search(r"extra\s*==\s*['\"]([\w-]+)", marker)
        if (wanted_by[1] if wanted_by else "") != extra:
            continue
        installed = version(name)
        if not installed:
            missing.append(name)
        elif least and _numbers(installed) < _numbers(least[1]):
            missing.append(f"{name} {installed} (older than {least[1]})")
    return missing


def extras() -> Facts:
    """For each extra of the package's metadata, `present`, or what is missing and the line that installs it."""
    names = importlib.metadata.metadata(_DISTRIBUTION).get_all("Provides-Extra") or ()
    found = {}
    for name in sorted(set(names) - {"dev"}):
        missing = ", ".join(missing_requirements(name))
        found[name] = f"missing {missing}: pip install '{_DISTRIBUTION}[{name}]'" if missing else "present"
    return found


def torch_build() -> Facts:
    """What torch was built for, and how many threads it computes with.

    Raises:
        ImportError, OSError: torch is absent, or a library it needs is.
    """
    import torch

    kinds = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip}
    kind = next((f"{name} {number}" for name, number in kinds.items() if number), "CPU")
    backends: Any = torch.backends
    blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    return {
        "version": str(torch.__version__),
        "build": kind,
        "blas": blas[1] if blas else None,
        "mkl": backends.mkl.is_available(),
        "onednn": backends.mkldnn.is_available(),
        "openmp": backends.openmp.is_available(),
        "cpu_capability": backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "cudnn": backends.cudnn.version() if backends.cudnn.is_available() else None,
    }


def devices() -> Facts:
    """GPUs as torch sees them, and as the NVIDIA driver does, whether or not torch can use them."""
    import torch

    with warnings.catch_warnings(record=True) as said:  # why CUDA does not start, when it does not
        warnings.simplefilter("always")
        found = [_gpu(index) for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return {
        "cuda": found,
        "cuda_warning": anonymous("; ".join(str(warning.message).partition("\n")[0] for warning in said)) or None,
        "mps": torch.backends.mps.is_available(),
        "nvidia_smi": nvidia_smi(),
    }


def _gpu(index: int) -> Facts:
    import torch

    properties = torch.cuda.get_device_properties(index)
    architecture = f"sm_{properties.major}{properties.minor}"
    return {
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "architecture": architecture,
        "bf16": torch.version.hip is not None or properties.major >= 8,  # Ampere was the first
        # code for an older chip of the same generation runs; none of this generation means that none runs
        "runs_this_build": torch.version.hip is not None
        or any(
            name.startswith((f"sm_{properties.major}", f"compute_{properties.major}"))
            for name in torch.cuda.get_arch_list()
        ),
    }


def nvidia_smi() -> list[str] | None:
    """One line for each GPU of the driver, `name, memory, driver`; None where there is no driver."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout.strip().splitlines() if done.returncode == 0 else None


def images() -> Facts:
    """Codecs of the installed Pillow.

    Raises:
        ImportError: Pillow is absent or broken.
    """
    from PIL import features

    turbo = features.check("libjpeg_turbo")
    return {
        "jpeg_library": f"libjpeg-turbo {features.version('libjpeg_turbo')}" if turbo else "libjpeg, not turbo",
        "codecs": [purpose for codec, purpose in _CODECS.items() if features.check(codec)],
        "codecs_missing": [purpose for codec, purpose in _CODECS.items() if not features.check(codec)],
    }


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
