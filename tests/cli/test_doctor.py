"""`sltdino doctor`."""

import json
from pathlib import Path
from typing import Any


def test_json_and_text_agree_and_go_to_stdout(run: Any, tmp_path: Path) -> None:
    text, answer = run("doctor", "--output-dir", str(tmp_path)), run("doctor", "--json", "--output-dir", str(tmp_path))
    assert (text.err, answer.err) == ([], [])
    found = json.loads(answer.out)
    assert (found["usable"], text.code, answer.code) == (True, 0, 0)
    assert f"  torch                    {found['facts']['versions']['torch']}" in text.out.splitlines()
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written_the_exit_code_is_that_of_a_run(run: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = run("doctor", "--json", "--output-dir", str(tmp_path / "file"))
    assert answer.code == 73
    assert json.loads(answer.out)["usable"] is False
