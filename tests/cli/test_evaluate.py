"""`sltdino evaluate` as it is typed."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sltdino.core.starter import starter_file


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train` and `val` with pictures of two labels."""
    place, rng = tmp_path_factory.mktemp("labelled"), np.random.default_rng(0)
    for side in ("train", "val"):
        for label in ("dark", "light"):
            (place / side / label).mkdir(parents=True)
            for number in range(4):
                pixels = rng.integers(0, 100, (16, 16, 3)) + (120 if label == "light" else 0)
                name = f"{side}{number}_f000001.png"
                Image.fromarray(pixels.astype(np.uint8)).save(place / side / label / name)
    return place


@pytest.fixture
def typed(folders: Path) -> tuple[str, ...]:
    return ("--train-dir", str(folders / "train"), "--val-dir", str(folders / "val"), "--device", "cpu")


def test_the_page_has_every_method_of_all_three_and_where_it_is_kept(
    run: Any, finished: Path, typed: tuple[str, ...]
) -> None:
    result = run("evaluate", str(finished), *typed, "--k", "3", "--k", "1", "--shots", "2")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    start = lines.index(f"{'accuracy in %':<20}{'trained':>20}{'untrained':>20}{'raw pixels':>20}")
    assert [line[:18].strip() for line in lines[start + 1 : start + 5]] == [
        "3-NN", "1-NN", "linear probe", "2 shots a class",
    ]  # fmt: skip
    assert "100.0 [100.0, 100.0]" in lines[start + 1]
    [kept] = (finished / "evaluations").iterdir()
    assert lines[-1].split() == ["kept", "in", str(kept)]
    assert result.err[-1].startswith("16 of 16 images")


def test_the_starter_can_be_judged_by_its_name(run: Any, typed: tuple[str, ...], tmp_path: Path) -> None:
    result = run("evaluate", "starter", *typed, "--k", "1", "--json", "-q", "-o", str(tmp_path / "record.json"))
    assert result.code == 0, result.err
    record = json.loads(result.out)
    assert record["backbone"] == str(starter_file())
    assert record["checkpoint"] is None
    assert "at 64 px" in record["protocol"]


def test_no_line_is_wider_than_80_columns(run: Any, finished: Path, folders: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(folders)
    argv = ("--train-dir", "train", "--val-dir", "val", "--device", "cpu", "--group-regex", "^(.+)_f")
    result = run("evaluate", str(finished), *argv)
    assert result.code == 0, result.err
    names = str(finished), str(folders)
    assert [
        line for line in result.out.splitlines() if len(line) > 80 and not any(name in line for name in names)
    ] == []
    assert "8 images of 2 labels of 4 groups" in result.out


def test_json_is_the_record_alone_and_quiet_says_nothing(
    run: Any, finished: Path, typed: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "result.json"
    result = run("evaluate", str(finished), *typed, "--json", "-q", "-o", str(out), "--shots", "1")
    content = json.loads(result.out)
    assert content.pop("kept")[1] == str(out)
    assert content == json.loads(out.read_text())
    assert "note: k = 20: all 8 training images vote; there are no more" in result.err
    assert all(line.startswith("note: ") for line in result.err)


def test_what_cannot_be_read_is_named(
    run: Any, finished: Path, folders: Path, typed: tuple[str, ...], tmp_path: Path
) -> None:
    val = shutil.copytree(folders / "val", tmp_path / "val")
    broken = val / "dark" / "val1_f000001.png"
    broken.write_bytes(b"")
    result = run("evaluate", str(finished), *typed[:2], "--val-dir", str(val), "--device", "cpu", "--shots", "1")
    assert result.code == 0
    assert f"unreadable: {broken}: empty file" in result.err
    assert "1 image, left out" in result.out


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("nowhere",), 66, "No such file"),
        (("RUN",), 2, "--val-dir: missing"),
        (("RUN", "--train-dir", "LABELLED/train", "--val-dir", "nowhere"), 66, "nowhere"),
        (
            ("RUN", "--train-dir", "LABELLED/train", "--val-dir", "LABELLED/val/dark"),
            2,
            "--val-dir: needs a sub-folder",
        ),
        (("RUN", "--train-dir", "LABELLED/val", "--val-dir", "LABELLED/val"), 2, "are training images too"),
        (
            ("RUN", "--train-dir", "LABELLED/train", "--val-dir", "LABELLED/val", "--group-regex", "("),
            2,
            "--group-regex",
        ),
        (("RUN", "--train-dir", "LABELLED/train", "--val-dir", "LABELLED/val", "-o", "LABELLED"), 73, "is a folder"),
        (("RUN", "--train-dir", "LABELLED/train", "--val-dir", "LABELLED/val", "-o", "/nowhere/x.json"), 73, "nowhere"),
        (("RUN", "--k", "0"), 2, "--k"),
        (("RUN", "--solver", "guess"), 2, "--solver"),
        (("LABELLED/val/dark/val0_f000001.png", "--train-dir", "LABELLED/train"), 65, "val0"),
    ],
)
def test_a_mistake_is_one_line_and_its_code(
    argv: tuple[str, ...], code: int, said: str, run: Any, finished_once: Path, folders: Path
) -> None:
    typed = (word.replace("RUN", str(finished_once)).replace("LABELLED", str(folders)) for word in argv)
    result = run("evaluate", *typed)
    assert (result.code, result.out, len(result.err)) == (code, "", 1), result.err
    assert said in result.err[0]
