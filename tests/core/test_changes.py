"""What a resumed run may change."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from sltdino.core.auto import settle
from sltdino.core.changes import RUN_CONTROL, Change, check_changes, compare
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_files import load_settings
from sltdino.core.settings_schema import BY_KEY, LEAVES
from sltdino.errors import ChangeRefusedError


def settings(**flags: Any) -> PretrainSettings:
    return load_settings(flags={"train_dir": ["crops"]} | flags).settings


def refusals(changes: list[Change], allowed: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(ChangeRefusedError) as caught:
        check_changes(changes, allowed, run=Path("my run"))
    return str(caught.value).split("\n")


def test_equal_settings_have_no_changes() -> None:
    assert compare(settings(), settings()) == []


def test_every_difference_is_found_with_its_class_and_both_values() -> None:
    changes = compare(settings(epochs=100), settings(seed=1, epochs=5, num_workers=2))
    assert changes == [
        Change("epochs", "trajectory", 100, 5),
        Change("seed", "identity", 42, 1),
        Change("dataset.num_workers", "free", "auto", 2),
    ]


def test_asking_for_auto_keeps_what_was_settled() -> None:
    stored = settle(settings(), num_images=1000).settings
    assert stored != settings()
    assert compare(stored, settings()) == []


def test_which_run_to_work_on_is_no_change() -> None:
    assert compare(settings(), settings(resume_from="x", overwrite=True, output_dir="y")) == []
    assert set(BY_KEY) >= RUN_CONTROL


def test_the_same_folder_named_from_elsewhere_is_no_change(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert compare(settings(), settings(train_dir=[str(tmp_path / "crops")])) == []
    assert [change.key for change in compare(settings(), settings(train_dir=["other"]))] == ["train_dir"]


def test_free_changes_pass() -> None:
    check_changes(compare(settings(), settings(num_workers=2, log_interval=3, tags=["x"])), [], run=Path("r"))


def test_all_refused_changes_are_listed_at_once() -> None:
    lines = refusals(compare(settings(epochs=100), settings(seed=1, epochs=5, vit_depth=3, log_interval=1)))
    assert lines == [
        "seed: the run has 42, asked for 1; this is what makes it that run: start a new one",
        "vit.depth: the run has auto, asked for 3; this is what makes it that run: start a new one",
        "epochs: the run has 100, asked for 5; it would change the run's course",
    ]


def test_minutes_are_refused_to_a_run_that_has_begun_with_the_way_to_make_it_longer() -> None:
    [line] = refusals(compare(settings(train_minutes=10), settings(train_minutes=20)), ("train_minutes",))
    assert line == (
        "train_minutes: the run has 10.0, asked for 20.0; minutes become steps when a run starts: to train longer, "
        "resume it with --epochs N"
    )


def test_the_command_that_accepts_the_changes_can_be_copied_and_is_given_once() -> None:
    asked = settings(
        train_dir=["a b", "c"],
        epochs=5,
        weight_decay=0.1,
        global_crop_scale=[0.3, 1],
        standardize_teacher=True,
        num_workers=2,
    )
    listing = Change("train_dir", "trajectory", "24 images, listing ab", "25 images, listing cd")
    *lines, last = refusals([*compare(settings(), asked), listing])
    assert [line.partition(":")[0] for line in lines].count("train_dir") == 2
    assert "sltdino resume" not in "".join(lines)
    said, _, command = last.partition(": ")
    assert said == "to go on with that"
    words = shlex.split(command)
    assert words[:3] == ["sltdino", "resume", "my run"]
    assert words[3:-2] == [
        "--train-dir", "a b", "--train-dir", "c", "--epochs", "5", "--num-workers", "2", "--global-crop-scale", "0.3",
        "1.0", "--standardize-teacher", "--weight-decay", "0.1",
    ]  # fmt: skip
    assert words[-2] == "--allow-change"
    allowed = words[-1].split(",")
    assert len(set(allowed)) == len(allowed)
    check_changes([*compare(settings(), asked), listing], [*allowed, "epochs"], run=Path("my run"))


def test_more_epochs_need_no_permission_of_resume() -> None:
    assert refusals(compare(settings(), settings(epochs=5)))[-1] == (
        "to go on with that: sltdino resume 'my run' --epochs 5"
    )


def test_what_cannot_be_allowed_is_given_no_command() -> None:
    assert not any("sltdino resume" in line for line in refusals(compare(settings(), settings(seed=1, epochs=5))))


@pytest.mark.parametrize("name", ["optimizer.weight_decay", "weight_decay", "--weight-decay", "weight-decay"])
def test_a_trajectory_change_passes_when_allowed_under_any_of_its_names(name: str) -> None:
    check_changes(compare(settings(), settings(weight_decay=0.1)), [name], run=Path("r"))


def test_an_identity_change_cannot_be_allowed() -> None:
    assert len(refusals(compare(settings(), settings(seed=1)), ("seed",))) == 1


def test_allowing_one_change_does_not_allow_another() -> None:
    line, _ = refusals(compare(settings(), settings(epochs=5, weight_decay=0.1)), ("epochs",))
    assert line.startswith("optimizer.weight_decay: ")


def test_an_unknown_name_in_allow_change_is_an_error_with_a_suggestion() -> None:
    assert refusals([], ("wieght_decay",)) == [
        "--allow-change: unknown setting 'wieght_decay'; did you mean 'weight_decay'?"
    ]


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("algorithm", "identity"), ("stream", "identity"), ("vit.embed_dim", "identity"), ("head.out_dim", "identity"),
        ("augmentation.num_local_crops", "identity"), ("augmentation.image_size", "identity"), ("seed", "identity"),
        ("dataset.batch_size", "identity"), ("precision", "identity"), ("epochs", "trajectory"),
        ("optimizer.learning_rate", "trajectory"), ("loss.teacher_temp", "trajectory"), ("train_dir", "trajectory"),
        ("augmentation.hue", "trajectory"), ("optimizer.clip_grad_norm", "trajectory"), ("dataset.num_workers", "free"),
        ("log_interval", "free"), ("experiment.notes", "free"), ("device", "free"),
    ],
)  # fmt: skip
def test_classes_are_those_of_the_reliability_contract(key: str, kind: str) -> None:
    assert {leaf.key: leaf.resume for leaf in LEAVES}[key] == kind
