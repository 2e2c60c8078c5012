"""When a run folder is taken for a new run."""

from pathlib import Path
from typing import Any

import pytest

from sltdino.core.run_dir import RunDir
from sltdino.core.run_files import read_status
from sltdino.core.run_place import other_files, refuse_unless_new
from sltdino.core.settings import CheckpointSettings
from sltdino.errors import RunFolderError

PARAMS = {"algorithm": "dino", "stream": "hand", "checkpointing": {}}
NAMES = CheckpointSettings()


def begun(path: Path, *records: tuple[int, str]) -> Path:
    """A run that failed without a checkpoint, after it had met a bad image and written these records."""
    with RunDir.create(path) as run:
        run.write_params(PARAMS)
        run.record_bad_image("crops/1.png", "truncated")
        for step, context in records:
            run.log(step, {"knn": 0.5}, context=context)
        run.write_status("failed", exit_code=65)
    return path


@pytest.mark.parametrize("records", [(), ((0, "eval"),)])
def test_what_ended_before_its_first_step_is_begun_again_without_being_asked_and_it_is_recorded(
    tmp_path: Path, records: Any
) -> None:
    with RunDir.create(begun(tmp_path, *records)) as run:
        assert run.num_bad_images == 0
        assert run.metrics_offset() == 0
    assert [notice["text"] for notice in read_status(tmp_path)["notices"]] == [
        "begun again: an earlier start in this folder ended before its first step"
    ]


@pytest.mark.parametrize("record", [(1, "train_step"), (3, "eval"), (0, "of another program")])
def test_steps_without_a_checkpoint_are_kept_and_only_overwriting_is_offered(
    tmp_path: Path, record: tuple[int, str]
) -> None:
    begun(tmp_path, (0, "eval"), record)
    with pytest.raises(RunFolderError, match="no checkpoint to go on from: start again with --overwrite") as caught:
        RunDir.create(tmp_path)
    assert "resume" not in str(caught.value)
    RunDir.create(tmp_path, overwrite=True).close()
    assert read_status(tmp_path)["notices"] == []


@pytest.mark.parametrize("name", ["bad_images.jsonl", "metrics.jsonl"])
def test_logs_that_no_run_wrote_are_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"path": "a", "reason": "b", "step": 0, "context": "eval"}\n')
    with pytest.raises(RunFolderError, match=name):
        refuse_unless_new(tmp_path, NAMES, overwrite=False)


def test_a_log_with_lines_that_cannot_be_read_is_kept(tmp_path: Path) -> None:
    with (begun(tmp_path) / "bad_images.jsonl").open("a") as file:
        file.write("not ours\n")
    with pytest.raises(RunFolderError, match=r"bad_images\.jsonl"):
        refuse_unless_new(tmp_path, NAMES, overwrite=False)


def test_a_run_whose_files_have_other_names_is_seen(tmp_path: Path) -> None:
    names = CheckpointSettings(last_name="l.pt", best_name="b.pt", history_file="h.jsonl")
    chosen = {"best": "b.pt", "last": "l.pt", "history_file": "h.jsonl"}
    with RunDir.create(tmp_path, names) as run:
        run.write_params(PARAMS | {"checkpointing": chosen})
        run.log(1, {"loss": 1.0}, context="train_step")
    with pytest.raises(RunFolderError, match=r"holds a run already \(h\.jsonl\)"):
        RunDir.create(tmp_path)


def test_files_of_others_are_named_and_those_of_the_run_are_not(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    for name in ("a.txt", ".hidden"):
        (tmp_path / name).write_text("")
    assert other_files(begun(tmp_path), NAMES) == ["a.txt", "thesis"]
