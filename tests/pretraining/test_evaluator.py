"""Evaluation while training: what is recorded and said, with labels and without, and that the run goes on as it was."""

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sltdino.core.run_files import load_checkpoint, read_metrics, read_status
from sltdino.core.settings_files import load_settings
from sltdino.data.image_folder import scan
from sltdino.errors import DivergedError, SettingsError, StoppedError
from sltdino.evaluation import label_free_probe
from sltdino.evaluation.label_free_probe import LabelFreeProbe
from sltdino.pretraining import resume
from sltdino.pretraining.evaluator import Evaluator, measures_said
from sltdino.pretraining.probes import build_probes

MEASURES = {"rankme", "rankme_max", "feature_std", "alignment", "uniformity", "sample", "judged_on"}
KNN = {"knn", "knn_pixels", "protocol"}


def evals(run: Path) -> list[dict[str, Any]]:
    return [record for record in read_metrics(run) if record["context"] == "eval"]


def fields(record: dict[str, Any]) -> set[str]:
    return set(record) - {"step", "timestamp", "context", "epoch"}


@pytest.fixture
def labelled(draw: Any, tmp_path: Path) -> str:
    for label in ("a", "b"):
        draw(tmp_path / "val" / label, 4, seed=ord(label))
    return str(tmp_path / "val")


def test_without_validation_images_the_training_images_are_measured_from_the_start(finished_once: Path) -> None:
    rows = evals(finished_once)
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert {frozenset(fields(row)) for row in rows} == {frozenset(MEASURES)}
    assert {row["sample"] for row in rows} == {"24 training images, 24 of them in two views"}
    for row in rows:
        assert 1 <= row["rankme"] <= row["rankme_max"] == 16
        assert 0 < row["feature_std"] <= 1
        assert 0 < row["alignment"] < 4
        assert -8 <= row["uniformity"] < 0
    assert rows[0]["rankme"] != rows[2]["rankme"]


def test_labels_add_k_nn_to_them(train: Any, labelled: str) -> None:
    rows = evals(train(val_dir=labelled).run_dir)
    assert {frozenset(fields(row)) for row in rows} == {frozenset(MEASURES | KNN)}
    assert {row["sample"] for row in rows} == {"8 validation images, 8 of them in two views"}


def test_a_validation_folder_without_labels_is_measured_without_them_and_said(
    train: Any, recorder: Any, draw: Any, tmp_path: Path
) -> None:
    flat, reporter = draw(tmp_path / "flat", 6, seed=9), recorder()
    summary = train(val_dir=str(flat), reporter=reporter)
    assert {frozenset(fields(row)) for row in evals(summary.run_dir)} == {frozenset(MEASURES)}
    assert summary.best["metric"] == "loss"
    assert reporter.said[1] == (
        f"evaluation every epoch: k-NN not measured (no labels, which are sub-folders, in {flat}); "
        "RankMe and others of 6 validation images, 6 of them in two views"
    )


def test_a_single_sub_folder_is_a_mistake_that_is_named(train: Any, draw: Any, tmp_path: Path) -> None:
    draw(tmp_path / "data" / "val" / "a", 2, seed=7)
    draw(tmp_path / "data" / "val" / "b", 2, seed=8)
    with pytest.raises(SettingsError) as caught:
        train(val_dir=str(tmp_path / "data"))
    assert "images in one sub-folder alone, 'val'" in str(caught.value)
    assert str(caught.value).endswith(f"name {tmp_path / 'data' / 'val'}")


def test_clips_add_their_retrieval_beside_that_of_raw_pixels(train: Any, draw: Any, tmp_path: Path) -> None:
    folder = draw(tmp_path / "clips", 24)
    for number in range(24):
        (folder / f"{number}.png").rename(folder / f"video{number // 4}_f{number % 4 * 20:06d}.png")
    rows = evals(train(images=folder, epochs=1).run_dir)
    assert {frozenset(fields(row)) for row in rows} == {
        frozenset(MEASURES | {"clip_retrieval", "clip_retrieval_pixels"})
    }
    assert all(0 <= row["clip_retrieval"] <= 1 for row in rows)
    assert len({row["clip_retrieval_pixels"] for row in rows}) == 1


def test_a_line_says_what_changed_since_the_start(train: Any, recorder: Any) -> None:
    reporter = recorder()
    first, _, last = evals(train(reporter=reporter).run_dir)
    lines = [text for text in reporter.said if text.startswith("epoch ")]
    assert lines[0].startswith(f"epoch 0: RankMe {first['rankme']:.1f} of 16, feature std {first['feature_std']:.2f}")
    assert lines[2].startswith(f"epoch 2: RankMe {first['rankme']:.1f} -> {last['rankme']:.1f} of 16, feature std ")
    assert reporter.said[-2].endswith(f"RankMe {last['rankme']:.0f} of 16, {first['rankme']:.0f} at the start")


