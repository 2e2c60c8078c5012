"""A study of recipes: once for real on drawn crops, then what it keeps, skips and tries again, with a quick program."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from quality import held, study
from quality_commands import Commands, InterruptedStudyError
from quality_data import Part, Source
from quality_metrics import history_of
from quality_recipes import Recipe
from quality_study import Budget, Job, _length, recorded

from sltdino.core.auto import Plan, plan
from sltdino.core.lock import FolderLock
from sltdino.core.run_files import read_metrics
from sltdino.core.settings import PretrainSettings
from sltdino.errors import RunInUseError, SettingsError

QUALITY = Path(__file__).parents[2] / "tools" / "quality.py"
DATA = "synthetic:hands:90"

STUB = '''
"""Answers as `sltdino` did in the study that was made for real, without training."""
import json, os, pathlib, shutil, sys, time

material, arguments = pathlib.Path(sys.argv[1]), sys.argv[2:]
value = lambda flag: arguments[arguments.index(flag) + 1]
if "--print-config=json" in arguments:
    print((material / "settings.json").read_text())
elif arguments[0] == "evaluate":
    print((material / "evaluation.json").read_text())
else:
    with (material / "trained.txt").open("a") as file:
        file.write(value("--seed") + "\\n")
    if value("--seed") in os.environ.get("SLOW", "").split():
        time.sleep(60)
    if value("--seed") in os.environ.get("BROKEN", "").split():
        sys.exit("error: broken on purpose")
    shutil.copytree(material / "run", value("--output-dir"))
    if value("--seed") in os.environ.get("COLLAPSED", "").split():
        with (pathlib.Path(value("--output-dir")) / "metrics.jsonl").open("a") as file:
            for step in (7, 8):
                print(json.dumps({"step": step, "context": "train_step", "health": "uniform collapse",
                                  "images_per_second": 8.0}), file=file)
        sys.exit(3)
'''


class Real(NamedTuple):
    """A study that was made for real."""

    out: Path
    printed: str
    said: str
    record: dict[str, Any]
    run: Path


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, tiny: dict[str, Any]) -> Real:
    """One seed of a tiny recipe on a fold of drawn crops, as a user calls for it."""
    folder = tmp_path_factory.mktemp("study")
    flags = {key: value for key, value in tiny.items() if key not in ("epochs", "num_workers", "device")}
    recipe = shlex.join(word for key, value in flags.items() for word in (f"--{key.replace('_', '-')}", str(value)))
    done = subprocess.run(
        [
            sys.executable, str(QUALITY), "--data", DATA, "--recipe", f"tiny={recipe}", "--steps", "5", "--sweep", "1",
            "--folds", "2", "--out", "results.jsonl", "--table", "--curves", "curves.svg", "--keep-runs",
        ],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    out = folder / "results.jsonl"
    (line,) = out.read_text().splitlines()
    (run,) = folder.glob("results-work/runs/*/run")
    return Real(out, done.stdout, done.stderr, json.loads(line), run)


def test_a_study_trains_and_judges_the_recipe_on_signers_that_it_has_not_seen(real: Real) -> None:
    record, evaluation = real.record, json.loads(next(real.run.glob("evaluations/*.json")).read_text())
    assert (record["data"], record["recipe"], record["seed"], record["fold"]) == (DATA, "tiny", 0, "1/2")
    assert (record["budget"], record["status"], record["val_read"]) == ("5 steps", "done", False)
    params = json.loads((real.run / "params.json").read_text())
    signers = [{path.name[:8] for path in Path(folder).rglob("*.jpg")} for folder in (
        *params["train_dirs"], params["settings"]["evaluation"]["val_dir"])]  # fmt: skip
    assert signers[0]
    assert signers[1]
    assert not signers[0] & signers[1]
    drawn = {path.name[:8] for path in real.out.parent.glob("results-work/drawn/*/train/*/*.jpg")}
    assert signers[0] | signers[1] == drawn
    found = {(row["features"], row["method"]): row for row in evaluation["results"]}
    for suffix, features in {"": "trained", "_untrained": "untrained", "_pixels": "raw pixels"}.items():
        for name, method in {"knn": "knn", "probe": "linear"}.items():
            assert record[f"{name}{suffix}"] == found[features, method]["accuracy"]
            assert record[f"{name}_balanced{suffix}"] == found[features, method]["balanced_accuracy"]
    assert evaluation["checkpoint"] == "checkpoint_last.pt"
    assert evaluation["train_dirs"] == [str(folder) for folder in params["train_dirs"]]


def test_its_length_and_curve_are_those_of_the_run(real: Real) -> None:
    record, metrics = real.record, list(read_metrics(real.run))
    evaluations = [each for each in metrics if each["context"] == "eval"]
    assert record["steps"] == 5
    assert 5 % (record["num_train"] // 8)  # which is inside an epoch
    assert record["images_seen"] == 8 * record["steps"]
    assert [point["knn"] for point in record["curve"]] == [each["knn"] for each in evaluations]
    assert [point["images"] for point in record["curve"]] == [8 * each["step"] for each in evaluations]
    assert record["curve"][-1]["knn"] == pytest.approx(record["knn"])  # measured twice, by two commands
    assert record["curve"][0]["knn"] == pytest.approx(record["knn_untrained"])
    assert record["rankme"] == evaluations[-1]["rankme"]
    assert record["best_knn_chosen_on_held_out"] == max(each["knn"] for each in evaluations)
    assert record["train_seconds"] == pytest.approx(60 * record["curve"][-1]["minutes"])
    assert 0 < record["train_seconds"] < record["process_seconds"]
    assert record["environment"] == json.loads((real.run / "params.json").read_text())["environment"]


def test_it_prints_a_table_and_what_harm_was_done_and_draws_curves(real: Real) -> None:
    assert f"**{DATA}, 5 steps, folds inside train**" in real.printed
    assert f"| tiny | 1 | {100 * real.record['knn']:.1f} |" in real.printed
    assert f"{DATA}, 5 steps, tiny: 1 runs, 0 collapsed" in real.printed
    assert (real.out.parent / "curves.svg").read_text().startswith("<svg")
    assert "1 runs, 0 of them made before" in real.said


def test_training_time_is_what_the_records_say_of_their_steps(tmp_path: Path) -> None:
    lines = [
        {"step": 0, "context": "eval", "knn": 0.1, "rankme": 2.0},
        {"step": 4, "context": "train_step", "images_per_second": 16.0, "health": "starting"},  # 4 * 8 / 16 = 2 s
        {"step": 6, "context": "train_step", "images_per_second": 4.0, "health": "uniform collapse"},  # 2 * 8 / 4 = 4 s
        {"step": 6, "context": "eval", "knn": 0.2, "rankme": 3.0},
        {"step": 10, "context": "train_step", "images_per_second": 32.0, "health": "healthy"},  # 4 * 8 / 32 = 1 s
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    found = history_of(tmp_path, images_per_step=8)
    assert (found.steps, found.images, found.seconds, found.health) == (10, 80, 7.0, "healthy")
    assert found.collapse_found
    assert found.moments == [(0, 0, 0.0, 0.1, 2.0), (6, 48, 0.1, 0.2, 3.0)]


@pytest.mark.parametrize("steps", [1, 5, 7, 300, 12_345])
@pytest.mark.parametrize("per_epoch", [1, 3, 38, 997])
def test_a_budget_of_steps_is_as_many_to_the_step(steps: int, per_epoch: int, tmp_path: Path) -> None:
    (job,) = (job._replace(budget=Budget(1, steps=steps)) for job in jobs_of(tmp_path, 1))
    flag, epochs = _length(job, Plan(8, per_epoch, 0))
    settings = PretrainSettings.model_validate({"train_dir": "crops", "epochs": epochs, "dataset": {"batch_size": 8}})
    assert (flag, plan(settings, num_images=8 * per_epoch).total_steps) == ("--epochs", steps)


@pytest.fixture
def material(tmp_path: Path, real: Real) -> Path:
    """What the quick program answers with."""
    folder = tmp_path / "material"
    shutil.copytree(real.run, folder / "run")
    shutil.copy(next(real.run.glob("evaluations/*.json")), folder / "evaluation.json")
    settings = json.loads((real.run / "params.json").read_text())["settings"]
    (folder / "settings.json").write_text(json.dumps({"//": {}, **settings}))
    (folder / "stub.py").write_text(STUB)
    (folder / "trained.txt").touch()
    return folder


def commands_of(material: Path) -> Commands:
    return Commands(1, program=(sys.executable, str(material / "stub.py"), str(material)))


def jobs_of(folder: Path, seeds: int, flags: tuple[str, ...] = ()) -> list[Job]:
    source, part = Source("crops", folder, "hands", "", "f1"), Part("1/2", folder / "t", folder / "v", 24, 8)
    return [Job(source, part, Recipe("tiny", flags), seed, Budget(1, steps=6)) for seed in range(seeds)]


@pytest.fixture
def make(tmp_path: Path, material: Path) -> Callable[..., int]:
    """`make(3)` makes a study of three seeds with the quick program; the number that failed."""

    def make(seeds: int, *, at_once: int = 1, flags: tuple[str, ...] = (), **options: Any) -> int:
        commands = options.pop("commands", None) or commands_of(material)
        out, runs = tmp_path / "results.jsonl", tmp_path / "runs"
        options = {"retry": False, "keep": False, **options}
        return study(jobs_of(tmp_path, seeds, flags), commands, out, runs, num_at_once=at_once, **options)

    return make


def trained(material: Path) -> list[str]:
    return sorted((material / "trained.txt").read_text().split())


def status(out: Path) -> dict[int, str]:
    return {record["seed"]: record["status"] for record in recorded(out).values()}


def test_a_killed_study_goes_on_where_it_was(tmp_path: Path, material: Path, make: Callable[..., int]) -> None:
    script = f"""
