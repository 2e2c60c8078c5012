"""What `sltdino inspect` says about a run folder, in whatever state it is."""

import json
from pathlib import Path
from typing import Any

import pytest

from sltdino.cli import app
from sltdino.core import json_files
from sltdino.core.run_files import read_metrics
from sltdino.errors import MissingInputError, RunFolderError, StoppedError
from sltdino.pretraining import resume
from sltdino.report.summary import summarize
from sltdino.report.text import run_page
from sltdino.report.text.plots import UNICODE


def page(run: Path) -> str:
    return run_page.render(summarize(run), UNICODE)


def words(run: Path) -> str:
    """The page without its line breaks."""
    return " ".join(page(run).split())


def test_a_finished_run_is_described(finished: Path) -> None:
    summary = summarize(finished)
    assert summary["what"]["text"] == "dino on 24 images of hand; ViT of width 16, depth 2, patch 8 at 16 px"
    assert summary["state"] == "done"
    assert summary["progress"] | {"seconds": None} == {
        "step": 6, "total_steps": 6, "epoch": 2, "epochs": 2, "finished_epochs": 2, "saved_step": 6,
        "images_seen": 6 * 8, "seconds": None,
    }  # fmt: skip
    assert summary["progress"]["seconds"] > 0
    assert summary["health"]["verdict"] == "starting"  # 6 steps are too few to judge
    assert summary["speed"]["images_per_second"] > 0
    assert summary["speed"]["eta_seconds"] is None


def test_its_losses_are_those_of_the_epochs(finished: Path) -> None:
    losses = [row["loss"] for row in read_metrics(finished) if row["context"] == "train_epoch"]
    assert summarize(finished)["loss"]["epochs"] == losses
    assert f"{losses[0]:.3f} -> {losses[1]:.3f} (ln 32 = 3.47, as guessing has it, is dotted)" in words(finished)


def test_its_files_are_listed_with_their_sizes(finished_once: Path) -> None:
    files = {file["name"]: file for file in summarize(finished_once)["files"]}
    assert files.keys() == {"checkpoint_last", "checkpoint_best"}
    size = (finished_once / "checkpoint_last.pt").stat().st_size
    assert files["checkpoint_last"]["megabytes"] == pytest.approx(size / 1e6)


def test_a_folder_counts_with_all_that_is_in_it(finished: Path) -> None:
    (finished / "hf" / "sub").mkdir(parents=True)
    for name, size in (("a", 3_000_000), ("sub/b", 300_000)):
        (finished / "hf" / name).write_bytes(bytes(size))
    artifact = {"name": "exported_hf", "path": str(finished / "hf"), "metadata": {}}
    (finished / "artifacts.json").write_text(json.dumps([artifact]))
    assert "file exported_hf 3.3 MB" in words(finished)


