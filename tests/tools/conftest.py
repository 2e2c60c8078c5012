"""The old scripts, in this process or as users start them, and what a run folder of theirs must hold."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

import pydantic
import pytest

import sltdino

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))  # as for a script that is started there: those of a study import each other by name


@pytest.fixture
def tools() -> Path:
    """The folder of the scripts."""
    return TOOLS


@pytest.fixture(scope="session")
def shared_module() -> ModuleType:
    """`tools/_pretrain_dino.py`, which both scripts call."""
    spec = importlib.util.spec_from_file_location("_pretrain_dino", TOOLS / "_pretrain_dino.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Settings of every run that would have started."""
    started: list[Any] = []

    def record(settings: Any, **_: Any) -> SimpleNamespace:
        started.append(settings)
        return SimpleNamespace(run_dir=Path("run"))

    fake = SimpleNamespace(pretrain=record)
    progress = SimpleNamespace(reporter_for_terminal=lambda **_: SimpleNamespace(close=lambda: None))
    monkeypatch.setitem(sys.modules, "sltdino.pretraining", fake)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "sltdino.pretraining.progress", progress)  # type: ignore[arg-type]
    monkeypatch.setattr(sltdino, "pretraining", fake, raising=False)
    return started


@pytest.fixture
def not_installed() -> dict[str, str]:
    """An environment for `python -S` in which all packages are found but ours, which an editable install hides in a
    .pth file."""
    packages = Path(pydantic.__file__).parents[1]
    if (packages / "sltdino").exists():
        pytest.skip("sltdino lies among the other packages, so it cannot be hidden")
    return {**os.environ, "PYTHONPATH": str(packages)}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's, the current one, where `tools` leads to the scripts and `sltdino` is nowhere."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "tools").symlink_to(TOOLS)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def typed(elsewhere: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Start a command line exactly as it is written in a guide, in the user's folder, where `python` is this one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}

    def typed(command: str, **more: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["sh", "-c", f"exec {command}"], cwd=elsewhere, env={**environment, **more}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    return typed


def strict_json(text: str) -> Any:
    def refuse(token: str) -> NoReturn:
        raise AssertionError(f"{token} is not strict JSON")

    return json.loads(text, parse_constant=refuse)


PARAMS = {
    "algorithm", "stream", "train_dirs", "output_dir", "epochs", "seed", "optimizer", "teacher_momentum", "dataset",
    "augmentation", "backbone", "checkpointing", "timestamp",
}  # fmt: skip
PARTS = {
    "optimizer": {"learning_rate", "weight_decay", "warmup_epochs"},
    "teacher_momentum": {"base", "final"},
    "dataset": {"batch_size", "num_workers", "shuffle", "pin_memory", "persistent_workers"},
    "augmentation": {
        "image_size", "global_crop_scale", "local_crop_size", "local_crop_scale", "num_global_crops",
        "num_local_crops", "brightness", "contrast", "saturation", "hue", "color_jitter_prob", "grayscale_prob",
        "gaussian_blur_prob", "solarize_prob", "hflip_prob", "mean", "std",
    },
    "backbone": {"image_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio"},
    "checkpointing": {"best", "last", "history_file"},
}  # fmt: skip
RECORDS = {"train_step": {"loss", "epoch"}, "train_epoch": {"loss", "epoch"}, "train_best": {"loss", "epoch"}}


def check_run_folder(run: Path, *, finished: bool = True) -> dict[str, Any]:
    params = strict_json((run / "params.json").read_text("utf-8"))
    assert params.keys() >= PARAMS
    for part, keys in PARTS.items():
        assert params[part].keys() >= keys, part
    assert params["timestamp"].endswith("+00:00")

    lines = (run / params["checkpointing"]["history_file"]).read_text("utf-8").splitlines()
    records = [strict_json(line) for line in lines]
    assert all(record.keys() >= {"step", "timestamp", "context"} for record in records)
    by_context = {record["context"]: record for record in records}
    for context in RECORDS if finished else ():
        assert by_context[context].keys() >= RECORDS[context], context

    artifacts = strict_json((run / "artifacts.json").read_text("utf-8"))
    assert all(entry.keys() == {"name", "path", "timestamp", "metadata"} for entry in artifacts)
    by_name = {entry["name"]: entry for entry in artifacts}
    assert len(by_name) == len(artifacts)
    for name in ("last", "best") if finished else ("last",):
        entry = by_name[f"checkpoint_{name}"]
        assert entry["metadata"].keys() >= {"epoch", "loss"}
        assert Path(entry["path"]).name == params["checkpointing"][name]
        assert Path(entry["path"]).is_file()
    return {"params": params, "records": records, "artifacts": by_name}


@pytest.fixture(name="check_run_folder")
def _check_run_folder() -> Callable[..., dict[str, Any]]:
    """`check_run_folder(run)` holds a run folder against the contract, and returns what its files say."""
    return check_run_folder
