"""`sltdino inspect --html`: the report as a file, and when there is none."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def test_the_report_is_written_beside_the_page(run: Run, finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    done = run("inspect", str(finished), "--html", str(path))
    assert done.code == 0
    assert "verdict" in done.out
    assert done.err == [
        "report: drawing its pictures, which takes some seconds",
        f"report: {path}, {path.stat().st_size / 1e6:.1f} MB",
    ]
    assert path.read_text().startswith("<!doctype html>")


def test_with_json_the_output_stays_json(run: Run, finished: Path, tmp_path: Path) -> None:
    done = run("inspect", str(finished), "--json", "--html", str(tmp_path / "report.html"))
    assert json.loads(done.out)["state"] == "done"


def test_several_runs_are_compared(run: Run, finished: Path, tmp_path: Path) -> None:
    other = shutil.copytree(finished, tmp_path / "other")
    assert run("inspect", str(finished), str(other), "--html", str(tmp_path / "report.html")).code == 0
    assert "<h1>2 runs</h1>" in (tmp_path / "report.html").read_text()


def test_a_report_is_replaced_and_anything_else_only_when_asked(run: Run, finished: Path) -> None:
    path = finished / "report.html"
    assert run("inspect", str(finished), "--html", str(path)).code == 0
    assert run("inspect", str(finished), "--html", str(path)).code == 0
    path.write_text("mine")
    refused = run("inspect", str(finished), "--html", str(path))
    assert (refused.code, refused.out, path.read_text()) == (73, "", "mine")
    assert "--overwrite" in refused.err[0]
    assert run("inspect", str(finished), "--html", str(path), "--overwrite").code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--overwrite"], "--overwrite: is for --html"),
        (["--follow", "--html", "r.html"], "--html: does not go with --follow"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(
    run: Run, finished: Path, options: list[str], said: str
) -> None:
    refused = run("inspect", str(finished), *options)
    assert refused.code == 2
    assert said in refused.err[0]


def test_a_file_of_weights_has_no_report(run: Run, finished: Path, tmp_path: Path) -> None:
    refused = run("inspect", str(finished / "checkpoint_last.pt"), "--html", str(tmp_path / "report.html"))
    assert refused.code == 2
    assert "--html is for runs" in refused.err[0]
    assert not (tmp_path / "report.html").exists()


def test_a_folder_that_is_no_run_is_said_to_be_none(run: Run, tmp_path: Path) -> None:
    refused = run("inspect", str(tmp_path), "--html", str(tmp_path / "report.html"))
    assert refused.code == 66
    assert "no run folder" in refused.err[0]
