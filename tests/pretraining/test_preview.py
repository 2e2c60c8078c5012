"""A dry run: it says what the real run then does, and leaves no trace."""

import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sltdino import load_settings
from sltdino.core.auto import plan
from sltdino.core.distributed import World
from sltdino.core.json_files import dumps
from sltdino.core.lock import FolderLock
from sltdino.core.run_files import LOCK, read_metrics, read_params
from sltdino.core.settings_schema import BY_KEY
from sltdino.data.image_folder import scan
from sltdino.errors import RunInUseError, SltDinoError
from sltdino.pretraining import DryRun, dry_run
from sltdino.pretraining.estimates import evaluation_seconds, measure_size, num_evaluations
from sltdino.pretraining.measured import (
    Load,
    Speed,
    _scaled,
    _speed,
    _Timed,
    expected_step_seconds,
    longest_seconds,
    measure_speed,
)
from sltdino.pretraining.preview_facts import facts
from sltdino.pretraining.preview_text import render
from sltdino.pretraining.probes import build_probes
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
        {"dataset.cache": "ram", "weight_init": "layout"},
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
    assert (said.speed.images_per_step, said.speed.limited_by) == (8, "")


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
    assert "not read, 4.0% of the files: 1 txt" in render(said)


def test_bad_images_that_are_sure_to_stop_the_run_are_its_error(look: Look, train: Any, own_pictures: Path) -> None:
    for number in range(7):
        (own_pictures / f"{number}.png").write_bytes(b"")
    [error] = look(images=own_pictures).errors
    with pytest.raises(type(error)) as caught:
        train(images=own_pictures)
    assert (error.code, error.exit_code) == (caught.value.code, caught.value.exit_code) == ("E-DATA", 65)
    assert str(error).startswith("7 of 24 images cannot be read, more than --dataset-max-bad-fraction 0.01: ")
    assert str(error).count(".png': empty file") == 5
    assert "bad images" not in {advice.topic for advice in look(images=own_pictures).advice}


@pytest.mark.parametrize(("bad", "stops"), [("23.png", False), ("0.png", True)])
def test_a_bad_image_that_no_step_takes_is_a_warning(
    bad: str, stops: bool, look: Look, train: Any, own_pictures: Path
) -> None:
    flags = {"batch_size": 23, "dataset.shuffle": False}  # each epoch leaves out the last of 24
    (own_pictures / bad).write_bytes(b"")
    said = look(images=own_pictures, **flags)
    assert [error.code for error in said.errors] == ["E-DATA"] * stops
    assert ("bad images" in {advice.topic for advice in said.advice}) is not stops
    if stops:
        with pytest.raises(SltDinoError, match="1 of 24 images cannot be read"):
            train(images=own_pictures, **flags)
    else:
        assert train(images=own_pictures, **flags).steps == 2


def test_images_that_an_epoch_leaves_out_are_counted_where_they_are_many(look: Look) -> None:
    assert "an epoch leaves out 11 of 24 images" in render(look(batch_size=13))
    assert "leaves out" not in render(look(batch_size=22))
    assert "leaves out" not in render(look(batch_size=12))


def test_a_backbone_whose_size_is_given_is_not_listed_as_settled(look: Look) -> None:
    assert "--backbone" not in render(look())
    assert "--backbone " in render(look(vit_depth="auto", backbone="auto", vit_embed_dim=12, vit_num_heads=1))


# The speed, where the figures are not the clock's


def test_steps_of_two_sizes_give_a_whole_one() -> None:
    small, large = _Timed(2, 1, 0.5 + 2 * 0.25, 0.0), _Timed(8, 3, 0.5 + 8 * 0.25, 0.4)
    whole = _scaled(small, large, images=32)
    assert whole == _Timed(32, 3, pytest.approx(0.5 + 32 * 0.25), pytest.approx(1.6))


@pytest.mark.parametrize("small_seconds", [0.01, 9.0])
def test_noise_between_the_sizes_does_not_make_images_free_or_dear(small_seconds: float) -> None:
    whole = _scaled(_Timed(2, 1, small_seconds, 0.0), _Timed(8, 3, 2.0, 0.0), images=32)
    assert 2.0 + 24 * 0.125 <= whole.step_seconds <= 2.0 + 24 * 0.25


def test_a_run_is_not_faster_than_its_loader() -> None:
    speed = _speed(_Timed(32, 2, 0.1, 0.0), loader=40.0)
    assert (speed.together, speed.step) == (40.0, 320.0)
    assert speed.data_wait == pytest.approx(1 - 40 / 320)


