"""A stand-in for training: the command line is tested up to the call of the use case."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import sltdino
from sltdino.cli import app

Calls = list[tuple[tuple[Any, ...], dict[str, Any]]]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Arguments of every call of `sltdino.pretraining.pretrain` and `resume`."""
    calls: Calls = []

    def record(*args: Any, reporter: Any, **kwargs: Any) -> SimpleNamespace:
        calls.append((args, kwargs))
        return SimpleNamespace(run_dir=Path("work_dirs/run"))

    fake = SimpleNamespace(pretrain=record, resume=record)
    progress = SimpleNamespace(reporter_for_terminal=lambda **_: SimpleNamespace(close=lambda: None))
    monkeypatch.setitem(sys.modules, "sltdino.pretraining", fake)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "sltdino.pretraining.progress", progress)  # type: ignore[arg-type]
    monkeypatch.setattr(sltdino, "pretraining", fake, raising=False)
    return calls


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., SimpleNamespace]:
    """Run the command line in this process: exit code, stdout and the lines of stderr."""

    def run(*argv: str) -> SimpleNamespace:
        code = app.main(argv)
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err.splitlines())

    return run
