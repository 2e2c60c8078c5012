"""Facts about the software."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sltdino.core import software


def requires(monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], *lines: str) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: list(lines))
    monkeypatch.setattr(software, "version", lambda name: installed.get(name, ""))


def test_what_is_absent_or_older_than_needed_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    requires(
        monkeypatch, {"numpy": "2.1", "torch": "2.10.0+cpu", "typer": "0.9.1"}, "numpy", "torch>=2.6", "typer>=0.20",
        "tomli-w", "onnx; extra == 'onnx'", "transformers>=4.56 ; extra == \"hf\"",
    )  # fmt: skip
    assert software.missing_requirements() == ["typer 0.9.1 (older than 0.20)", "tomli-w"]
    assert software.missing_requirements("hf") == ["transformers"]


def test_a_missing_extra_comes_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Metadata:
        def get_all(self, _: str) -> list[str]:
            return ["dev", "hf", "onnx"]

    monkeypatch.setattr(importlib.metadata, "metadata", lambda _: Metadata())
    requires(monkeypatch, {"onnx": "1.0"}, "onnx; extra == 'onnx'", "transformers>=4.56; extra == 'hf'")
    assert software.extras() == {"hf": "missing transformers: pip install 'sltdino[hf]'", "onnx": "present"}


def test_the_extras_are_those_of_the_project() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(software.extras()) == set(project["optional-dependencies"]) - {"dev"}


def test_nothing_that_the_project_requires_is_missing_here() -> None:
    assert software.missing_requirements() == []


def test_torch_is_as_it_says_itself() -> None:
    facts = software.torch_build()
    assert (facts["version"], facts["threads"]) == (torch.__version__, torch.get_num_threads())
    assert facts["build"].startswith("CUDA") == (torch.version.cuda is not None)
    assert bool(software.devices()["cuda"]) == torch.cuda.is_available()
    assert json.dumps(facts, allow_nan=False)


def test_a_driver_is_asked_and_its_absence_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert software.nvidia_smi() is None
    program: Any = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA X, 80 MiB, 1.2'\n")
    program.chmod(0o755)
    assert software.nvidia_smi() == ["NVIDIA X, 80 MiB, 1.2"]