def test_a_smaller_step_is_timed_only_where_a_whole_one_does_not_fit_and_the_reason_is_said(
    look: Look, pictures: Path
) -> None:
    settings, images = look().settings, scan([pictures])

    def timed(*, step_seconds: float, most: int, seconds: float = 1.0) -> Speed:
        return measure_speed(
            settings, images, World(), seconds=seconds, step_seconds=step_seconds, fits=lambda number: number <= most
        )

    ample = 60.0  # of which fifty steps take a small part, also on a busy machine
    whole, small = timed(step_seconds=0.5, most=8), timed(step_seconds=0.5, most=4, seconds=ample)
    assert (whole.images_per_step, whole.limited_by) == (8, "")
    assert (small.images_per_step, small.limited_by) == (4, "memory")
    slow = timed(step_seconds=1e6, most=8, seconds=0.0)
    assert (slow.images_per_step, slow.steps, slow.limited_by) == (2, 1, "time")
    quicker = timed(step_seconds=1e6, most=8, seconds=ample)  # the guess from its operations was wrong
    assert (quicker.images_per_step, quicker.limited_by) == (8, "")


def test_a_disturbed_probe_does_not_make_a_small_step_look_too_long() -> None:
    assert 0 < expected_step_seconds(5e9, "cpu") <= 1.0
    assert expected_step_seconds(0.0, "cpu") == 0.0


@pytest.mark.parametrize(
    ("step_seconds", "longest"),
    [(1.0, 12.0), (11.9, 0.15 * 12 + 11.9), (100.0, 12.0), (1600.0, 0.15 * 12 + 1600 * 2 / 32)],
)
def test_what_is_announced_holds_the_one_step_that_is_made_in_any_case(step_seconds: float, longest: float) -> None:
    assert longest_seconds(12.0, step_seconds, images=32) == pytest.approx(longest)


def on_page(result: DryRun, **speed: Any) -> str:
    """Prose of the page, with another speed."""
    assert result.forecast is not None
    assert result.forecast.speed is not None
    forecast = result.forecast._replace(speed=result.forecast.speed._replace(**speed))
    return " ".join(render(result._replace(forecast=forecast)).split())


@pytest.mark.parametrize(
    ("speed", "time"),
    [
        ({"limited_by": "time", "images_per_step": 2, "steps": 1}, "time a rough guess: "),
        ({"limited_by": "memory", "images_per_step": 4, "steps": 5}, "time roughly "),
        ({"limited_by": "", "steps": 1}, "time about "),
    ],
)
def test_the_time_says_how_far_it_can_be_trusted(speed: Any, time: str, look: Look) -> None:
    said = look()
    idle = said._replace(machine=said.machine._replace(load=Load(0.1, 2)))
    page = on_page(idle, **speed)
    assert time in page
    assert ("a whole step of 8 images would take too long to try" in page) is (speed["limited_by"] == "time")
    assert ("a whole step of 8 images does not fit into the free memory" in page) is (speed["limited_by"] == "memory")


def test_under_load_the_time_is_an_upper_bound(look: Look) -> None:
    said = look()
    busy = said._replace(machine=said.machine._replace(load=Load(3.14, 2)))
    page = on_page(busy)
    assert "other programs use these cores (load 3.1 on 2 cores): the time is an upper bound" in page
    assert "time at most " in page


# Errors


