"""Completion, driven as the shells drive it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sltdino.cli import completion


def complete(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """What bash is offered for the last word."""
    from sltdino.cli import app

    monkeypatch.setenv("COMP_WORDS", "\n".join(("sltdino", *words)))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    monkeypatch.setenv("_SLTDINO_COMPLETE", "complete_bash")
    monkeypatch.setenv("COLUMNS", "80")
    assert app.main([]) == 0
    return capsys.readouterr().out.split()


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with two runs, a settings file, and names that a shell would run or split."""
    monkeypatch.chdir(tmp_path)
    for name in ("runs/a", "runs/deep/b", "runs/$(touch owned)", "runs/with space", "plain", "settings"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("runs/a/params.json", "runs/$(touch owned)/params.json", "runs/with space/params.json",
                 "runs/deep/b/checkpoint_last.pt", "settings/x.toml", "settings/y.json", "settings/z.txt"):  # fmt: skip
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["pre"], ["pretrain"]),
        (["pretrain", ""], ["hands", "face"]),
        (["pretrain", "hands", "--algorithm", ""], ["dino", "ibot", "dinov2"]),
        (["pretrain", "hands", "--algorithm", "=", "i"], ["ibot"]),
        (["pretrain", "hands", "--vit-dep"], ["--vit-depth"]),
        (["pretrain", "hands", "--train-dir", "pl"], []),  # the shell's own file names
        (["pretrain", "hands", "--config", ""], ["settings/x.toml", "settings/y.json"]),
        (["pretrain", "hands", "--set", "alg"], ["algorithm=dino", "algorithm=ibot", "algorithm=dinov2"]),
        (["pretrain", "hands", "--set", "dataset.batch"], ["dataset.batch_size=32"]),
        (["pretrain", "hands", "--resume", ""], ["auto", "must", "runs/a", "runs/deep/b"]),
        (["pretrain", "hands", "--init-from", ""], ["none", "starter", "runs/a", "runs/deep/b"]),
        (["inspect", ""], ["starter", "runs/a", "runs/deep/b"]),
        (["evaluate", "st"], ["starter"]),
        (["embed", "runs/d"], ["runs/deep/b"]),
        (["inspect", "runs/d"], ["runs/deep/b"]),
        (["resume", "runs/a", "--allow-change", "seed,learning"], ["seed,learning_rate"]),
        (["export", "runs/deep/b/"], ["runs/deep/b/checkpoint_last.pt"]),
        (["export", "runs/a", "--which", ""], ["last", "best"]),
        (["demo-data", "f"], ["face"]),
    ],
)
def test_what_is_offered(
    words: list[str],
    offered: list[str],
    work: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert complete(monkeypatch, capsys, *words) == offered


def test_the_formats_offered_are_those_of_the_table() -> None:
    from sltdino.exporting.formats import FORMATS

    assert completion.formats("") == list(FORMATS)


def test_every_assignment_offered_is_valid() -> None:
    from sltdino import load_settings
    from sltdino.core.settings_schema import BY_KEY

    for item in completion.assignments(""):
        key, _, value = item.partition("=")
        if value:
            leaf = BY_KEY[key]
            assert load_settings(sets=["train_dir=x", item]).origins[leaf.key] == f"--set {key}"


def test_the_look_for_runs_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(400):
        (tmp_path / f"{number:03}" / "run").mkdir(parents=True)
        (tmp_path / f"{number:03}" / "run" / "params.json").touch()
    seen = completion.runs("")
    assert len(seen) == 50
    assert seen == sorted(seen)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_description_is_one_line_for_zsh_and_fish(shell: str) -> None:
    asked = {"_TYPER_COMPLETE_ARGS": "sltdino pretrain hands --", "_SLTDINO_COMPLETE": f"complete_{shell}"}
    code = """
import sys
from sltdino.cli.app import main
code = main([])
assert not {"torch", "numpy", "PIL"} & set(sys.modules)
sys.exit(code)
"""
    environment = {**os.environ, **asked, "_TYPER_COMPLETE_FISH_ACTION": "get-args", "COLUMNS": "40"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.replace("_arguments '*: :((", "").strip().splitlines()
    assert len(lines) > 50
    assert [line for line in lines if not line.lstrip('"').startswith("--")] == []
