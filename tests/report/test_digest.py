"""The metrics of a run in one pass: nothing is missed, and nothing is read twice."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sltdino.report import digest as digest_module
from sltdino.report.digest import Digest, Episode
from sltdino.training.health import watch_of

PARAMS = {
    "settings": {"head": {"out_dim": 1024}, "optimizer": {}, "loss": {}, "dataset": {}}, "epochs": 100,
    "total_steps": 10_000, "timestamp": "2026-01-01T10:00:00.000+00:00",
}  # fmt: skip


def step(number: int, **fields: Any) -> dict[str, Any]:
    """A healthy step, a second after the one before."""
    gap = 1.0 + number / 10_000
    record = {
        "step": number, "timestamp": f"2026-01-01T10:{number // 60 % 60:02d}:{number % 60:02d}.000+00:00",
        "context": "train_step", "loss": 6.93 - gap, "loss_gap": gap, "target_entropy": 4.5, "assignment_entropy": 6.9,
        "cosine_to_mean": 0.5, "feature_spread": 0.8, "images_per_second": 100.0, "data_wait": 0.01,
        "health": "healthy",
    }  # fmt: skip
    return record | fields


def write(path: Path, records: list[dict[str, Any]], mode: str = "w") -> None:
    with path.open(mode) as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def read(path: Path, params: dict[str, Any] = PARAMS) -> Digest:
    found = Digest(path, params)
    found.update()
    return found


def spiking(count: int) -> Iterator[dict[str, Any]]:
    """Steps with a loss spike from 400 to 409, with the word that the watch has for each, as training writes it."""
    watch = watch_of(PARAMS)
    assert watch is not None
    for number in range(1, count + 1):
        record = step(number, **({"loss": 20.0} if 400 <= number < 410 else {}))
        findings = watch.feed(number, record)
        yield record | {"health": findings[0].name if findings else "healthy"}


def test_a_spike_that_is_over_is_told_with_its_steps(tmp_path: Path) -> None:
    write(tmp_path / "m.jsonl", list(spiking(600)))
    assert list(read(tmp_path / "m.jsonl").past) == [Episode("loss spike", 400, 410)]


def test_a_finding_in_force_is_that_of_the_watch(tmp_path: Path) -> None:
    records = [step(number, data_wait=0.01 if number < 300 else 0.9) for number in range(1, 401)]
    write(tmp_path / "m.jsonl", records)
    watch = watch_of(PARAMS)
    assert watch is not None
    for record in records:
        expected = watch.feed(record["step"], record)
    assert [finding.name for finding in expected] == ["starved loader"]
    found = read(tmp_path / "m.jsonl")
    assert found.findings == expected
    assert found.since(found.findings[0]) == expected[0].since_step


@pytest.fixture
def long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[dict[str, Any]]], tuple[Digest, Digest]]:
    """The same records read as a history that is watched whole, and as one of which only the end is."""

    def long(records: list[dict[str, Any]]) -> tuple[Digest, Digest]:
        write(tmp_path / "m.jsonl", records)
        whole = read(tmp_path / "m.jsonl")
        monkeypatch.setattr(digest_module, "WATCHED_BYTES", 300_000)
        return whole, read(tmp_path / "m.jsonl")

    return long


def test_of_a_long_history_nothing_but_healthy_steps_is_passed_over(long: Any) -> None:
    records = []
    for record in spiking(4000):
        records.append(record)
        number = record["step"]
        if number % 100 == 0:
            records.append({"step": number, "context": "train_epoch", "epoch": number // 100, "loss": 1 / number})
            records.append({"step": number, "context": "eval", "epoch": number // 100, "knn": number / 1e4})
        if number == 500:
            records.append({"step": number, "context": "resume", "checkpoint": "c.pt", "lr": "1 -> 2"})
            records.append({"step": number, "context": "train_best", "epoch": 5, "loss": 0.1})
    whole, part = long(records)
    assert list(part.past) == list(whole.past) == [Episode("loss spike", 400, 410)]
    for name in ("losses", "evaluations", "best", "resumes", "num_epochs", "step", "findings", "unreadable"):
        assert getattr(part, name) == getattr(whole, name), name
    assert len(part.losses) == len(part.evaluations) == 40
    one, other = (digest.curve("loss") for digest in (whole, part))
    assert np.nanmax(other.high) == 20.0  # a step that was not healthy is never left out
    assert np.interp(2000, other.steps, other.mean) == pytest.approx(np.interp(2000, one.steps, one.mean), abs=0.02)


def test_a_finding_that_lasts_from_before_the_watched_end_keeps_its_beginning(long: Any) -> None:
    records = [
        step(number, data_wait=0.01 if number < 700 else 0.9, health="healthy" if number < 712 else "starved loader")
        for number in range(1, 4001)
    ]
    _, part = long(records)
    assert [finding.name for finding in part.findings] == ["starved loader"]
    assert part.since(part.findings[0]) == 712
    assert list(part.past) == []


@pytest.mark.parametrize("at", [10, 3990])
def test_a_damaged_line_is_counted_wherever_it_is(long: Any, tmp_path: Path, at: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(digest_module, "WATCHED_BYTES", 300_000)
    lines = [json.dumps(step(number)) for number in range(1, 4001)]
    lines[at] = lines[at].replace('"loss": 5', '"loss": 5.5.')
    lines[at + 1] = '{"step": "x"}'
    (tmp_path / "d.jsonl").write_text("\n".join(lines) + '\n{"step": 4001, "con')
    assert read(tmp_path / "d.jsonl").unreadable == 3


def test_records_that_are_appended_are_read_once(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    digest = Digest(path, PARAMS)
    digest.update()  # there is no file yet
    write(path, [step(1), {"step": 1, "context": "train_epoch", "epoch": 1, "loss": 3.0}])
    digest.update()
    assert [record["context"] for record in digest.news if record["context"] != "finding"] == ["train_epoch"]
    write(path, [step(2), {"step": 2, "context": "train_epoch", "epoch": 2, "loss": 2.0}], "a")
    assert digest.update() is False
    assert [record["epoch"] for record in digest.news] == [2]
    assert (digest.losses, digest.step["step"]) == ([3.0, 2.0], 2)
    assert digest.curve("loss").steps.tolist() == [1, 2]
    digest.update()
    assert (list(digest.news), digest.losses) == ([], [3.0, 2.0])


def test_a_history_that_a_resume_has_cut_back_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write(path, [step(number) for number in range(1, 10)])
    digest = read(path)
    later = [{"step": 4, "context": "resume"}, *(step(number, loss=1.5) for number in range(5, 20))]
    write(path, [step(number) for number in range(1, 5)] + later)
    assert digest.update() is True
    assert digest.curve("loss").steps.tolist() == list(range(1, 20))
    assert (digest.step["loss"], len(digest.resumes)) == (1.5, 1)


def test_time_between_an_end_and_its_resume_does_not_count(tmp_path: Path) -> None:
    resume = {"step": 30, "timestamp": "2026-01-02T12:00:00.000+00:00", "context": "resume"}
    last = step(40) | {"timestamp": "2026-01-02T12:00:10.000+00:00"}
    write(tmp_path / "m.jsonl", [step(1), step(30), resume, last])
    assert read(tmp_path / "m.jsonl").seconds() == 30 + 10
    assert Digest(tmp_path / "none.jsonl", PARAMS).seconds() == 0
    assert read(tmp_path / "m.jsonl", PARAMS | {"timestamp": "yesterday"}).seconds() == 10


def test_a_run_of_the_old_scripts_has_no_watch(tmp_path: Path) -> None:
    write(tmp_path / "m.jsonl", [{"step": 1, "context": "train_step", "loss": 3.0}])
    found = read(tmp_path / "m.jsonl", {})
    assert (found.findings, found.step["loss"], found.unreadable) == ((), 3.0, 0)
