"""`tools/pretrain_dino_face.py` and `_hands.py`, in this process and once as users run them."""

import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import sltdino
from sltdino.core.settings_schema import LEAVES

TOOLS = Path(__file__).parents[2] / "tools"

SEED_COMMAND = """
  --train-dir data/rois/face \
  --output-dir work_dirs/dino_face \
  --epochs 100 \
  --batch-size 64 \
  --learning-rate 1e-3 \
  --algorithm dino \
  --export-backbone work_dirs/dino_face/backbone.pt
"""


def shared_module() -> ModuleType:
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
    progress = SimpleNamespace(reporter_for_terminal=lambda: SimpleNamespace(close=lambda: None))
    monkeypatch.setitem(sys.modules, "sltdino.pretraining", fake)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "sltdino.pretraining.progress", progress)  # type: ignore[arg-type]
    monkeypatch.setattr(sltdino, "pretraining", fake, raising=False)
    return started


def test_the_command_of_the_seed_document_gives_its_settings(trained: list[Any]) -> None:
    shared_module().run(shlex.split(SEED_COMMAND), default_stream="face")
    [settings] = trained
    assert settings.train_dir == (Path("data/rois/face"),)
    assert settings.output_dir == Path("work_dirs/dino_face")
    assert (settings.epochs, settings.dataset.batch_size, settings.algorithm) == (100, 64, "dino")
    assert settings.optimizer.learning_rate == 1e-3
    assert settings.export_backbone == Path("work_dirs/dino_face/backbone.pt")
    assert settings.stream == "face"


def test_the_old_list_spelling_and_prefixes_work(trained: list[Any]) -> None:
    shared_module().run(["--train", "a", "b", "--epoch", "3"], default_stream="hand")
    [settings] = trained
    assert (settings.train_dir, settings.epochs) == ((Path("a"), Path("b")), 3)
    assert (settings.stream, settings.augmentation.hflip_prob) == ("hand", 0.0)


def test_a_mistake_exits_with_2(trained: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        shared_module().run(["--out", "x"], default_stream="face")
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: --out: could be ")
    assert trained == []


def test_an_unknown_stream_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="face, hand, hands"):
        shared_module().run([], default_stream="torso")


@pytest.mark.parametrize(("script", "stream"), [("face", "face"), ("hands", "hand")])
def test_a_script_runs_from_any_folder_and_offers_every_flag(script: str, stream: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, TOOLS / f"pretrain_dino_{script}.py", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    shown = result.stdout.split()
    assert [leaf.flag for leaf in LEAVES if leaf.flag not in shown] == []
    assert f"[default: {stream}]" in " ".join(shown)