def test_a_healthy_run_is_called_so_once(finished: Path) -> None:
    rows = [row | {"loss_gap": 1.0} for row in read_metrics(finished)]  # its loss is far below that of guessing
    (finished / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert page(finished).splitlines().count("health       healthy") == 1


def test_a_moved_run_finds_its_files(finished: Path, tmp_path: Path, train: Any) -> None:
    run = train("before").run_dir
    run.rename(tmp_path / "after")
    [last, _] = summarize(tmp_path / "after")["files"]
    assert (last["path"], last["exists"]) == (str(tmp_path / "after" / "checkpoint_last.pt"), True)


def test_accuracies_are_shown_with_what_to_compare_them_with(train: Any, draw: Any, tmp_path: Path) -> None:
    for label in ("a", "b"):
        draw(tmp_path / "val" / label, 4, seed=ord(label))
    result = train(val_dir=str(tmp_path / "val"), eval_every=1)
    knn = summarize(result.run_dir)["knn"]
    assert (knn["last"], knn["untrained"], knn["raw_pixels"]) == (result.knn, result.knn_untrained, result.knn_pixels)
    assert len(knn["curve"]) == 3
    assert knn["best"] == result.best["value"] == max(knn["curve"][1:])
    assert f"k-NN {result.knn:.1%} (untrained {result.knn_untrained:.1%}" in words(result.run_dir)


def test_the_best_accuracy_is_one_of_a_trained_epoch(finished: Path) -> None:
    def evaluated(*accuracies: float) -> str:
        rows = [{"step": 3 * epoch, "context": "eval", "epoch": epoch, "knn": knn, "knn_pixels": 0.1}
                for epoch, knn in enumerate(accuracies)]  # fmt: skip
        (finished / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return words(finished)

    assert "k-NN 20.0% (untrained 24.0%, raw pixels 10.0%, dotted, best 21.0%); worse" in evaluated(0.24, 0.21, 0.20)
    assert "k-NN 24.0% (untrained 24.0%, raw pixels 10.0%) " in evaluated(0.24)


def test_evaluations_without_labels_are_no_accuracies(finished: Path, draw: Any, tmp_path: Path) -> None:
    assert summarize(finished)["knn"]["curve"] == []
    assert "not measured: give labelled images" in words(finished)
    for label in ("a", "b"):
        draw(tmp_path / "val" / label, 3, seed=ord(label))
    result = resume(finished, flags={"epochs": 3, "val_dir": str(tmp_path / "val")})
    assert summarize(finished)["knn"]["curve"] == [result.knn]


@pytest.mark.parametrize(
    ("healths", "text"),
    [
        (["uniform collapse", "uniform collapse"], "no epoch has finished without collapse"),
        (["uniform collapse", "healthy"], "no epoch was judged that did not look collapsed"),
    ],
)
def test_a_run_without_a_best_epoch_says_why(finished: Path, healths: list[str], text: str) -> None:
    rows = [{"step": 3, "context": "train_epoch", "loss": 3.0, "health": health} for health in healths]
    (finished / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert f"best none: {text}" in words(finished)


def test_a_run_that_goes_on_is_read_without_its_lock(train: Any, recorder: Any, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    class Looking(recorder):  # type: ignore[misc]
        def step(self, step: int, total_steps: int, metrics: Any) -> None:
            seen.append(summarize(tmp_path / "run"))

    train(reporter=Looking())
    assert [(summary["state"], summary["progress"]["step"]) for summary in seen] == [
        ("running", step) for step in range(1, 7)
    ]
    assert seen[1]["speed"]["eta_seconds"] > 0
    assert "no epoch finished yet" in run_page.render(seen[1], UNICODE)


def test_a_stopped_run_says_how_to_go_on(train: Any, recorder: Any, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        train(reporter=recorder(stop_at=2))
    assert f"stopped: SIGTERM at step 2 of 6; saved. Continue with: sltdino resume {tmp_path / 'run'}" in words(
        tmp_path / "run"
    )


def test_a_killed_run_is_not_said_to_be_running(finished: Path) -> None:
    status = json.loads((finished / "status.json").read_text())
    (finished / "status.json").write_text(json.dumps(status | {"state": "running"}))
    summary = summarize(finished)
    assert summary["state"] == "interrupted"
    assert summary["message"].endswith(f"sltdino resume {finished}")


def test_a_torn_last_line_is_counted_and_does_not_hide_the_rest(finished: Path) -> None:
    with (finished / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "context": "train_st')
    summary = summarize(finished)
    assert summary["unreadable_records"] == 1
    assert "unreadable 1 line of the metrics is torn or damaged" in words(finished)
    assert summary["progress"]["step"] == 6


def test_a_number_that_was_not_finite_does_not_stop_it(finished: Path) -> None:
    with (finished / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "context": "train_step", "epoch": 3, "loss": null, "loss_gap": null}\n')
    assert summarize(finished)["health"]["verdict"] == "not measured yet"
    page(finished)


def test_a_run_before_its_first_record_is_described(finished: Path) -> None:
    for name in ("metrics.jsonl", "artifacts.json", "status.json"):
        (finished / name).unlink()
    text = words(finished)
    assert "no step logged yet" in text
    assert "best none: no epoch has finished" in text


def test_a_run_of_the_old_scripts_is_described(finished: Path) -> None:
    params = json.loads((finished / "params.json").read_text())
    for key in ("settings", "images", "total_steps", "origins", "environment"):
        del params[key]
    (finished / "params.json").write_text(json.dumps(params))
    (finished / "status.json").unlink()
    text = words(finished)
    assert "dino on images of hand" in text
    assert "step 6, epoch 2 of 2" in text


def test_bad_images_and_notices_are_shown(finished: Path) -> None:
    notice = {"text": "a fallback", "timestamp": "", "count": 2}
    (finished / "status.json").write_text(json.dumps({"state": "done", "bad_images": 3, "notices": [notice]}))
    text = words(finished)
    assert "3 images that cannot be read" in text
    assert "notice a fallback" in text


def test_terminal_escapes_in_names_and_messages_are_spelt_out(finished: Path) -> None:
    evil = "\x1b[31m\x07\u202e\nrun  /etc/passwd"
    params = json.loads((finished / "params.json").read_text())
    params["experiment"], params["stream"] = {"name": evil}, evil
    (finished / "params.json").write_text(json.dumps(params))
    (finished / "status.json").write_text(json.dumps({"state": evil, "message": evil}))
    (finished / "artifacts.json").write_text(json.dumps([{"name": evil, "path": evil, "metadata": {}}]))
    text = words(finished)
    assert text.count(r"\x1b[31m\x07\u202e\nrun /etc/passwd") == 6
    assert all(character.isprintable() for line in page(finished).split("\n") for character in line)


def test_json_is_strict_and_the_same_facts(finished: Path, capsys: Any) -> None:
    def refuse(token: str) -> None:
        raise AssertionError(token)

    assert app.main(["inspect", str(finished), "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out, parse_constant=refuse) == json.loads(json.dumps(summarize(finished)))


def test_inspect_changes_nothing(finished: Path) -> None:
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in finished.iterdir()}
    page(finished)
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in finished.iterdir()} == before


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no run folder \(it has no params\.json\); name the folder of a run"):
        summarize(tmp_path)
    (tmp_path / "params.json").write_text("[]")
    with pytest.raises(RunFolderError, match=r"params\.json"):
        summarize(tmp_path)


def test_a_folder_of_images_is_named_as_one(pictures: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no run folder \(it has no params\.json\); it holds images"):
        summarize(pictures)


def test_a_killed_run_without_a_checkpoint_is_not_said_to_be_resumable(finished: Path) -> None:
    for path in finished.glob("*.pt"):
        path.unlink()
    (finished / "status.json").write_text('{"state": "running"}')
    assert summarize(finished)["message"].endswith("it had no checkpoint yet, so start it again, with --overwrite")


def test_a_folder_of_another_program_s_params_is_named(tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text('{"timestamp": "2024-01-01", "learning_rate": 0.1}')
    with pytest.raises(RunFolderError, match=r"params\.json: has no 'algorithm', so it is of no run"):
        summarize(tmp_path)


def test_a_page_says_what_is_wrong_since_when_and_what_has_passed(finished: Path) -> None:
    rows = [
        {"step": step, "context": "train_step", "epoch": 1, "health": "healthy", "loss_gap": 1.0, "target_entropy": 1.0,
         "loss": 30.0 if 300 <= step < 305 else 2.0, "data_wait": 0.9 if step > 500 else 0.0}
        for step in range(1, 601)
    ]  # fmt: skip
    (finished / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    [finding] = summarize(finished)["health"]["findings"]
    text = words(finished)
    assert f"health starved loader: {finding['text']}" in text
    assert f"-> {finding['remedy']}" in text
    assert "past loss spike at step 300, gone by 305" in text
    assert f"; starved loader since step {finding['since_step']}" in text  # in the verdict


def test_measures_without_labels_are_shown_from_start_to_now(finished: Path) -> None:
    rows = [{"step": 3 * at, "context": "eval", "epoch": at, "rankme": 10.0 * at + 5, "sample": "s"} for at in range(4)]
    (finished / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "label-free rankme 5 -> 35 ▁▃▆█" in words(finished)
    with (finished / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 12, "context": "eval", "epoch": 4, "rankme": 7.0, "sample": "other"}) + "\n")
    assert "label-free rankme 7 health" in words(finished)  # on other images nothing compares


def test_the_newest_stored_evaluation_is_a_small_table(finished: Path) -> None:
    def result(features: str, accuracy: float, **method: Any) -> dict[str, Any]:
        return {"features": features, "accuracy": accuracy, "accuracy_interval": [accuracy - 0.1, accuracy + 0.1],
                "balanced_accuracy": accuracy, "balanced_accuracy_interval": [0.1, 0.9], **method}  # fmt: skip

    record = {
        "schema": 1, "timestamp": "2026-01-01T00:00:00Z", "backbone": "b", "checkpoint": "checkpoint_best.pt",
        "step": 6, "train_dirs": [], "val_dirs": [], "labels": ["a", "b"], "train_counts": [5, 5], "val_counts": [3, 4],
        "groups": None, "protocol": "p", "confusion": {}, "per_class": [], "gains": [], "notes": [], "bad_images": [],
        "results": [result("trained", 0.5, method="knn", k=20), result("untrained", 0.3, method="knn", k=20),
                    result("trained", 0.6, method="linear"), result("raw pixels", 0.2, method="linear")],
    }  # fmt: skip
    (finished / "evaluations").mkdir()
    (finished / "evaluations" / "old-0123456789ab.json").write_text(json.dumps(record | {"timestamp": "2025"}))
    (finished / "evaluations" / "new-0123456789ab.json").write_text(json.dumps(record))
    text = words(finished)
    assert "evaluated checkpoint_best.pt at step 6: 7 images of 2 labels; 1 older in evaluations/" in text
    assert "20-NN 50.0% (40.0% to 60.0%); untrained 30.0%" in text
    assert "linear probe 60.0% (50.0% to 70.0%); raw pixels 20.0%" in text


def test_a_page_has_80_columns_apart_from_paths_and_commands(finished: Path) -> None:
    lines = page(finished).split("\n")
    assert max(len(line) for line in lines if str(finished.parent.parent) not in line) <= 80
    assert lines[1].startswith("verdict      ")


@pytest.mark.parametrize("value", ["1e999", "-1e999", "1" + "0" * 400, "[]", "{}", "true", '"x"', "null"])
def test_records_that_no_run_wrote_are_passed_over(finished: Path, value: str) -> None:
    fields = ("epoch", "loss", "knn", "rankme", "metric", "value", "timestamp", "health", "loss_gap", "data_wait")
    rows = [
        "{" + "".join(f'"{field}": {value}, ' for field in fields) + f'"step": {step}, "context": "{context}"}}\n'
        for context in ("train_step", "train_epoch", "train_best", "eval", "resume")
        for step in ("7", "1" + "0" * 400)
    ]
    with (finished / "metrics.jsonl").open("a") as file:
        file.writelines(rows)
    facts = summarize(finished)
    assert facts["unreadable_records"] >= 5
    assert facts["progress"]["step"] in (6, 7)
    json_files.dumps(facts)
