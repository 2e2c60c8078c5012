"""What a run leaves in its folder: the names and keys that other tools read (COMPAT.md 1.3)."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from sltdino import load_settings
from sltdino.core.run_files import load_checkpoint
from sltdino.core.settings import AugmentationSettings
from sltdino.errors import RunFolderError
from tools.compare_runs import first_difference


def strict(text: str) -> Any:
    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def params(finished_once: Path) -> Any:
    return strict((finished_once / "params.json").read_text("utf-8"))


@pytest.fixture
def metrics(finished_once: Path) -> list[dict[str, Any]]:
    return [strict(line) for line in (finished_once / "metrics.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture
def artifacts(finished_once: Path) -> Any:
    return strict((finished_once / "artifacts.json").read_text("utf-8"))


def in_context(metrics: list[dict[str, Any]], context: str) -> list[dict[str, Any]]:
    return [record for record in metrics if record["context"] == context]


def test_the_folder_holds_these_files(finished_once: Path) -> None:
    assert {path.name for path in finished_once.iterdir()} == {
        "params.json", "metrics.jsonl", "artifacts.json", "status.json", "bad_images.jsonl", ".sltdino.lock",
        "checkpoint_last.pt", "checkpoint_prev.pt", "checkpoint_best.pt",
    }  # fmt: skip


def test_params_has_the_keys_of_the_old_scripts(params: Any, pictures: Path, finished_once: Path) -> None:
    flat = ("algorithm", "stream", "train_dirs", "output_dir", "epochs", "seed")
    assert [params[key] for key in flat] == ["dino", "hand", [str(pictures)], str(finished_once), 2, 42]
    assert params["optimizer"].keys() == {"learning_rate", "weight_decay", "warmup_epochs"}
    assert params["teacher_momentum"].keys() == {"base", "final"}
    assert params["dataset"].keys() >= {"batch_size", "num_workers", "shuffle", "pin_memory", "persistent_workers"}
    assert params["augmentation"].keys() == AugmentationSettings.model_fields.keys()
    assert params["backbone"] == {
        "image_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 4.0,
    }  # fmt: skip
    assert params["checkpointing"] == {
        "best": "checkpoint_best.pt", "last": "checkpoint_last.pt", "history_file": "metrics.jsonl",
    }  # fmt: skip


def test_params_has_no_automatic_value_where_a_number_was_used(params: Any) -> None:
    used = (params["optimizer"], params["teacher_momentum"], params["backbone"])
    assert all(isinstance(value, int | float) for section in used for value in section.values())


def test_params_leaves_empty_values_out(params: Any) -> None:
    assert params.keys().isdisjoint({"experiment", "config_file", "resume", "export_backbone"})


def test_params_has_what_was_given(train: Any, tmp_path: Path) -> None:
    flags = {"experiment.name": "first", "experiment.tags": ["a", "b"], "export_backbone": str(tmp_path / "b.pt")}
    params = strict((train(epochs=1, **flags).run_dir / "params.json").read_text())
    assert params["experiment"] == {"name": "first", "tags": ["a", "b"]}
    assert params["export_backbone"] == str(tmp_path / "b.pt")


def test_params_reproduces_the_run(params: Any, finished_once: Path, train: Any, tmp_path: Path) -> None:
    flags = {**params["settings"], "output_dir": str(tmp_path / "again")}
    from sltdino import pretrain

    pretrain(load_settings(flags=flags).settings)
    assert first_difference(finished_once, tmp_path / "again") == ""


def test_params_says_where_values_came_from(params: Any) -> None:
    origins = params["origins"]
    names = ("epochs", "stream", "optimizer.learning_rate")
    assert [origins[name] for name in names] == ["--epochs", "preset hands", "auto: 8 images per step"]


@pytest.mark.parametrize("file", ["params.json", "artifacts.json", "metrics.jsonl", "status.json"])
def test_every_time_is_iso_8601_in_utc(file: str, finished_once: Path) -> None:
    def timestamps(value: Any) -> list[str]:
        if isinstance(value, dict):
            inner = [time for item in value.values() for time in timestamps(item)]
            return [value["timestamp"], *inner] if "timestamp" in value else inner
        return [time for item in value for time in timestamps(item)] if isinstance(value, list) else []

    text = (finished_once / file).read_text()
    found = timestamps([strict(line) for line in text.splitlines()] if file.endswith("l") else strict(text))
    assert found
    assert all(datetime.fromisoformat(time).utcoffset().total_seconds() == 0 for time in found)  # type: ignore[union-attr]


def test_every_step_is_a_record(metrics: list[dict[str, Any]]) -> None:
    steps = in_context(metrics, "train_step")
    assert [(row["step"], row["epoch"], row["epoch_step"]) for row in steps] == [
        (1, 1, 1), (2, 1, 2), (3, 1, 3), (4, 2, 1), (5, 2, 2), (6, 2, 3),
    ]  # fmt: skip
    assert all(isinstance(row["loss"], float) for row in steps)


def test_the_loss_of_an_epoch_is_the_mean_of_its_steps(metrics: list[dict[str, Any]]) -> None:
    losses = [row["loss"] for row in in_context(metrics, "train_step")]
    epochs = in_context(metrics, "train_epoch")
    assert [(row["step"], row["epoch"]) for row in epochs] == [(3, 1), (6, 2)]
    assert [row["loss"] for row in epochs] == pytest.approx([sum(losses[:3]) / 3, sum(losses[3:]) / 3])


def test_a_best_epoch_is_a_record(metrics: list[dict[str, Any]], finished_once: Path) -> None:
    best = in_context(metrics, "train_best")[-1]
    assert best["epoch"] == load_checkpoint(finished_once, which="best").state["progress"]["epoch"]
    assert best["loss"] == in_context(metrics, "train_epoch")[best["epoch"] - 1]["loss"]


def test_artifacts_are_a_list_with_one_entry_a_name(artifacts: Any, finished_once: Path) -> None:
    assert [entry["name"] for entry in artifacts] == ["checkpoint_last", "checkpoint_best"]
    assert all(entry.keys() == {"name", "path", "timestamp", "metadata"} for entry in artifacts)
    assert [entry["path"] for entry in artifacts] == [
        str(finished_once / f"checkpoint_{which}.pt") for which in ("last", "best")
    ]
    assert artifacts[0]["metadata"]["epoch"] == 2
    assert all(isinstance(entry["metadata"]["loss"], float) for entry in artifacts)


def test_names_can_be_chosen(train: Any) -> None:
    names = {"checkpoint_last_name": "l.pt", "checkpoint_best_name": "b.pt", "checkpoint_history_file": "h.jsonl"}
    run = train(**names).run_dir
    assert {path.name for path in run.glob("*.pt")} == {"l.pt", "l_prev.pt", "b.pt"}
    assert (run / "h.jsonl").stat().st_size
    assert not (run / "metrics.jsonl").exists()


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(train: Any, finished: Path) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    with pytest.raises(RunFolderError, match="--overwrite"):
        train("finished")
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_a_folder_with_files_of_others_is_taken_with_a_warning_that_counts_them(
    train: Any, recorder: Any, tmp_path: Path
) -> None:
    (tmp_path / "run" / "thesis").mkdir(parents=True)
    (tmp_path / "run" / "a.txt").write_text("mine")
    reporter, alone = recorder(), recorder()
    train(reporter=reporter, epochs=1)
    train("alone", reporter=alone, epochs=1)
    [warning] = [line for line in reporter.said if line.startswith("warning: ")]
    assert "run: holds 2 other files or folders, such as 'a.txt'" in warning
    assert not any(line.startswith("warning: ") for line in alone.said)
    assert (tmp_path / "run" / "a.txt").read_text() == "mine"


def test_overwrite_starts_again(train: Any, finished: Path, finished_once: Path) -> None:
    assert train("finished", overwrite=True, epochs=1).steps == 3
    rows = (finished / "metrics.jsonl").read_text().splitlines()
    assert max(strict(row)["step"] for row in rows) == 3
    assert first_difference(finished_once, finished) != ""


def test_two_runs_of_the_same_settings_are_equal(train: Any, finished_once: Path) -> None:
    assert first_difference(finished_once, train().run_dir) == ""
