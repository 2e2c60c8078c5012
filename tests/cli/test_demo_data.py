"""`sltdino demo-data`: what it prints, and where."""

import json
from pathlib import Path
from typing import Any

import pytest


def test_the_report_is_one_line_or_json_and_a_pipe_sees_no_progress(run: Any, tmp_path: Path) -> None:
    plain = run("demo-data", "hands", str(tmp_path / "plain"), "--count", "12")
    as_json = run("demo-data", "hands", str(tmp_path / "json"), "--count", "12", "--json")
    assert (plain.code, as_json.code) == (0, 0)
    for name, result in (("plain", plain), ("json", as_json)):
        folder = tmp_path / name
        assert result.err == [f"next: sltdino pretrain hands --train-dir {folder}/train --val-dir {folder}/val"]
    assert plain.out.startswith("12 images of 3 labels in ")
    report = json.loads(as_json.out)
    assert report["folder"] == str(tmp_path / "json")
    assert report["images"] == sum(report["labels"].values()) == 12
    assert report["signers"] == {"train": 2, "val": 1}


def test_a_terminal_sees_progress_on_stderr_only(run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    result = run("demo-data", "hands", str(tmp_path / "drawn"), "--count", "6")
    assert result.code == 0
    assert any("drawing" in line and "100%" in line for line in result.err)
    assert "drawing" not in result.out


def test_quiet_says_only_what_was_drawn(run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    for number, flag in enumerate(("--quiet", "-q")):
        result = run("demo-data", "hands", str(tmp_path / str(number)), "--count", "6", flag)
        assert (result.code, result.err) == (0, [])
        assert result.out.startswith("6 images of ")


def test_a_folder_that_holds_something_is_refused(run: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    result = run("demo-data", "hands", str(tmp_path), "--count", "6")
    assert result.code == 2
    assert "is not empty" in result.err[0]


@pytest.mark.parametrize("count", ["0", "5", "-3", "ten", "6.5", ""])
def test_a_count_that_cannot_be_drawn_is_refused_in_plain_words(count: str, run: Any, tmp_path: Path) -> None:
    result = run("demo-data", "hands", str(tmp_path / "drawn"), f"--count={count}")
    assert (result.code, result.err) == (
        2, [f"error: --count: must be a whole number of at least 6 (got {count!r})"]
    )  # fmt: skip
    assert not (tmp_path / "drawn").exists()