def test_what_is_said_names_the_pixels_beside_the_clips() -> None:
    said = measures_said({"clip_retrieval": 0.5}, {"clip_retrieval": 0.25}, clip_pixels=0.75)
    assert said == "same clip 25.0% -> 50.0% (raw pixels 75.0%)"


def test_what_is_looked_at_does_not_depend_on_the_seed_of_the_run(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_free_probe, "MAX_IMAGES", 10)
    flags = {"train_dir": [str(pictures)], "eval_every": 1, "image_size": 16, "vit_embed_dim": 384}
    probes = [
        build_probes(load_settings("hands", flags={**flags, "seed": seed}).settings, scan([pictures]))
        for seed in (1, 2)
    ]
    assert probes[0].label_free.paths == probes[1].label_free.paths
    assert len(probes[0].label_free.paths) == 10


def test_the_evaluations_of_a_resumed_run_are_those_of_an_uninterrupted_one(
    train: Any, recorder: Any, finished_once: Path, tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        train(reporter=recorder(stop_at=4))
    resume(tmp_path / "run")
    mine, whole = (
        [{key: value for key, value in row.items() if key != "timestamp"} for row in evals(run)]
        for run in (tmp_path / "run", finished_once)
    )
    assert mine == whole


def test_other_images_begin_their_own_comparison_and_it_is_said(
    train: Any, recorder: Any, labelled: str, draw: Any, tmp_path: Path
) -> None:
    run = train(val_dir=labelled, epochs=2).run_dir
    before = load_checkpoint(run).state["progress"]
    assert before["best"]["metric"] == "knn"
    for label in ("a", "b"):
        draw(tmp_path / "other" / label, 5, seed=ord(label) + 9)
    reporter = recorder()
    summary = resume(run, flags={"epochs": 3, "val_dir": str(tmp_path / "other")}, reporter=reporter)
    assert (summary.knn_untrained, summary.measures_untrained) == (None, {})
    assert summary.best["epoch"] == 3
    [notice] = [notice["text"] for notice in read_status(run)["notices"] if "other images" in notice["text"]]
    assert notice in reporter.said


def test_a_checkpoint_of_the_first_versions_goes_on(finished: Path) -> None:
    path = finished / "checkpoint_last.pt"
    state = torch.load(path, weights_only=True)
    for key in ("measures", "measures_untrained", "clip_retrieval_pixels", "judged_on"):
        del state["progress"][key]
    torch.save(state, path)
    summary = resume(finished, flags={"epochs": 3})
    assert summary.measures_untrained == {}
    assert summary.measures["rankme"] == evals(finished)[-1]["rankme"]


def test_a_network_whose_features_are_not_finite_ends_the_run_as_diverged(
    train: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    evaluate = Evaluator.evaluate

    def spoil(evaluator: Evaluator, step: int) -> float | None:
        if step == 6:
            with torch.no_grad():
                evaluator.trainer.model.teacher.backbone.norm.bias.fill_(math.nan)
        return evaluate(evaluator, step)

    monkeypatch.setattr(Evaluator, "evaluate", spoil)
    with pytest.raises(DivergedError, match=r"^epoch 2: the teacher's features of training images are not finite"):
        train()
    status = read_status(tmp_path / "run")
    assert (status["state"], status["exit_code"]) == ("failed", 3)
    assert load_checkpoint(tmp_path / "run").state["progress"]["epoch"] == 1


def test_time_for_evaluation_is_no_wait_for_data(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = LabelFreeProbe.measure
    monkeypatch.setattr(LabelFreeProbe, "measure", lambda *given: time.sleep(0.5) or measure(*given))
    steps = [record for record in read_metrics(train().run_dir) if record["context"] == "train_step"]
    after = next(record for record in steps if record["epoch"] == 2)
    assert 8 / after["images_per_second"] < 0.5


def test_unreadable_training_images_of_the_sample_are_recorded_once(train: Any, own_pictures: Path) -> None:
    (own_pictures / "3.png").write_bytes(b"broken")
    run = train(images=own_pictures, dataset_max_bad_fraction=0.05).run_dir
    [record] = [json.loads(line) for line in (run / "bad_images.jsonl").read_text().splitlines()]
    assert (Path(record["path"]).name, record["use"]) == ("3.png", "training")
    assert np.isfinite(evals(run)[-1]["rankme"])