import sys; sys.path[:0] = {[str(QUALITY.parent), str(Path(__file__).parent)]!r}
from pathlib import Path
from test_quality import commands_of, jobs_of, study
folder, commands = Path({str(tmp_path)!r}), commands_of(Path({str(material)!r}))
study(jobs_of(folder, 3), commands, folder / "results.jsonl", folder / "runs", num_at_once=1, retry=False, keep=False)
"""
    killed = subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "SLOW": "1"}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    out, until = tmp_path / "results.jsonl", time.monotonic() + 60
    while trained(material) != ["0", "1"] and killed.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    assert trained(material) == ["0", "1"], killed.communicate()[1]
    os.killpg(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    killed.communicate()
    before = out.read_bytes()
    assert status(out) == {0: "done"}
    assert len(list((tmp_path / "runs").iterdir())) == 1  # the one at work

    with out.open("ab") as file:
        file.write(b'{"data": "crops", "rec')  # what a full disk may leave
    assert make(3) == 0
    assert out.read_bytes().startswith(before)
    assert status(out) == {0: "done", 1: "done", 2: "done"}
    assert trained(material) == ["0", "1", "1", "2"]
    assert make(3) == 0
    assert trained(material) == ["0", "1", "1", "2"]


def test_a_failed_run_is_recorded_with_its_error_and_tried_again_when_asked(
    tmp_path: Path, material: Path, make: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "results.jsonl"
    monkeypatch.setenv("BROKEN", "1")
    assert make(3, at_once=2) == 1
    assert status(out) == {0: "done", 1: "failed", 2: "done"}
    (failed,) = (record for record in recorded(out).values() if record["seed"] == 1)
    assert failed["error"] == "error: broken on purpose"
    assert not list((tmp_path / "runs").iterdir())
    monkeypatch.delenv("BROKEN")
    assert make(3) == 0
    assert trained(material) == ["0", "1", "2"]
    assert make(3, retry=True) == 0
    assert trained(material) == ["0", "1", "1", "2"]
    assert status(out) == {0: "done", 1: "done", 2: "done"}


def test_a_run_that_its_collapse_ended_is_a_result_and_says_so(
    tmp_path: Path, make: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLAPSED", "0")
    assert make(2) == 0
    one, other = recorded(tmp_path / "results.jsonl").values()
    assert (one["status"], one["ended_by_collapse"], one["collapse_found"]) == ("done", True, True)
    assert one["health"] == "uniform collapse"
    assert "knn" in one
    assert (other["ended_by_collapse"], other["collapse_found"]) == (False, False)


def test_a_run_that_is_asked_to_stop_is_no_result(
    tmp_path: Path, material: Path, make: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW", "1")
    commands = commands_of(material)

    def end() -> None:
        while trained(material) != ["0", "1"]:
            time.sleep(0.02)
        commands.end()

    watcher = threading.Thread(target=end)
    watcher.start()
    with pytest.raises(InterruptedStudyError):
        make(2, commands=commands)
    watcher.join()
    assert status(tmp_path / "results.jsonl") == {0: "done"}
    with pytest.raises(InterruptedStudyError):
        commands.run("evaluate")


@pytest.mark.parametrize("change", ["flags", "images"])
def test_results_of_another_recipe_or_of_other_images_are_not_mixed(
    change: str, tmp_path: Path, make: Callable[..., int]
) -> None:
    make(1)
    out = tmp_path / "results.jsonl"
    if change == "images":
        record = json.loads(out.read_text())
        out.write_text(json.dumps({**record, "images": "others"}) + "\n")
    with pytest.raises(SettingsError, match="results of another"):
        make(2, flags=("--koleo-weight", "1") if change == "flags" else ())


def test_a_file_that_holds_no_results_is_left_alone(tmp_path: Path, make: Callable[..., int]) -> None:
    out = tmp_path / "results.jsonl"
    for content in ("one line without an end", "# Notes\n\nof mine\n", '{"step": 1}\n'):
        out.write_text(content)
        with pytest.raises(SettingsError, match="no file of results"):
            make(1)
        assert out.read_text() == content


def test_a_working_folder_has_one_study_at_a_time(real: Real) -> None:
    work = real.out.parent / "other-work"
    with held(work), pytest.raises(RunInUseError, match="another study"), held(work):
        pass


def test_what_a_killed_study_left_is_removed_but_never_a_run_that_is_still_at_work(tmp_path: Path) -> None:
    run = tmp_path / "work" / "runs" / "tiny-x1" / "run"
    run.mkdir(parents=True)
    lock = FolderLock(run / ".sltdino.lock")
    with pytest.raises(RunInUseError, match="still at work"), held(tmp_path / "work"):
        pass
    assert run.exists()
    lock.release()
    with held(tmp_path / "work"):
        assert not list((tmp_path / "work" / "runs").iterdir())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--recipes laptop", "--minutes or --steps"),
        ("--recipes laptop --minutes 1 --steps 3", "--minutes or --steps"),
        ("--steps 3 --recipes ,", "a study needs --data, and --recipes"),
        ("--recipes nonesuch --steps 3", "no recipe 'nonesuch'"),
        ("--recipe mine='--koleo-weight -1' --steps 3", "recipe mine on crops: error: --koleo-weight"),
    ],
)
def test_a_wrong_call_ends_before_anything_runs(flags: str, said: str, draw: Any, tmp_path: Path) -> None:
    for label in "ab":
        draw(tmp_path / "crops" / "train" / label, 4, seed=ord(label))
    command = [sys.executable, str(QUALITY), "--data", "crops", "--out", "results.jsonl", *shlex.split(flags)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "results.jsonl").exists()
