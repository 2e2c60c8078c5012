"""`evaluate`: the run's own numbers again, and a record kept with the run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sltdino
from sltdino.core.run_files import read_evaluations, read_metrics
from sltdino.errors import CheckpointError, MissingInputError, SettingsError
from sltdino.evaluation import bootstrap
from sltdino.evaluation.evaluate import EvaluateOptions
from sltdino.pretraining.evaluate import EvaluateReport

LABELS = {"round": 0, "flat": 90, "tall": 180}
OPTIONS = EvaluateOptions(k=(20, 5), shots=(1, 4), device="cpu")


@pytest.fixture(autouse=True)
def few_replicates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are seen elsewhere; here they only take time."""
    monkeypatch.setattr(bootstrap, "REPLICATES", 100)


def paint(folder: Path, count: int, *, seed: int) -> Path:
    """Images with a bright square whose place is the label, in noise of any colour; named after a signer each."""
    rng = np.random.default_rng(seed)
    for label, place in LABELS.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 200, (24, 24, 3))
            row = place // 12
            pixels[row : row + 8] = pixels[row : row + 8] // 2 + rng.integers(0, 90, 3)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"signer{seed}{number // 2}-{number}.png")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, train_in: Callable[..., Any]) -> Path:
    """A folder with `train`, `val` and a finished `run` that measured itself on them; to read only."""
    place = tmp_path_factory.mktemp("evaluated")
    paint(place / "train", 12, seed=1)
    paint(place / "val", 6, seed=2)
    train_in(place / "run", images=place / "train", val_dir=str(place / "val"), eval_every=1)
    return place


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, to change; its images stay where they are."""
    return shutil.copytree(trained / "run", tmp_path / "run")


def measured(run: Path) -> list[dict[str, Any]]:
    return [record for record in read_metrics(run) if record["context"] == "eval"]


def accuracy(report: EvaluateReport, features: str, method: str, k: int | None) -> float:
    [score] = [
        row for row in report.evaluation.results
        if (row.features, row.method.method, row.method.k) == (features, method, k)
    ]  # fmt: skip
    return score.accuracy


def test_the_numbers_of_the_run_itself_come_out_again(own: Path) -> None:
    report = sltdino.evaluate(own, options=OPTIONS)
    first, *_, last = measured(own)
    assert accuracy(report, "trained", "knn", 20) == pytest.approx(last["knn"], abs=1e-10)
    assert accuracy(report, "untrained", "knn", 20) == pytest.approx(first["knn"], abs=1e-10)
    assert accuracy(report, "raw pixels", "knn", 20) == pytest.approx(first["knn_pixels"], abs=1e-10)
    assert report.record["untrained"].startswith("the network the run started from (seed 42, calibrated")


def test_the_record_is_kept_with_the_run_and_replaced_by_the_same_call(own: Path, tmp_path: Path) -> None:
    report = sltdino.evaluate(own, options=OPTIONS, output=tmp_path / "result.json")
    assert report.kept == (*(own / "evaluations").iterdir(), tmp_path / "result.json")
    [kept] = read_evaluations(own)
    assert kept == json.loads((tmp_path / "result.json").read_text())
    again = sltdino.evaluate(own / "checkpoint_last.pt", options=OPTIONS._replace(batch_size=7, num_workers=2))
    assert [found["timestamp"] for found in read_evaluations(own)] == [again.record["timestamp"]]
    assert again.record["results"] == report.record["results"]
    sltdino.evaluate(own, options=OPTIONS._replace(tokens="mean"))
    assert len(read_evaluations(own)) == 2


def test_the_record_has_what_readers_of_it_expect(own: Path, trained: Path) -> None:
    sltdino.evaluate(own, options=OPTIONS)
    [kept] = read_evaluations(own)
    assert (kept["schema"], kept["checkpoint"], kept["step"]) == (1, "checkpoint_last.pt", measured(own)[-1]["step"])
    assert (kept["train_dirs"], kept["val_dirs"]) == ([str(trained / "train")], [str(trained / "val")])
    assert (kept["labels"], kept["train_counts"], kept["val_counts"]) == (sorted(LABELS), [12] * 3, [6] * 3)
    assert kept["groups"] is None
    rows = [(row["features"], row["method"], row["k"], row["shots"], row["temp"]) for row in kept["results"]]
    assert rows[:5] == [
        ("trained", "knn", 20, None, 0.07), ("trained", "knn", 5, None, 0.07), ("trained", "linear", None, None, None),
        ("trained", "few-shot", 1, 1, 0.07), ("trained", "few-shot", 4, 4, 0.07),
    ]  # fmt: skip
    assert [row[0] for row in rows] == ["trained"] * 5 + ["untrained"] * 5 + ["raw pixels"] * 5
    for row in kept["results"]:
        low, high = row["accuracy_interval"]
        assert 0 <= low <= row["accuracy"] <= high <= 1
    matrix = np.array(kept["confusion"]["matrix"])
    assert kept["confusion"]["method"] == "20-NN"
    assert matrix.sum(axis=1).tolist() == [6] * 3
    assert np.trace(matrix) / 18 == pytest.approx(kept["results"][0]["accuracy"])
    assert [row["label"] for row in kept["per_class"]] == kept["labels"]
    np.testing.assert_allclose([row["recall"] for row in kept["per_class"]], np.diag(matrix) / 6)


def test_signers_are_drawn_and_those_on_both_sides_are_left_out(own: Path, trained: Path, tmp_path: Path) -> None:
    train = shutil.copytree(trained / "train", tmp_path / "train")
    for file in sorted((train / "flat").glob("signer10-*")):
        file.rename(file.with_name(file.name.replace("signer10", "signer20")))
    options = OPTIONS._replace(group_regex="^(signer[0-9]+)")
    report = sltdino.evaluate(own, train_dirs=[train], options=options)
    assert report.record["groups"] == {"regex": "^(signer[0-9]+)", "train": 6, "val": 3, "dropped": 2}
    assert report.record["train_counts"] == [10, 12, 12]
    assert "bootstrap over 3 groups" in report.record["protocol"]


def test_an_unreadable_image_is_left_out_and_named(own: Path, trained: Path, tmp_path: Path) -> None:
    val = shutil.copytree(trained / "val", tmp_path / "val")
    broken = next((val / "tall").iterdir())
    broken.write_bytes(b"broken")
    report = sltdino.evaluate(own, val_dirs=[val], options=OPTIONS)
    assert report.record["val_counts"] == [6, 6, 5]
    assert [bad.path for bad in report.evaluation.bad_images] == [broken]


def test_images_that_changed_since_make_another_untrained_network_and_that_is_said(
    trained: Path, train_in: Callable[..., Any], tmp_path: Path
) -> None:
    images = shutil.copytree(trained / "train", tmp_path / "train")
    train_in(tmp_path / "run", images=images, epochs=1)
    next((images / "tall").iterdir()).unlink()
    report = sltdino.evaluate(tmp_path / "run", val_dirs=[trained / "val"], options=OPTIONS)
    assert report.record["untrained"].startswith("random weights in the run's architecture (seed 42), not those it")
    assert report.record["untrained"].endswith("its images are not those that it started on")


def test_initial_weights_are_what_a_run_is_compared_with_as_long_as_they_are_there(
    trained: Path, train_in: Callable[..., Any], tmp_path: Path
) -> None:
    weights = shutil.copy(trained / "run/checkpoint_last.pt", tmp_path / "weights.pt")
    run, val = tmp_path / "run", str(trained / "val")
    train_in(run, images=trained / "train", val_dir=val, epochs=1, init_from=str(weights))
    report = sltdino.evaluate(run, options=OPTIONS)
    assert report.record["untrained"] == "the weights the run started from, weights.pt"
    assert accuracy(report, "untrained", "knn", 20) == pytest.approx(measured(run)[0]["knn"], abs=1e-10)
    shutil.copy(run / "checkpoint_last.pt", weights)
    assert "has other content now" in sltdino.evaluate(run, options=OPTIONS).record["untrained"]


def test_weights_of_no_run_are_compared_with_random_ones_and_kept_nowhere(trained: Path, tmp_path: Path) -> None:
    sltdino.export(trained / "run", format="slt", out=tmp_path / "slt.pt")
    folders = {"train_dirs": [trained / "train"], "val_dirs": [trained / "val"]}
    report = sltdino.evaluate(tmp_path / "slt.pt", **folders, options=OPTIONS)
    assert report.record["untrained"] == "random weights in the same architecture"
    assert (report.kept, report.record["checkpoint"]) == ((), None)
    run = shutil.copytree(trained / "run", tmp_path / "run")
    of_run = accuracy(sltdino.evaluate(run, options=OPTIONS), "trained", "knn", 20)
    assert accuracy(report, "trained", "knn", 20) == pytest.approx(of_run)


def test_weights_of_no_run_need_folders(trained: Path, tmp_path: Path) -> None:
    sltdino.export(trained / "run", format="slt", out=tmp_path / "slt.pt")
    with pytest.raises(SettingsError) as caught:
        sltdino.evaluate(tmp_path / "slt.pt")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["--val-dir"]


def test_overwrite_removes_the_evaluations_of_the_earlier_run(
    own: Path, trained: Path, train_in: Callable[..., Any]
) -> None:
    sltdino.evaluate(own, options=OPTIONS)
    train_in(own, images=trained / "train", epochs=1, overwrite=True)
    assert not (own / "evaluations").exists()


def test_a_run_that_goes_on_may_be_evaluated(own: Path) -> None:
    from sltdino.core.run_dir import RunDir

    with RunDir.open(own):
        sltdino.evaluate(own, options=OPTIONS)
    assert len(read_evaluations(own)) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"k": ()}, "--k"),
        ({"temp": 0.0}, "--temp"),
        ({"shots": (0,)}, "--shots"),
        ({"image_size": 17}, "--image-size: 17 is not a multiple"),
        ({"solver": "none"}, "--solver"),
    ],
)
def test_an_option_that_cannot_be_is_refused(changes: dict[str, Any], said: str, trained: Path) -> None:
    with pytest.raises(SettingsError, match=said):
        sltdino.evaluate(trained / "run", options=OPTIONS._replace(**changes))


def test_what_is_no_backbone_is_refused(own: Path, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    with pytest.raises(CheckpointError, match=r"net\.onnx"):
        sltdino.evaluate(tmp_path / "net.onnx", train_dirs=[trained / "train"], val_dirs=[trained / "val"])
    (own / "checkpoint_last.pt").unlink()
    (own / "checkpoint_prev.pt").unlink()
    with pytest.raises(MissingInputError, match="stopped before its first checkpoint"):
        sltdino.evaluate(own)


def test_what_the_run_left_out_by_exclude_is_left_out_of_its_own_folders_and_of_no_others(
    tmp_path: Path, train_in: Callable[..., Any]
) -> None:
    images, val = paint(tmp_path / "train", 12, seed=1), paint(tmp_path / "val", 6, seed=2)
    shutil.copy(next((val / "flat").iterdir()), images / "flat" / "leaked.png")
    listed = tmp_path / "exclude.txt"
    listed.write_text(f"# folder: {images}\nflat/leaked.png\n")
    run = train_in(tmp_path / "run", images=images, val_dir=str(val), exclude=str(listed), epochs=1).run_dir
    report = sltdino.evaluate(run, options=OPTIONS)
    assert sum(report.record["train_counts"]) == 36
    assert report.record["exclude"] == str(listed)
    assert any(note.startswith("left out: 1 images") for note in report.record["notes"])
    with pytest.raises(SettingsError, match=r"copies of training images.*leaked\.png"):
        sltdino.evaluate(run, train_dirs=[images], options=OPTIONS)
    listed.unlink()
    with pytest.raises(
        SettingsError, match=r"--train-dir: missing, and the run's own images cannot be listed \(.*exclude"
    ):
        sltdino.evaluate(run, options=OPTIONS)


def test_without_training_labels_the_images_are_judged_by_each_other_as_the_run_s_own_probe_does(
    trained: Path, train_in: Callable[..., Any], tmp_path: Path
) -> None:
    flat, val, run = tmp_path / "flat", str(trained / "val"), tmp_path / "run"
    flat.mkdir()
    for at, path in enumerate(sorted((trained / "train").rglob("*.png"))):
        shutil.copy(path, flat / f"{at}.png")
    train_in(run, images=flat, val_dir=val, epochs=1)
    report = sltdino.evaluate(run, options=OPTIONS)
    first, last = measured(run)
    assert accuracy(report, "trained", "knn", 20) == pytest.approx(last["knn"], abs=1e-10)
    assert accuracy(report, "raw pixels", "knn", 20) == pytest.approx(first["knn_pixels"], abs=1e-10)
    assert report.record["train_dirs"] == []
    assert report.record["protocol"].startswith("18 validation images, each judged by all the others, at")
    assert "cross-validated in 5 folds of images" in report.record["protocol"]
    by_signer = sltdino.evaluate(run, options=OPTIONS._replace(group_regex="^(signer[0-9]+)"))
    assert by_signer.record["groups"] == {"regex": "^(signer[0-9]+)", "train": 3, "val": 3, "dropped": 0}
    assert "each judged by those of other groups" in by_signer.record["protocol"]
    assert "intervals: 3 groups are few, so they are too narrow" in by_signer.record["notes"]
    assert len(read_evaluations(run)) == 2


def test_validation_images_that_the_run_was_trained_on_are_said_to_be(own: Path, trained: Path) -> None:
    seen = "the run was trained on 36 of the 36 validation images, without their labels"
    report = sltdino.evaluate(own, val_dirs=[trained / "train"], options=OPTIONS)
    assert report.record["train_dirs"] == []
    assert any(note.startswith(seen) for note in report.record["notes"])
    turned = sltdino.evaluate(own, train_dirs=[trained / "val"], val_dirs=[trained / "train"], options=OPTIONS)
    assert any(note.startswith(seen) for note in turned.record["notes"])
    assert not any("trained on" in note for note in sltdino.evaluate(own, options=OPTIONS).record["notes"])
