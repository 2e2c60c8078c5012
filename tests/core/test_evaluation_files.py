"""Evaluations beside a run: written whole, read back in order, and never taken for what they are not."""

import json
from pathlib import Path
from typing import Any

import pytest

from sltdino.core.evaluation_files import evaluation_file, write_evaluation
from sltdino.core.run_files import read_evaluations
from sltdino.errors import RunFolderError


def record(timestamp: str, **changes: Any) -> dict[str, Any]:
    return {
        "schema": 1, "timestamp": timestamp, "backbone": "/run", "checkpoint": None, "step": None, "train_dirs": [],
        "val_dirs": [], "labels": [], "train_counts": [], "val_counts": [], "groups": None, "protocol": "",
        "results": [],         "confusion": {}, "per_class": [], **changes,
    }  # fmt: skip


RESULT = {
    "features": "trained", "method": "knn", "k": 20, "accuracy": 0.25, "accuracy_interval": [0.1, 0.4],
    "balanced_accuracy": 0.5, "balanced_accuracy_interval": [0, 1],
}  # fmt: skip


def test_a_run_that_was_never_evaluated_has_none(tmp_path: Path) -> None:
    assert read_evaluations(tmp_path) == []


def test_they_are_read_oldest_first_whatever_their_names(tmp_path: Path) -> None:
    for name, when in (("a", "2026-11-03"), ("b", "2026-11-01"), ("c", "2026-11-02")):
        write_evaluation(evaluation_file(tmp_path, name, {}), record(when))
    assert [found["timestamp"] for found in read_evaluations(tmp_path)] == ["2026-11-01", "2026-11-02", "2026-11-03"]


def test_the_same_question_has_the_same_file_and_another_has_another(tmp_path: Path) -> None:
    one, again, other = (evaluation_file(tmp_path, "last", {"k": k}) for k in (1, 1, 2))
    assert one == again != other
    write_evaluation(one, record("2026-11-01"))
    write_evaluation(again, record("2026-11-02"))
    assert [found["timestamp"] for found in read_evaluations(tmp_path)] == ["2026-11-02"]


def test_files_of_others_in_the_folder_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations/notes.json").write_text("[]")
    (tmp_path / "evaluations/.sltdino-0123.tmp").write_text("")
    assert read_evaluations(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("[]", r"not what `sltdino evaluate` writes there .*remove it"),
        (json.dumps(record("now", results={})), r"\(results\); remove it"),
        (json.dumps(record("now", results=["damaged"])), r"\(results.0\); remove it"),
        (json.dumps(record("now", results=[RESULT | {"accuracy": None}])), r"\(results.0.accuracy\)"),
        (json.dumps(record("now", results=[RESULT | {"accuracy": 1e308}])), r"\(results.0.accuracy\)"),
        (json.dumps(record("now", results=[RESULT]) | {"step": 10**4000}), r"\(step\)"),
        (json.dumps(record("now", results=[RESULT])).replace("0.25", "1e999"), r"\(results.0.accuracy\)"),
        (json.dumps(record("now", results=[RESULT | {"accuracy_interval": [0]}])), r"\(results.0.accuracy_interval\)"),
        (json.dumps(record("now", groups={"regex": "x"})), r"\(groups.train\)"),
        (json.dumps(record("now", val_counts=[True, 2])), r"\(val_counts.0\)"),
        (json.dumps(record("now", val_counts=[2])), r"\(val_counts\)"),
        (json.dumps(record("now", labels=["a"], confusion={"matrix": [[1, 2]]})), r"\(confusion.matrix\)"),
        (json.dumps(record("now", per_class=[{"label": "a", "count": -1}])), r"\(per_class.0"),
        ("[" * 100_000, "not JSON"),
        (json.dumps(record("now", schema=2)), r"of schema 2, and this version reads 1; update sltdino"),
    ],
)
def test_a_file_that_is_no_evaluation_is_named(content: str, said: str, tmp_path: Path) -> None:
    file = evaluation_file(tmp_path, "last", {})
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(RunFolderError, match=f"{file}.*{said}"):
        read_evaluations(tmp_path)