REFUSED: dict[str, dict[str, Any]] = {
    "no such folder": {"train_dir": "nowhere"},
    "no images": {"train_dir": "empty"},
    "fewer images than a batch": {"batch_size": 64},
    "output inside": {"output_dir": "pictures/run"},
    "device": {"device": "cuda:99"},
    "no such device": {"device": "gpu"},
    "the folder holds a run": {"output_dir": "finished"},
    "nothing to go on with": {"resume": "must"},
    "another run": {"resume": "finished", "output_dir": None, "seed": 1},
    "more steps done": {"resume": "finished", "output_dir": None, "algorithm": "ibot", "epochs": 1},
    "validation is training": {"val_dir": "pictures"},
    "one label": {"val_dir": "one"},
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
    (tmp_path / "one").mkdir()
    (labelled / "one").rename(tmp_path / "one" / "one")
    flags = {"output_dir": "new run", "train_dir": "pictures", **REFUSED[case]}
    said = look(images=own_pictures, **flags)
    with pytest.raises(SltDinoError) as caught:
        train(images=own_pictures, **flags)
    assert said.errors
    assert (type(said.errors[0]), said.errors[0].exit_code) == (type(caught.value), caught.value.exit_code)
    if case != "a file in the way":  # seen by another way
        assert str(said.errors[0]) == str(caught.value)


def test_an_unknown_device_is_not_called_cpu(look: Look) -> None:
    said = look(device="gpu")
    text = " ".join(render(said).split())
    assert "machine unknown device (see the errors), " in text
    assert "--device: gpu: write cuda; usable here: auto, cpu" in text


def test_all_errors_are_listed_at_once(look: Look, own_pictures: Path, tmp_path: Path) -> None:
    said = look(
        "pictures/run", images=own_pictures, batch_size=64, val_dir=str(own_pictures), vit_registers=1,
        export_backbone=str(tmp_path / "b.json"),
    )  # fmt: skip
    text = render(said)
    for what in (
        "lies inside",
        "fewer than the 64",
        "validation images are training images too",
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


# What is evaluated


def test_validation_images_without_labels_are_no_error_and_what_is_not_measured_is_said(
    look: Look, draw: Any, tmp_path: Path
) -> None:
    flat = draw(tmp_path / "flat", 4, seed=11)
    result = look(val_dir=str(flat))
    assert result.errors == ()
    text = " ".join(render(result).split())
    assert "evaluation every epoch: k-NN not measured (no labels, which are sub-folders, in " in text
    assert "RankMe and others of 4 validation images, 4 of them in two views" in text
    assert "checkpoint_best.pt: by the epoch's loss" in text


def test_without_validation_images_evaluations_take_time_too(look: Look) -> None:
    result = look()
    assert result.evaluation == (
        "every epoch: k-NN not measured (no --val-dir); "
        "RankMe and others of 24 training images, 24 of them in two views"
    )
    assert result.forecast is not None
    assert result.forecast.evaluation_seconds
    assert " of it for evaluation" in render(result)


def test_copies_of_training_images_are_an_error_of_the_dry_run(
    look: Look, own_pictures: Path, labelled: Path, tmp_path: Path
) -> None:
    shutil.copy(own_pictures / "3.png", labelled / "one" / "again.png")
    [error] = look(images=own_pictures, val_dir=str(labelled)).errors
    assert str(error).startswith("--val-dir: 1 of 7 validation images are copies of training images: ")
    assert error.exit_code == 2


@pytest.mark.parametrize(("every", "times"), [(1, 4), (2, 3), (3, 2), (7, 2)])
def test_the_forecast_counts_the_start_and_the_last_epoch_as_evaluations(
    every: int, times: int, look: Look, train: Any, pictures: Path
) -> None:
    settings = look(epochs=3, eval_every=every).settings
    probes, size = build_probes(settings, scan([pictures])), measure_size(settings)
    speed = Speed(together=1.0, step=1e9, loader=24.0, data_wait=0.0, images_per_step=8, steps=1, limited_by="")
    assert evaluation_seconds(settings, size, probes, speed) == pytest.approx(1.0, rel=1e-3)
    assert num_evaluations(settings, plan(settings, num_images=24)) == times
    run = train(epochs=3, eval_every=every).run_dir
    assert sum(record["context"] == "eval" for record in read_metrics(run)) == times


# How it is shown


def test_the_page_has_no_line_over_80_columns_and_no_control_characters(look: Look, labelled: Path) -> None:
    text = render(look(val_dir=str(labelled), aug_hflip_prob=0.5, vit_registers=1))
    prose = [line for line in text.splitlines() if "/" not in line]  # a path is never broken
    assert max(map(len, prose)) <= 80
    assert all(character.isprintable() for line in text.splitlines() for character in line)
    assert "Warnings: " in text


@pytest.mark.parametrize("preset", ["dino", "signmusketeers"])
def test_the_page_names_the_preset_and_the_source_of_every_automatic_value(
    preset: str, tmp_path: Path, pictures: Path
) -> None:
    small = {"vit_embed_dim": 16, "vit_depth": 1, "out_dim": 32, "head_hidden_dim": 32, "image_size": 224, "epochs": 10}
    flags = {"train_dir": str(pictures), "output_dir": str(tmp_path), "preset": preset, "batch_size": 8, **small}
    settings, origins = load_settings("hands", flags=flags)
    result = dry_run(settings, origins=origins, seconds=0.05)
    number = list(origins.values()).count(f"preset {preset}")
    page = render(result)
    assert f"\npreset      {preset}: {number} values from it; --print-config shows which\n" in page
    assert max(len(line) for line in page.splitlines() if str(tmp_path) not in line) <= 80
    words = " ".join(page.partition("Settled from `auto`:")[2].split())
    assert f"--warmup-epochs 1 preset {preset}, 10 epochs of 100, in proportion for 10" in words
    for key, origin in result.origins.items():
        if origin.startswith("auto: ") and key != "vit.backbone":
            assert f"{BY_KEY[key].flag} " in words
            assert origin.removeprefix("auto: ") in words


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


def test_files_of_others_in_the_run_folder_are_warned_of_as_the_run_does(
    look: Look, train: Any, recorder: Any, tmp_path: Path
) -> None:
    (tmp_path / "run" / "thesis").mkdir(parents=True)
    (tmp_path / "run" / "a.txt").write_text("mine")
    [said] = [advice.text for advice in look().advice if advice.topic == "folder"]
    assert "folder" not in {advice.topic for advice in look("alone").advice}
    reporter = recorder()
    train(epochs=1, reporter=reporter)
    assert f"warning: {said}" in reporter.said
    again = look(overwrite=True).advice
    assert [advice.text for advice in again if advice.topic == "folder"] == [said]


def test_what_trackers_write_is_listed(look: Look, tmp_path: Path, train: Any) -> None:
    assert "tensorboard" not in {path.name for path, *_ in look().forecast.files}  # type: ignore[union-attr]
    result = look(track=["tensorboard"])
    assert result.forecast is not None
    [most] = [file.num_bytes for file in result.forecast.files if file.path.name == "tensorboard"]
    run = train(track=["tensorboard"]).run_dir
    assert sum(file.stat().st_size for file in (run / "tensorboard").iterdir()) <= most


def test_a_tracker_whose_package_is_missing_is_an_error_of_the_dry_run(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert "--track wandb: wandb is not installed" in str(look(track="wandb").errors[0])
