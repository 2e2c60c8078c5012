import contextlib
import errno
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sltdino.core.run_dir import RunDir
from sltdino.core.run_files import (
    has_checkpoint,
    load_checkpoint,
    previous_name,
    read_artifacts,
    read_metrics,
    read_names,
    read_params,
    read_status,
)
from sltdino.core.settings import CheckpointSettings
from sltdino.errors import (
    CannotCreateError,
    CheckpointError,
    DivergedError,
    MissingInputError,
    RunFolderError,
    RunInUseError,
    StorageError,
)

PARAMS = {"algorithm": "dino", "stream": "hand", "checkpointing": {}}


def _state(step):
    return {"progress": {"epoch": 0, "global_step": step}, "student": {"w": torch.full((2000,), float(step))}}


def _publish(run, step, *, best=False):
    run.log(step, {"loss": 1 / step}, context="train_step")
    return run.publish_checkpoint(_state(step), best=best, epoch=step, loss=1 / step)


def _step(run, which="last", *, fallback=False):
    loaded = load_checkpoint(run, which=which, fallback=fallback)
    step = loaded.state["progress"]["global_step"]
    assert torch.equal(loaded.state["student"]["w"], torch.full((2000,), float(step)))
    return step


def _leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.endswith(".tmp")]


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """A finished run of three checkpoints, the second of which is the best."""
    with RunDir.create(tmp_path_factory.mktemp("trained") / "run") as run:
        run.write_params(PARAMS)
        for step in (1, 2, 3):
            _publish(run, step, best=step == 2)
        run.write_status("done", exit_code=0)
    assert run.previous.samefile(run.best)
    return run.path


@pytest.fixture
def trained(tmp_path, trained_once):
    """A copy of it, with its hard links."""
    folder = shutil.copytree(trained_once, tmp_path / "run")
    (folder / "checkpoint_best.pt").unlink()
    os.link(folder / "checkpoint_prev.pt", folder / "checkpoint_best.pt")
    return folder


def _damage(path):
    content = path.read_bytes()
    middle = content.index(b"\0\0\x40\x40" * 4)  # 3.0, in the middle of the tensor
    path.write_bytes(content[:middle] + b"\1" + content[middle + 1 :])


# Opening


def test_a_new_folder_gets_a_lock_and_a_running_status(tmp_path):
    with RunDir.create(tmp_path / "a" / "b") as run:
        assert read_status(run.path)["state"] == "running"
        with pytest.raises(RunInUseError, match=f"pid {os.getpid()}"):
            RunDir.open(run.path)
    RunDir.open(tmp_path / "a" / "b").close()


