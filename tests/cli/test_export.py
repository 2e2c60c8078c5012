"""`sltdino export`, up to what a person or a script reads."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import sltdino
from sltdino.exporting.formats import FORMATS


def test_the_report_says_what_was_written_how_it_was_proven_and_how_to_load_it(
    run: Any, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("export", str(finished), "--format", "timm", "-o", "hands.safetensors")
    report = sltdino.export(finished, format="timm", out=Path("hands.safetensors"))
    assert (result.code, result.err) == (0, [])
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[:3] == [
        "wrote hands.safetensors",
        f"  timm, {report.num_bytes / 1e6:.1f} MB, {report.num_tensors} tensors",
        f"  sha256 {report.sha256}",
    ]
    text = " ".join(result.out.split())
    assert "verified in our own forward of timm's VisionTransformer: largest relative difference" in text
    assert "at other sizes, where positions are resampled:" in text
    assert "by default, its LayerNorms use epsilon 1e-06, not the training's, which moves the features by" in text
    assert (
        "feed it RGB of 0..1 less 0.485 0.456 0.406, over 0.229 0.224 0.225, resized bicubically (Pillow's BICUBIC, or "
        "antialias=True) to 16 x 16"
    ) in text
    assert "  its metadata: hands.safetensors.json" in lines
    assert json.loads(Path("hands.safetensors.json").read_text())["input"]["resample"] == "bicubic, antialiased"
    assert lines[lines.index("load it:") + 1 :] == [f"  {line}".rstrip() for line in report.load.split("\n")]


def test_as_json_it_is_one_object_with_every_figure(run: Any, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.safetensors"
    result = run("export", str(finished), "--format", "safetensors", "-o", str(out), "--student", "--json")
    said = json.loads(result.out)
    assert (said["path"], said["format"], said["max_relative_error"]) == (str(out), "safetensors", 0)
    assert said["num_tensors"] == len(load_file(out))
    assert said["input"] == {
        "image_size": 16, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
        "resample": "bicubic, antialiased",
    }  # fmt: skip
    assert said["metadata_file"] == f"{out}.json"
    assert json.loads(Path(f"{out}.json").read_text())["network"] == "student"


def test_another_size_is_stored_when_asked_for(run: Any, finished: Path, tmp_path: Path) -> None:
    result = run("export", str(finished), "-o", str(tmp_path / "b.pt"), "--image-size", "32", "--json")
    assert json.loads(result.out)["input"]["image_size"] == 32


def test_the_formats_are_listed_in_80_columns_and_as_json(run: Any) -> None:
    listed = run("export", "--list-formats").out.splitlines()
    assert [line.split()[0] for line in listed] == list(FORMATS)
    assert max(map(len, listed)) <= 80
    assert json.loads(run("export", "--list-formats", "--json").out).keys() == FORMATS.keys()


@pytest.mark.parametrize(
    ("argv", "code", "line"),
    [
        (
            ("--format", "tar", "-o", "b"),
            2,
            "error: --format: 'tar' is not one of slt, slt-dinov2, timm, hf, onnx, safet",
        ),
        (("--format", "onnx", "-o", "b.pt"), 2, "error: --output: b.pt: the name of a file for onnx ends in .onnx"),
        (
            ("--format", "slt-dinov2", "-o", "b.pt"),
            2,
            "error: --format slt-dinov2: builds DINOv2's ViT-S/14, and this ",
        ),
        (("-o", "b.pt", "--image-size", "0"), 2, "error: --image-size: "),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    run: Any, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: Any, code: int, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("export", str(finished), *argv)
    assert (result.code, result.out, len(result.err)) == (code, "", 1)
    assert result.err[0].startswith(line)


def test_a_note_reaches_the_person(run: Any, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = " ".join(run("export", str(finished), "-o", "a:b.pt").out.split())
    assert "note: SLT's loader cannot take a path with a colon in it: rename the file" in text
    assert "note: slt_vitsmall_patch16 is the loader's name for a network of any size" in text
