"""Where this process stands among the processes of a run."""

import os
from typing import NamedTuple

from sltdino.errors import SettingsError


class World(NamedTuple):
    """One of `size` processes, on one device."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"


def join(device: str) -> World:
    """Take this process's place, on `device` (`auto`: a GPU where there is one).

    Raises:
        SettingsError: the device is not there, or several processes were started (not supported yet).
    """
    import torch

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingsError("WORLD_SIZE is above 1: several processes per run are not supported yet; start one process")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.device(device)
    except RuntimeError as error:
        meant = "write cuda" if device.lower().startswith(("gpu", "nvidia")) else "no such device"
        raise SettingsError(f"--device: {device}: {meant}; usable here: {_usable()}") from error
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise SettingsError(f"--device: {device} cannot be used here ({reason}); usable here: {_usable()}") from error
    return World(device=device)


def _usable() -> str:
    import torch

    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ", ".join(["auto", "cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])])
