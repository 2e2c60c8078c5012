"""A dry run: it says what the real run then does, and leaves no trace."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sltdino import load_settings
from sltdino.core.json_files import dumps
from sltdino.core.lock import FolderLock
from sltdino.core.run_files import LOCK, read_params
from sltdino.errors import RunInUseError, SltDinoError
from sltdino.pretraining import DryRun, dry_run
from sltdino.pretraining.estimates import measure_size
from sltdino.pretraining.preview_facts import facts
from sltdino.pretraining.preview_text import render
from sltdino.pretraining.session import build_model

Look = Callable[..., DryRun]


@pytest.fixture
def look(tmp_path: Path, pictures: Path, tiny: dict[str, Any]) -> Look:
    """`look("run", images=…, epochs=3, …)` is the dry run of `train("run", …)`."""

    def look(name: str = "run", *, images: Path = pictures, **flags: Any) -> DryRun:
        values = {**tiny, "train_dir": str(images), "output_dir": str(tmp_path / name), **flags}
        settings, origins = load_settings("hands", flags=values)
        return dry_run(settings, origins=origins, seconds=0.05)

    return look


@pytest.fixture
def labelled(tmp_path: Path, draw: Any) -> Path:
    """Validation images of two labels."""
    for number, label in enumerate(("one", "two")):
        draw(tmp_path / "val" / label, 3, seed=7 + number)
    return tmp_path / "val"


def tree(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
    }


# Nothing is written


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"output_dir": None},
        {"export_backbone": "exports/b.pt", "export_checkpoint": True},
        {"num_workers": 1},
        {"dataset.cache": "ram", "patch_init": "whitened"},
        {"resume": "auto", "output_dir": "finished"},
        {"overwrite": True, "output_dir": "finished"},
        {"output_dir": "finished"},
        {"output_dir": "pictures/run"},
        {"batch_size": 64},
        {"val_dir": "val"},
    ],
    ids=str,
)
def test_no_file_folder_or_time_changes(
    flags: Any, look: Look, finished: Path, own_pictures: Path, labelled: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    given = {key: value for key, value in flags.items() if value is not None}
    if "output_dir" not in flags:
        given["output_dir"] = "runs/new"
    if flags.get("output_dir", "") is None:
        given["output_dir"] = None
    before = tree(tmp_path)
    look(images=own_pictures, **given)
    assert tree(tmp_path) == before


def test_the_library_prints_nothing(look: Look, capfd: pytest.CaptureFixture[str]) -> None:
    look()
    assert tuple(capfd.readouterr()) == ("", "")


# What it says is what happens


def test_steps_settings_and_files_are_those_of_the_run(look: Look, train: Any, tmp_path: Path) -> None:
    flags = {"export_backbone": str(tmp_path / "out" / "b.pt"), "export_checkpoint": True, "algorithm": "ibot"}
    before = set(tmp_path.rglob("*"))
    said = look(**flags)
    assert said.errors == ()
    assert said.forecast is not None
    summary = train(**flags)
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert said.forecast.plan.total_steps == summary.steps
    assert {file.path for file in said.forecast.files} == written
    assert said.settings.model_dump(mode="json") == read_params(summary.run_dir)["settings"]
    assert said.origins == read_params(summary.run_dir)["origins"]


def test_the_disk_that_a_run_takes_is_at_most_what_was_said(look: Look, train: Any) -> None:
    flags = {"vit_embed_dim": 64, "head_hidden_dim": 256, "out_dim": 512}  # weights, not pickling, fill the checkpoints
    said = look(**flags).forecast
    run = train(**flags).run_dir
    assert said is not None
    sizes = {path.name: path.stat().st_size for path in run.iterdir()}
    for file in said.files[:3]:
        assert file.num_bytes == pytest.approx(sizes[file.path.name], rel=0.1)
    assert sizes["metrics.jsonl"] <= said.files[3].num_bytes
    assert sum(sizes.values()) <= said.disk_bytes


def test_parameters_are_counted_without_their_memory(look: Look) -> None:
    settings = look(algorithm="ibot", patch_out_dim=16).settings
    size, model = measure_size(settings), build_model(settings)
    counted = sum(parameter.numel() for parameter in model.student.parameters())
    assert size.backbone_parameters + size.head_parameters == counted
    assert size.backbone_parameters == sum(parameter.numel() for parameter in model.student.backbone.parameters())


def test_speed_is_measured_on_whole_steps_where_these_are_quick(look: Look) -> None:
    said = look(vit_depth=1, accumulate_steps=2, batch_size=4).forecast
    assert said is not None
    assert said.speed is not None
    assert said.speed.steps >= 1
    assert said.speed.together <= said.speed.step
    assert said.training_seconds == pytest.approx(6 * 8 / said.speed.together)
    if said.speed.is_whole_step:  # on a machine that is busy with other things it may not be
        assert said.speed.images_per_step == 8


def test_a_single_image_is_enough_where_it_is_for_a_run(look: Look, tmp_path: Path, draw: Any) -> None:
    said = look(images=draw(tmp_path / "one", 1), batch_size=1, head_batch_norm=False)
    assert said.errors == ()
    assert said.forecast is not None
    assert said.forecast.speed is not None
    assert said.forecast.speed.images_per_step == 1


def test_a_run_that_would_go_on_is_measured_from_where_it_is(look: Look, finished: Path) -> None:
    said = look("finished", resume="auto", epochs=4)
    assert [type(error).__name__ for error in said.errors] == ["ChangeRefusedError"]
    same = look("finished", resume="auto")
    assert same.errors == ()
    assert (same.start.step, same.start.finished) == (6, True)
    assert same.start.checkpoint == finished / "checkpoint_last.pt"


def test_an_interrupted_run_would_go_on_at_its_step(look: Look, train: Any, recorder: Any, tmp_path: Path) -> None:
    with pytest.raises(SltDinoError):
        train(reporter=recorder(stop_at=2))
    said = look(resume="auto")
    assert said.errors == ()
    assert (said.start.step, said.start.finished) == (2, False)
    assert said.forecast is not None
    assert said.forecast.speed is not None
    assert said.forecast.training_seconds == pytest.approx(4 * 8 / said.forecast.speed.together)
    assert "goes on from checkpoint_last.pt, at step 2" in render(said)


def test_overwrite_names_what_it_would_remove(look: Look, finished: Path) -> None:
    said = look("finished", overwrite=True)
    assert said.errors == ()
    names = {path.name for path in finished.iterdir()} - {LOCK}
    assert {path.name for path in said.start.removes} == names


def test_what_cannot_be_read_is_counted_with_reasons(look: Look, own_pictures: Path) -> None:
    (own_pictures / "0.png").write_bytes(b"")
    (own_pictures / "1.png").write_bytes(b"no picture")
    (own_pictures / "notes.txt").write_text("x")
    said = look(images=own_pictures)
    assert said.sample is not None
    assert said.sample.bad == {"empty file": 1, "not a PNG, JPEG, BMP or TIFF file": 1}
    assert (said.sample.tried, said.sample.sides) == (24, ((24, 24),) * 3)
    assert "bad images" in {advice.topic for advice in said.advice}
    assert "not read, 4.0% of the files: 1 txt" in render(said)


# Errors


REFUSED: dict[str, dict[str, Any]] = {
    "no such folder": {"train_dir": "nowhere"},
    "no images": {"train_dir": "empty"},
    "fewer images than a batch": {"batch_size": 64},
    "output inside": {"output_dir": "pictures/run"},
    "device": {"device": "cuda:99"},
    "the folder holds a run": {"output_dir": "finished"},
    "nothing to go on with": {"resume": "must"},
    "another run": {"resume": "finished", "output_dir": None, "seed": 1},
    "more steps done": {"resume": "finished", "output_dir": None, "algorithm": "ibot", "epochs": 1},
    "validation is training": {"val_dir": "pictures"},
    "one label": {"val_dir": "val/one"},
    "registers": {"vit_registers": 2, "export_checkpoint": True},
    "export onto the run": {"output_dir": "new", "export_backbone": "new/checkpoint_last.pt"},
    "export onto its metadata": {"export_backbone": "b.json"},
    "a file in the way": {"output_dir": "file/run"},
    "heads": {"vit_embed_dim": 18, "vit_num_heads": "auto", "local_crop_size": "auto", "patch_size": 16, "epochs": 1,
              "batch_size": 30},
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_the_first_error_is_the_one_that_stops_the_run(
    case: str, look: Look, train: Any, finished: Path, own_pictures: Path, labelled: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    flags = {"output_dir": "new run", "train_dir": "pictures", **REFUSED[case]}
    said = look(images=own_pictures, **flags)
    with pytest.raises(SltDinoError) as caught:
        train(images=own_pictures, **flags)
    assert said.errors
    assert (type(said.errors[0]), said.errors[0].exit_code) == (type(caught.value), caught.value.exit_code)
    if case != "a file in the way":  # seen by another way
        assert str(said.errors[0]) == str(caught.value)


def test_all_errors_are_listed_at_once(look: Look, own_pictures: Path, tmp_path: Path) -> None:
    said = look(
        "pictures/run", images=own_pictures, batch_size=64, val_dir=str(own_pictures), vit_registers=1,
        export_backbone=str(tmp_path / "b.json"),
    )  # fmt: skip
    text = render(said)
    for what in (
        "lies inside",
        "fewer than the 64",
        "is also a training image",
        "no register tokens",
        "end the weights",
    ):
        assert what in " ".join(text.split()), what
    assert "Errors: 5" in text


def test_a_folder_in_use_is_an_error(look: Look, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    lock = FolderLock(tmp_path / "run" / LOCK)
    try:
        assert [type(error) for error in look().errors] == [RunInUseError]
    finally:
        lock.release()


# How it is shown


def test_the_page_has_no_line_over_80_columns_and_no_control_characters(look: Look, labelled: Path) -> None:
    text = render(look(val_dir=str(labelled), aug_hflip_prob=0.5, vit_registers=1))
    prose = [line for line in text.splitlines() if "/" not in line]  # a path is never broken
    assert max(map(len, prose)) <= 80
    assert all(character.isprintable() for line in text.splitlines() for character in line)
    assert "Warnings: " in text


def test_a_name_cannot_move_the_cursor(look: Look, own_pictures: Path) -> None:
    shutil.copy(own_pictures / "0.png", own_pictures / "\x1b[2J.png")
    (own_pictures / "\x1b[2J.png").write_bytes(b"")
    assert "\x1b" not in render(look(images=own_pictures))


def test_the_facts_are_strict_json_with_everything_of_the_page(look: Look) -> None:
    result = look(teacher_momentum_base=1.0)
    values = json.loads(dumps(facts(result)))
    assert values["forecast"]["ema_horizon"] is None
    assert values["forecast"]["plan"]["total_steps"] == 6
    assert values["forecast"]["memory"]["host"] >= values["forecast"]["memory"]["program"]
    assert values["settings"]["vit"]["embed_dim"] == 16
    assert values["advice"][-1].keys() == {"topic", "text", "remedy"}
    assert math.isfinite(values["forecast"]["speed"]["together"])


def test_errors_are_facts_with_code_and_exit_code(look: Look) -> None:
    [error] = facts(look(batch_size=64))["errors"]
    assert (error["code"], error["exit_code"]) == ("E-DATA", 65)