def test_a_run_folder_in_use_by_another_process_is_a_69_and_unchanged(trained):
    code = f"""
import sys, time
from pathlib import Path
from sltdino.core.run_dir import RunDir
run = RunDir.open(Path({str(trained)!r}))
print("held", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    before = sorted((path.name, path.stat().st_mtime_ns) for path in trained.iterdir())
    try:
        for attempt in (RunDir.open, lambda path: RunDir.create(path, overwrite=True)):
            with pytest.raises(RunInUseError, match=f"pid {process.pid} on"):
                attempt(trained)
        assert sorted((path.name, path.stat().st_mtime_ns) for path in trained.iterdir()) == before
    finally:
        process.kill()
        process.communicate()
    RunDir.open(trained).close()


def test_a_folder_that_holds_a_run_is_refused_with_the_ways_on(trained):
    with pytest.raises(RunFolderError, match=r"--resume auto.*sltdino resume .*--overwrite") as caught:
        RunDir.create(trained)
    assert caught.value.exit_code == 2
    assert _step(trained) == 3
    assert read_status(trained)["state"] == "done"
    RunDir.open(trained).close()  # the refused one gave the lock back


def test_a_folder_with_other_files_is_taken_and_they_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with RunDir.create(tmp_path) as run:
        _publish(run, 1)
    with RunDir.create(tmp_path, overwrite=True) as run:
        assert not run.last.exists()
        assert list(read_metrics(tmp_path)) == []
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_overwrite_removes_the_files_of_the_old_run_only(trained):
    (trained / "backbone.pt").write_text("an export")
    RunDir.create(trained, overwrite=True).close()
    left = {path.name for path in trained.iterdir()}
    assert left == {"backbone.pt", ".sltdino.lock", "status.json", "metrics.jsonl", "bad_images.jsonl"}
    assert (trained / "metrics.jsonl").stat().st_size == 0


@pytest.mark.parametrize("content", ['{"lr": 1}', "not json", "[]"])
def test_a_params_json_of_another_program_is_never_replaced(tmp_path, content):
    (tmp_path / "params.json").write_text(content)
    for overwrite in (False, True):
        with pytest.raises(RunFolderError, match="not written by sltdino"):
            RunDir.create(tmp_path, overwrite=overwrite)
    assert (tmp_path / "params.json").read_text() == content


def test_a_run_that_failed_before_its_first_record_can_be_started_again(tmp_path):
    with RunDir.create(tmp_path) as run:
        run.write_params(PARAMS)
        run.write_status("failed", exit_code=65, message="too few images")
    with RunDir.create(tmp_path):
        assert read_status(tmp_path)["state"] == "running"
        assert not (tmp_path / "params.json").exists()


def test_resuming_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(MissingInputError, match="no such run folder"):
        RunDir.open(tmp_path / "none")
    with pytest.raises(RunFolderError, match="holds no run"):
        RunDir.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "names",
    [
        {"best_name": "checkpoint_prev.pt"},
        {"last_name": "a.pt", "best_name": "a_prev.pt"},
        {"history_file": "status.json"},
        {"last_name": ".sltdino.lock"},
        {"last_name": "same", "best_name": "same"},
    ],
)
def test_names_that_would_overwrite_another_file_of_the_run_are_refused_before_anything_is_made(tmp_path, names):
    with pytest.raises(RunFolderError, match="also the name of another file"):
        RunDir.create(tmp_path / "run", CheckpointSettings(**names))
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_the_previous_checkpoint_follows_from_the_last_ones():
    names = ("checkpoint_last.pt", "last.pt", "model.pt", "model", "blast_x.pt")
    previous = [previous_name(CheckpointSettings(last_name=name)) for name in names]
    assert previous == ["checkpoint_prev.pt", "prev.pt", "model_prev.pt", "model_prev", "blast_x_prev.pt"]


def test_an_output_folder_that_is_a_file_is_a_73(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(CannotCreateError, match="cannot be created"):
        RunDir.create(tmp_path / "run")


def test_too_little_space_is_named_before_any_work(tmp_path):
    with RunDir.create(tmp_path) as run:
        run.check_free_space(1)
        with pytest.raises(StorageError, match=r"1000000000\.00 GB are needed"):
            run.check_free_space(10**18)


def test_windows_is_refused_for_training(tmp_path, monkeypatch):
    monkeypatch.setattr("sltdino.core.run_files.os.name", "nt")
    path = tmp_path / "run"
    with pytest.raises(RunFolderError, match="Windows"):
        RunDir.create(path)
    monkeypatch.undo()
    assert not path.exists()


def test_what_a_killed_process_left_is_removed_on_opening(trained):
    (trained / ".sltdino-0123.tmp").write_text("half a checkpoint")
    RunDir.open(trained).close()
    assert _leftovers(trained) == []


# Params, metrics, artifacts, status


def test_params_are_read_back_and_damage_is_typed(trained):
    assert read_params(trained) == PARAMS
    (trained / "params.json").write_text("[1]")
    with pytest.raises(RunFolderError, match="not what a run writes"):
        read_params(trained)
    (trained / "params.json").unlink()
    with pytest.raises(MissingInputError):
        read_params(trained)


def test_records_are_strict_json_with_the_fixed_keys(tmp_path):
    with RunDir.create(tmp_path) as run:
        run.log(3, {"loss": math.nan, "lr": 0.1, "norm": -math.inf, "epoch": 1, "note": None}, context="train_step")
        run.log(3, {"loss": 2.0}, context="train_epoch")

    def refuse(token):
        raise AssertionError(token)

    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    first, second = (json.loads(line, parse_constant=refuse) for line in lines)
    assert first.pop("timestamp").endswith("+00:00")
    assert first == {
        "step": 3, "context": "train_step", "loss": None, "lr": 0.1, "norm": None, "epoch": 1, "note": None,
        "non_finite": ["loss", "norm"],
    }  # fmt: skip
    assert "non_finite" not in second


def test_a_metric_cannot_hide_a_field_of_the_record(tmp_path):
    with RunDir.create(tmp_path) as run, pytest.raises(AssertionError, match="step"):
        run.log(3, {"step": 4}, context="train_step")


def test_the_history_can_have_another_name(tmp_path):
    with RunDir.create(tmp_path, CheckpointSettings(history_file="h.jsonl")) as run:
        run.log(1, {}, context="train_step")
    assert [record["step"] for record in read_metrics(tmp_path, "h.jsonl")] == [1]


def test_a_torn_record_is_cut_on_resume_and_that_is_recorded(trained):
    with (trained / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 4, "lo')
    reader = read_metrics(trained)
    assert [record["step"] for record in reader] == [1, 2, 3]
    assert reader.unreadable == 1
    with RunDir.open(trained) as run:
        run.log(4, {}, context="train_step")
    assert [record["step"] for record in read_metrics(trained)] == [1, 2, 3, 4]
    assert "15 bytes of an unfinished record" in read_status(trained)["notices"][0]["text"]


def test_resume_cuts_the_metrics_back_to_the_checkpoint_and_counts(trained):
    with RunDir.open(trained) as run:
        for step in (4, 5):
            run.log(step, {}, context="train_step")
        assert run.rewind(load_checkpoint(trained)) == 2
        assert run.rewind(load_checkpoint(trained)) == 0
    assert [record["step"] for record in read_metrics(trained)] == [1, 2, 3]
    assert read_status(trained)["notices"] == []


def test_metrics_shorter_than_the_checkpoint_says_are_noticed(trained):
    os.truncate(trained / "metrics.jsonl", 20)
    with RunDir.open(trained) as run:
        run.rewind(load_checkpoint(trained))
    assert any("changed by others" in notice["text"] for notice in read_status(trained)["notices"])


def test_artifacts_are_replaced_in_place_and_keep_their_order_across_resume(trained):
    with RunDir.open(trained) as run:
        run.register_artifact("x/backbone.pt", name="exported_backbone", metadata={"epoch": 3, "loss": math.inf})
        _publish(run, 4, best=True)
        run.register_artifact(Path("other.pt"))
    found = read_artifacts(trained)
    assert [entry["name"] for entry in found] == ["checkpoint_last", "checkpoint_best", "exported_backbone", "other.pt"]
    assert all(set(entry) == {"name", "path", "timestamp", "metadata"} for entry in found)
    assert found[1]["metadata"] == {"epoch": 4, "loss": 0.25}
    assert found[2]["path"] == str(Path("x/backbone.pt").absolute())
    assert found[2]["metadata"] == {"epoch": 3, "loss": None, "non_finite": ["loss"]}


@pytest.mark.parametrize("content", ["{", '{"a": 1}', ""])
def test_a_damaged_index_does_not_stop_a_run_and_is_noticed(trained, content):
    (trained / "artifacts.json").write_text(content)
    (trained / "status.json").write_text(content)
    with pytest.raises(RunFolderError):
        read_artifacts(trained)
    with RunDir.open(trained) as run:
        _publish(run, 4)
    assert [entry["name"] for entry in read_artifacts(trained)] == ["checkpoint_last"]
    assert any("started a new artifacts.json" in notice["text"] for notice in read_status(trained)["notices"])


def test_status_keeps_the_progress_and_the_notices_across_states_and_resume(tmp_path):
    with RunDir.create(tmp_path) as run:
        run.notice("one")
        run.notice("one")
        run.notice("two")
        run.write_status("running", step=3, loss=math.nan)
        run.write_status("failed", exit_code=74, message="disk \udcff")
    status = read_status(tmp_path)
    assert (status["state"], status["exit_code"], status["message"]) == ("failed", 74, "disk \\xff")
    assert (status["step"], status["loss"], status["non_finite"]) == (3, None, ["loss"])
    assert [(notice["text"], notice["count"]) for notice in status["notices"]] == [("one", 2), ("two", 1)]
    with RunDir.open(tmp_path) as run:
        run.notice("two")
    assert [(notice["text"], notice["count"]) for notice in read_status(tmp_path)["notices"]] == [
        ("one", 2),
        ("two", 2),
    ]


def test_a_folder_of_the_old_scripts_without_a_status_can_be_read(tmp_path):
    assert read_status(tmp_path) == {}
    assert read_artifacts(tmp_path) == []
    assert list(read_metrics(tmp_path)) == []


def test_a_bad_image_is_recorded_once_whatever_its_name_also_across_resume(tmp_path):
    name = os.fsdecode(b"h\xff.png")
    with RunDir.create(tmp_path) as run:
        assert run.record_bad_image(Path(name), "truncated")
        assert not run.record_bad_image(name, "truncated")
        _publish(run, 1)
    with RunDir.open(tmp_path) as run:
        assert run.num_bad_images == 1
        assert not run.record_bad_image(name, "truncated")
        assert run.record_bad_image("b.png", "gone")
        assert run.num_bad_images == 2
    lines = [json.loads(line) for line in (tmp_path / "bad_images.jsonl").read_text("utf-8").splitlines()]
    assert [(line["path"], line["reason"]) for line in lines] == [("h\\xff.png", "truncated"), ("b.png", "gone")]


# Checkpoints


def test_last_previous_and_best_are_what_they_say_and_share_files_only_with_one_another(trained):
    assert (_step(trained), _step(trained / "checkpoint_prev.pt"), _step(trained, "best")) == (3, 2, 2)
    last, previous, best = (trained / f"checkpoint_{name}.pt" for name in ("last", "prev", "best"))
    assert previous.samefile(best)
    assert not last.samefile(best)
    with RunDir.open(trained) as run:
        assert _publish(run, 4, best=True) == last
        assert last.samefile(best)
        _publish(run, 5)
        assert not last.samefile(best)
    assert (_step(trained), _step(trained / "checkpoint_prev.pt"), _step(trained, "best")) == (5, 4, 4)
    assert _leftovers(trained) == []


def test_a_checkpoint_knows_where_its_metrics_end(trained):
    for name, steps in (("checkpoint_last.pt", 3), ("checkpoint_prev.pt", 2)):
        offset = load_checkpoint(trained / name).state["metrics_offset"]
        assert (trained / "metrics.jsonl").read_bytes()[:offset].count(b"\n") == steps


def test_publishing_updates_the_status_last(trained):
    with RunDir.open(trained) as run:
        run.publish_checkpoint(_state(9), best=False, epoch=2, loss=None, step=9, epochs=5)
    status = read_status(trained)
    assert (status["saved"], status["step"], status["epoch"], status["epochs"]) == ("checkpoint_last.pt", 9, 2, 5)


def test_a_diverged_state_is_refused_and_every_file_stands(trained):
    with RunDir.open(trained) as run:
        before = {path.name: path.read_bytes() for path in trained.glob("checkpoint_*")}
        state = _state(4)
        state["student"]["w"][17] = math.nan
        with pytest.raises(DivergedError, match=r"student\.w"):
            run.publish_checkpoint(state, best=True, epoch=4, loss=1.0)
        assert {path.name: path.read_bytes() for path in trained.glob("checkpoint_*")} == before
    assert _leftovers(trained) == []


def test_an_error_at_the_last_moment_keeps_the_old_state(trained, monkeypatch):
    replace = os.replace
    fired = []

    def fail_on_last(source, target):
        if Path(target).name == "checkpoint_last.pt":
            fired.append(target)
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    with RunDir.open(trained) as run:
        monkeypatch.setattr(os, "replace", fail_on_last)
        with pytest.raises(StorageError, match=r"checkpoint_last\.pt: writing failed"):
            _publish(run, 4, best=True)
        assert fired
        assert (_step(trained), _step(trained, "best")) == (3, 2)
        assert _leftovers(trained) == []
        monkeypatch.undo()
        _publish(run, 5)
    assert (_step(trained), _step(trained / "checkpoint_prev.pt")) == (5, 3)


def test_without_hard_links_checkpoints_are_copied_and_that_is_noticed(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no hard links")

    monkeypatch.setattr(os, "link", refuse)
    with RunDir.create(tmp_path) as run:
        for step in (1, 2):
            _publish(run, step, best=True)
    assert (_step(tmp_path), _step(tmp_path / "checkpoint_prev.pt"), _step(tmp_path, "best")) == (2, 1, 2)
    assert not (tmp_path / "checkpoint_last.pt").samefile(tmp_path / "checkpoint_best.pt")
    notices = read_status(tmp_path)["notices"]
    assert len(notices) == 1
    assert "no hard links" in notices[0]["text"]


def test_without_flock_the_run_goes_on_with_a_notice(tmp_path, monkeypatch):
    import fcntl

    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with RunDir.create(tmp_path):
        assert "no flock" in read_status(tmp_path)["notices"][0]["text"]


def test_a_damaged_last_checkpoint_is_an_error_that_names_the_previous_one_and_its_step(trained):
    _damage(trained / "checkpoint_last.pt")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(trained)
    assert caught.value.code == "E-CKPT-CORRUPT"
    message = str(caught.value)
    assert "checkpoint_last.pt: record" in message
    assert f"; checkpoint_prev.pt is at step 2: sltdino resume {trained} --fallback" in message
    loaded = load_checkpoint(trained, fallback=True)
    assert (loaded.path.name, loaded.state["progress"]["global_step"]) == ("checkpoint_prev.pt", 2)


def test_without_a_good_previous_checkpoint_there_is_no_fallback(trained):
    _damage(trained / "checkpoint_last.pt")
    (trained / "checkpoint_prev.pt").write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=r"checkpoint_last\.pt.*fails its CRC; checkpoint_prev\.pt is damaged too"
    ):
        load_checkpoint(trained, fallback=True)


def test_a_damaged_best_checkpoint_never_falls_back(trained):
    (trained / "checkpoint_best.pt").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"checkpoint_best\.pt"):
        load_checkpoint(trained, which="best", fallback=True)


def test_a_newer_last_checkpoint_is_refused_even_with_fallback(trained):
    torch.save({"format": "sltdino-checkpoint", "schema_version": 9}, trained / "checkpoint_last.pt")
    with pytest.raises(CheckpointError, match="schema 9"):
        load_checkpoint(trained, fallback=True)


def test_a_damaged_last_checkpoint_never_takes_the_place_of_a_good_previous_one(trained):
    _damage(trained / "checkpoint_last.pt")
    with RunDir.open(trained) as run:
        run.rewind(load_checkpoint(trained, fallback=True))
        _publish(run, 3)
    assert (_step(trained), _step(trained / "checkpoint_prev.pt")) == (3, 2)
    assert any("damaged checkpoint was replaced" in notice["text"] for notice in read_status(trained)["notices"])


def test_a_best_checkpoint_that_a_kill_kept_from_its_name_gets_it_on_resume(trained):
    with RunDir.open(trained) as run:
        _publish(run, 4, best=True)
    shutil.copyfile(trained / "checkpoint_prev.pt", trained / "other")
    os.replace(trained / "other", trained / "checkpoint_best.pt")
    assert _step(trained, "best") == 3
    with RunDir.open(trained) as run:
        run.rewind(load_checkpoint(trained))
    assert _step(trained, "best") == 4


def test_a_run_with_names_of_its_own_is_found_through_its_params(tmp_path):
    names = CheckpointSettings(last_name="l.pt", best_name="b.pt", history_file="h.jsonl")
    with RunDir.create(tmp_path, names) as run:
        run.write_params(PARAMS | {"checkpointing": {"best": "b.pt", "last": "l.pt", "history_file": "h.jsonl"}})
        assert not has_checkpoint(tmp_path)
        _publish(run, 1, best=True)
    assert read_names(tmp_path) == names
    assert has_checkpoint(tmp_path)
    assert (_step(tmp_path), _step(tmp_path, "best")) == (1, 1)


@pytest.mark.parametrize("chosen", [{"last": "../x.pt"}, {"last": "/x.pt"}, {"best": 3}, [], {"last": "status.json"}])
def test_names_in_a_params_json_cannot_lead_out_of_the_folder(trained, chosen):
    (trained / "params.json").write_text(json.dumps(PARAMS | {"checkpointing": chosen}))
    with contextlib.suppress(RunFolderError):
        assert read_names(trained) == CheckpointSettings()
    if chosen:
        with pytest.raises(RunFolderError):
            load_checkpoint(trained)


def test_a_run_without_any_checkpoint_is_missing_input(tmp_path):
    with RunDir.create(tmp_path), pytest.raises(MissingInputError, match="no checkpoint yet, and another process"):
        load_checkpoint(tmp_path)
    with pytest.raises(MissingInputError, match="stopped before its first checkpoint"):
        load_checkpoint(tmp_path)


# Kills. The child is a fork, so that torch is imported once; tests/slow has the whole sweep.

CALLS = ("open", "write", "fsync", "replace", "link", "unlink", "ftruncate", "fdopen")


def _kill_at(call_number, folder, pipe):
    """In a fork: publish two checkpoints, and die of SIGKILL just before that file-system call of the second one."""
    count = 0

    def counted(function):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == call_number:
                os.kill(os.getpid(), 9)
            return function(*args, **kwargs)

        return call

    tell = os.write
    with RunDir.create(folder) as run:
        _publish(run, 1, best=True)
        tell(pipe, b"1")
        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))
        _publish(run, 2, best=True)
        tell(pipe, b"2")


def _killed_at(call_number, folder):
    """The last step that was reported as saved, and whether the kill fired."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        code = 1
        try:
            _kill_at(call_number, folder, writer)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as file:
        told = file.read()
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return int(told[-1:]), os.WIFSIGNALED(status)


def test_a_kill_at_its_file_system_calls_leaves_a_checkpoint_that_resumes(tmp_path):
    fired = 0
    for number in range(1, 200, 4):
        folder = tmp_path / str(number)
        reported, killed = _killed_at(number, folder)
        if not killed:
            break
        fired += 1
        assert _step(folder) >= reported
        for name in ("checkpoint_prev.pt", "checkpoint_best.pt"):
            assert not (folder / name).exists() or _step(folder / name) in (1, 2)
        with RunDir.open(folder) as run:
            loaded = load_checkpoint(folder)
            run.rewind(loaded)
            step = loaded.state["progress"]["global_step"]
            assert [record["step"] for record in read_metrics(folder)] == list(range(1, step + 1))
            assert _step(folder, "best") == step
            _publish(run, step + 1)
        assert (_step(folder), _step(folder / "checkpoint_prev.pt")) == (step + 1, step)
        assert _leftovers(folder) == []
        shutil.rmtree(folder)
    assert 5 < fired < 50
