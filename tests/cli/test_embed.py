"""`sltdino embed` as it is typed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sltdino import export
from sltdino.evaluation.features import Pixels
from sltdino.exporting.backbone import load_trained_backbone


def test_the_features_of_a_run_are_those_of_its_last_checkpoint(
    run: Any, finished_once: Path, pictures: Path, tmp_path: Path
) -> None:
    result = run("embed", str(finished_once), str(pictures), "-o", str(tmp_path / "out"), "--device", "cpu")
    assert result.code == 0
    clips, without, index = result.out.splitlines()
    assert clips.startswith("1 clip, 24 images in 24 frames, ")
    assert without == "without features: 0 missing, 0 black, 0 unreadable"
    assert index == str(tmp_path / "out/index.json")
    assert result.err[-1].startswith("24 of 24 images")

    backbone = load_trained_backbone(finished_once)
    with np.load(tmp_path / f"out/{pictures.name}.npz") as clip:
        for row in (0, 23):
            image = Pixels(16, backbone.mean, backbone.std).load(pictures / clip["names"][row])
            np.testing.assert_allclose(clip["cls"][row], backbone.network(image[None])[0].numpy(), atol=1e-5)


def test_an_export_of_a_run_gives_the_features_of_the_run(
    run: Any, finished: Path, pictures: Path, tmp_path: Path
) -> None:
    export(finished, format="slt", out=tmp_path / "slt.pt")
    for source, out in ((finished, "run"), (finished / "checkpoint_last.pt", "file"), ("slt.pt", "slt")):
        result = run("embed", str(tmp_path / source), str(pictures), "-o", str(tmp_path / out), "--device", "cpu")
        assert result.code == 0, result.err
    of_run, of_file, of_slt = (
        np.load(tmp_path / f"{out}/{pictures.name}.npz")["cls"] for out in ("run", "file", "slt")
    )
    np.testing.assert_array_equal(of_file, of_run)
    np.testing.assert_allclose(of_slt, of_run, atol=1e-5)


def test_json_is_the_summary_alone_on_stdout(run: Any, finished_once: Path, pictures: Path, tmp_path: Path) -> None:
    typed = ("embed", str(finished_once), str(pictures), "--device", "cpu")
    assert any("24 of 24 images" in line for line in run(*typed, "-o", str(tmp_path / "loud")).err)
    result = run(*typed, "-o", str(tmp_path / "out"), "--json", "-q")
    assert not any("24 of 24 images" in line for line in result.err)
    summary = json.loads(result.out)
    assert summary["counts"] == {"clips": 1, "frames": 24, "images": 24, "missing": 0, "black": 0, "bad": 0}
    assert summary["index_file"] == str(tmp_path / "out/index.json")


def test_what_was_passed_over_is_said(run: Any, finished_once: Path, own_pictures: Path, tmp_path: Path) -> None:
    (own_pictures / "3.png").write_bytes(b"")
    (own_pictures / ".hidden.png").write_bytes(b"")
    result = run("embed", str(finished_once), str(own_pictures), "-o", str(tmp_path / "out"), "--device", "cpu")
    assert result.code == 0
    assert f"unreadable: {own_pictures / '3.png'}: empty file" in result.err
    assert any("1 hidden files and folders" in line for line in result.err)


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("embed", "RUN", "nowhere", "-o", "out"), 66),
        (("embed", "nowhere", "PICTURES", "-o", "out"), 66),
        (("embed", "RUN", "-o", "out"), 2),
        (("embed", "RUN", "PICTURES"), 2),
        (("embed", "RUN", "PICTURES", "-o", "out", "--batch-size", "0"), 2),
        (("embed", "RUN", "PICTURES", "-o", "PICTURES"), 2),
        (("embed", "PICTURES/0.png", "PICTURES", "-o", "out"), 65),
        (("embed", "RUN", "PICTURES", "-o", "/proc/nowhere"), 73),
    ],
)
def test_a_mistake_is_one_line_and_its_code(
    argv: tuple[str, ...], code: int, run: Any, finished_once: Path, pictures: Path, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*(item.replace("RUN", str(finished_once)).replace("PICTURES", str(pictures)) for item in argv))
    assert (result.code, result.out, len(result.err)) == (code, "", 1), result.err
    assert not (tmp_path / "out").exists()
