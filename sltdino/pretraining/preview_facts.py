"""The result of a dry run, and the same as plain values for JSON."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sltdino.core.auto import Plan
from sltdino.core.settings import PretrainSettings
from sltdino.errors import SltDinoError
from sltdino.pretraining.advice import Advice
from sltdino.pretraining.estimates import Memory, OutputFile, Size
from sltdino.pretraining.measured import Load, Speed
from sltdino.pretraining.sample import Sample


class Start(NamedTuple):
    """What the run would begin with."""

    step: int
    """0 for a new run."""
    checkpoint: Path | None
    """What it would go on from."""
    finished: bool
    """It has nothing left to do."""
    changes: tuple[str, ...]
    """Settings that differ from those the run was started with."""
    removes: tuple[Path, ...]
    """Files of an earlier run that would be removed."""
    weights: str = ""
    """Where they come from, or why not from where its preset has them; empty for a random start as it was asked for."""


class Images(NamedTuple):
    """What lies in the training folders."""

    number: int
    fingerprint: str
    labels: tuple[str, ...]
    other_formats: dict[str, int]
    """Files that are not read, by suffix."""
    warnings: tuple[str, ...]
    left_out: str
    """What an exclusion list left out; empty without a list."""


class Machine(NamedTuple):
    """What the run would compute on."""

    device: str
    """Empty where the one that was asked for cannot be used."""
    threads: int
    workers: int
    precision: str
    free_memory: int
    """Bytes, of the device that computes."""
    free_disk: int
    load: Load
    """Before anything was measured."""


class Forecast(NamedTuple):
    """What the run would need."""

    plan: Plan
    ema_horizon: float
    """Steps that the teacher averages over at the start; infinite for a momentum of 1."""
    size: Size
    memory: Memory
    needed_memory: int
    """Bytes, to be compared with the machine's free ones."""
    files: tuple[OutputFile, ...]
    disk_bytes: int
    speed: Speed | None
    """None where nothing could be measured."""
    training_seconds: float | None
    """From the start to the end; saving is not counted."""
    evaluation_seconds: float | None


class DryRun(NamedTuple):
    """What a run would do. Where an error stands in the way of the rest, the rest is None."""

    settings: PretrainSettings
    """Settled, as far as the images could be counted."""
    origins: dict[str, str]
    """Where each value that is no default came from, by dotted key."""
    output_dir: Path
    start: Start
    machine: Machine
    images: Images | None
    sample: Sample | None
    evaluation: str
    """When the features would be judged, and on what; empty where that is not known."""
    forecast: Forecast | None
    advice: tuple[Advice, ...]
    errors: tuple[SltDinoError, ...]
    """Everything a real run would be refused for, what it would meet first first."""


def facts(result: DryRun) -> dict[str, Any]:
    """The whole result as JSON knows it: a horizon without end is null."""
    settings = result.settings.model_dump(mode="json")
    plain: dict[str, Any] = _plain(result._asdict() | {"settings": settings, "errors": ()})
    if result.forecast is not None:
        memory = result.forecast.memory
        plain["forecast"]["memory"] |= {"host": memory.host, "device": memory.device}
    errors = [{"code": error.code, "exit_code": error.exit_code, "message": str(error)} for error in result.errors]
    return plain | {"errors": errors}


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
