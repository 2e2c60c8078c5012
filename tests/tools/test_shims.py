"""`tools/pretrain_dino_face.py` and `_hands.py`, in this process and once as users run them."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sltdino.core.settings_schema import LEAVES


def test_the_old_list_spelling_and_prefixes_work(shared_module: ModuleType, trained: list[Any]) -> None:
    shared_module.run(["--train", "a", "b", "--epoch", "3"], default_stream="hand")
    [settings] = trained
    assert (settings.train_dir, settings.epochs) == ((Path("a"), Path("b")), 3)
    assert (settings.stream, settings.augmentation.hflip_prob) == ("hand", 0.0)


def test_a_mistake_exits_with_2(
    shared_module: ModuleType, trained: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        shared_module.run(["--out", "x"], default_stream="face")
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: --out: could be ")
    assert trained == []


def test_an_unknown_stream_is_a_programming_error(shared_module: ModuleType) -> None:
    with pytest.raises(ValueError, match="face, hand, hands"):
        shared_module.run([], default_stream="torso")


@pytest.mark.parametrize(("script", "stream"), [("face", "face"), ("hands", "hand")])
def test_a_script_runs_from_any_folder_uninstalled_and_offers_every_flag(
    script: str, stream: str, tools: Path, not_installed: dict[str, str], tmp_path: Path
) -> None:
    result = subprocess.run(
        [sys.executable, "-S", tools / f"pretrain_dino_{script}.py", "--help"],
        cwd=tmp_path,
        env=not_installed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    shown = result.stdout.split()
    assert [leaf.flag for leaf in LEAVES if leaf.flag not in shown] == []
    assert f"[default: {stream}]" in " ".join(shown)
