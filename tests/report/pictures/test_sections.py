"""The pictures of whole tiny runs, in whatever state these are."""

import base64
import io
import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from sltdino.core import checkpoint
from sltdino.core.distributed import World
from sltdino.core.evaluation_files import evaluation_file, write_evaluation
from sltdino.core.run_files import read_settings
from sltdino.data.image_folder import scan
from sltdino.errors import MissingInputError, SettingsError
from sltdino.report.pictures.raster import denormalized, with_mask
from sltdino.report.pictures.sections import run_pictures
from sltdino.report.web.html import Section, document
from sltdino.training.batches import build_batches

ALL = ["crops", "attention", "patches", "neighbours", "map"]


def sections(run: Path, **options: Any) -> dict[str, str]:
    """The sections by anchor, each well-formed."""
    made = run_pictures(run, **options)
    for section in made:
        assert isinstance(section, Section)
        ET.fromstring(re.sub(r"<(img|br)\b([^>]*)>", r"<\1\2/>", section))
    return {section.anchor: str(section) for section in made if isinstance(section, Section)}


def images_in(section: str) -> dict[str, NDArray[np.uint8]]:
    """Pictures by their alternative text."""
    found = re.findall(r'<img src="data:image/\w+;base64,([^"]+)" alt="([^"]*)"', section)
    return {alt: np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")) for data, alt in found}


def alike(shown: NDArray[np.uint8], expected: NDArray[np.uint8]) -> bool:
    """But for what JPEG does to noise."""
    return shown.shape == expected.shape and float(np.abs(shown.astype(int) - expected).mean()) < 9


@pytest.fixture(scope="session")
def masked_run(tmp_path_factory: pytest.TempPathFactory, train_in: Callable[..., Any], draw: Any) -> Path:
    """A finished run of dinov2 with labels and signers, to read only."""
    folder = tmp_path_factory.mktemp("masked")
    for kind, seed in (("train", 0), ("val", 9)):
        for label in ("fist", "flat"):
            draw(folder / kind / label, 12, seed=seed + ord(label[-1]))
            for number, path in enumerate(sorted((folder / kind / label).iterdir())):
                path.rename(path.with_name(f"signer{number % 3}-{number}.png"))
    result = train_in(
        folder / "run", images=folder / "train", algorithm="dinov2", val_dir=str(folder / "val"), epochs=1,
        image_size=32, patch_size=8, num_local_crops=2, local_crop_size=16,
    )  # fmt: skip
    return result.run_dir  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def masked(masked_run: Path) -> dict[str, str]:
    return sections(masked_run)


def test_there_is_a_section_for_each_kind_of_picture(masked: dict[str, str]) -> None:
    assert list(masked) == ALL
    assert not any("Not shown" in section for section in masked.values())


def test_the_crops_are_those_of_the_run_s_first_batch(masked: dict[str, str], masked_run: Path) -> None:
    settings = read_settings(masked_run).settings
    images = scan(settings.train_dir)
    batch, indices = (loaded := build_batches(settings, images, World())[0]).batches[0], loaded.indices
    shown, crops, num_masked = images_in(masked["crops"]), settings.augmentation, 0
    for kind, stack in (("Global", batch.global_crops), ("Local", batch.local_crops)):
        pixels = denormalized(stack, mean=crops.mean, std=crops.std)
        for row in range(len(stack)):
            crop, image = divmod(row, 8)
            if image >= 4:
                continue
            name = images.path(int(indices[image])).name
            expected = pixels[row]
            alt = f"{kind} crop {crop + 1} of {name}"
            if kind == "Global" and (hidden := batch.masks_GN[row]).any():
                num_masked += 1
                assert alike(shown[f"{alt}, whole"], expected)  # what the teacher sees
                expected = with_mask(expected, hidden.numpy(), patch_size=8)
                alt += f", {int(hidden.sum())} of 16 patches masked"
            assert alike(shown[alt], expected), alt
            assert not alike(shown[alt], pixels[row - 1]), alt
    assert num_masked > 0


def test_local_crops_are_shown_at_their_true_relative_size(masked: dict[str, str]) -> None:
    widths = dict(re.findall(r'alt="(Global crop 2|Local crop 1)[^"]*" width="(\d+)"', masked["crops"]))
    assert int(widths["Local crop 1"]) * 2 == int(widths["Global crop 2"])


def test_a_run_without_masks_has_one_view_of_each_image(finished_once: Path) -> None:
    crops = sections(finished_once)["crops"]
    assert "seen by" not in crops
    assert "masked" not in crops
    assert len(images_in(crops)) == 4 * (1 + 2 + 1)


def test_the_same_run_gives_the_same_pictures(masked: dict[str, str], masked_run: Path) -> None:
    torch.manual_seed(123)
    np.random.seed(123)
    assert sections(masked_run) == masked


def test_images_are_those_of_validation_and_the_checkpoint_is_said(masked: dict[str, str], masked_run: Path) -> None:
    val_dir = read_settings(masked_run).settings.evaluation.val_dir
    assert f"all 24 validation images ({val_dir})" in masked["map"]
    assert "checkpoint_best.pt (best; step 3)" in masked["attention"]


def test_the_last_checkpoint_takes_the_place_of_a_best_one_that_is_not_there(finished: Path) -> None:
    (finished / "checkpoint_best.pt").unlink()
    assert "checkpoint_last.pt (last, there is no best; step 6)" in sections(finished)["attention"]


def test_neighbours_are_marked_by_label_and_once_without_the_own_signer(masked: dict[str, str]) -> None:
    neighbours = masked["neighbours"]
    assert re.search(r"(✓ same|✗ other): (fist|flat)", neighbours)
    assert "other signers" in neighbours
    assert re.search(r"\d+% of the 5 nearest of all others \(by chance 48%\)", neighbours)  # 11 of 23
    assert re.search(r"\d+% of the 5 nearest of other signers \(by chance 50%\)", neighbours)


def test_the_map_is_coloured_by_label_and_by_signer(masked: dict[str, str]) -> None:
    assert masked["map"].count('role="img"') == 2
    assert "coloured by label" in masked["map"]
    assert "coloured by signer" in masked["map"]
    assert masked["map"].count("<title>signer0-0.png (fist), signer0</title>") == 2


def test_a_regex_of_one_s_own_names_the_groups(masked_run: Path) -> None:
    assert "coloured by group" in sections(masked_run, group_regex=r"-(\d)\.png")["map"]
    with pytest.raises(SettingsError, match="needs one"):
        run_pictures(masked_run, group_regex="signer")


def test_without_one_it_is_that_of_the_latest_evaluation(masked_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(masked_run, tmp_path / "run")
    nothing: dict[str, Any] = {
        "schema": 1, "backbone": "", "checkpoint": None, "step": None, "train_dirs": [], "val_dirs": [], "labels": [],
        "train_counts": [], "val_counts": [], "protocol": "", "results": [], "confusion": {}, "per_class": [],
    }  # fmt: skip
    for day, regex in ((1, "^(s)"), (3, r"-(\d)\.png"), (2, "^(x)")):
        record = {
            **nothing,
            "timestamp": f"2026-01-0{day}",
            "groups": {"regex": regex, "train": 2, "val": 2, "dropped": 0},
        }
        write_evaluation(evaluation_file(run, "x", {"day": day}), record)
    write_evaluation(evaluation_file(run, "x", {}), {**nothing, "timestamp": "2026-01-09", "groups": None})
    assert "<title>signer0-0.png (fist), 0</title>" in sections(run)["map"]


def test_a_flat_folder_has_pictures_without_labels(finished_once: Path) -> None:
    found = sections(finished_once)
    assert list(found) == ALL
    assert "These images have no labels." in found["neighbours"]
    assert "✓" not in found["neighbours"].replace("✓ and ✗", "")
    assert found["map"].count('role="img"') == 1


def test_without_a_checkpoint_the_crops_are_shown_and_the_rest_is_promised(finished: Path) -> None:
    for path in finished.glob("*.pt"):
        path.unlink()
    found = sections(finished)
    assert list(found) == ["crops", "features"]
    assert "has no checkpoint yet" in found["features"]


def test_a_damaged_checkpoint_is_said(finished: Path) -> None:
    path = finished / "checkpoint_best.pt"
    path.write_bytes(path.read_bytes()[:3000])
    assert "checkpoint_best.pt" in sections(finished)["features"]


def test_images_that_have_moved_are_named_with_what_to_do(train: Any, own_pictures: Path, tmp_path: Path) -> None:
    run = train(images=own_pictures).run_dir
    own_pictures.rename(tmp_path / "elsewhere")
    found = sections(run)
    assert str(own_pictures) in found["crops"]
    assert f"put the images back and run sltdino inspect {run} again" in found["features"]


def test_validation_images_that_have_moved_give_way_to_training_images(masked_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(masked_run, tmp_path / "run")
    params = json.loads((run / "params.json").read_text())
    params["settings"]["evaluation"]["val_dir"] = "/nowhere/val"
    (run / "params.json").write_text(json.dumps(params))
    assert "training images" in (shown := sections(run)["map"])
    assert "; the validation images are not in /nowhere/val any more" in shown


def test_what_the_run_left_out_is_in_none_of_its_pictures(train: Any, own_pictures: Path, tmp_path: Path) -> None:
    listed = tmp_path / "exclude.txt"
    listed.write_text("".join(f"{number}.png\n" for number in range(4)))
    found = sections(train(images=own_pictures, exclude=str(listed)).run_dir)
    assert "hold other images" not in found["crops"]
    assert "all 20 training images" in found["map"]


def test_a_damaged_evaluation_is_named_and_hides_no_picture(masked_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(masked_run, tmp_path / "run")
    path = evaluation_file(run, "x", {})
    path.parent.mkdir()
    path.write_text("{")
    found = sections(run)
    assert list(found) == ALL
    assert path.name in found["map"]
    assert "coloured by signer" in found["map"]


def test_images_that_have_changed_are_not_passed_off_as_the_run_s(train: Any, own_pictures: Path, draw: Any) -> None:
    run = train(images=own_pictures).run_dir
    assert "hold other images" not in sections(run)["crops"]
    draw(own_pictures / "more", 3)
    assert "hold other images" in sections(run)["crops"]


def test_bad_images_are_left_out_and_counted(train: Any, own_pictures: Path) -> None:
    run = train(images=own_pictures).run_dir
    for number in (1, 2, 3):
        (own_pictures / f"{number}.png").write_bytes(b"no image")
    assert "3 cannot be read and are left out" in sections(run)["map"]


def test_a_run_of_the_old_scripts_says_why_it_has_no_pictures(finished: Path) -> None:
    params = json.loads((finished / "params.json").read_text())
    del params["settings"]
    (finished / "params.json").write_text(json.dumps(params))
    assert "was it written by an old script" in sections(finished)["pictures"]
    with pytest.raises(MissingInputError):
        run_pictures(finished / "nothing")


def test_one_feature_for_all_images_is_called_what_it_is(finished: Path) -> None:
    state = checkpoint.load(finished / "checkpoint_best.pt")
    for key in ("weight", "bias"):
        state["teacher"][f"backbone.norm.{key}"].zero_()
    checkpoint.save(finished / "checkpoint_best.pt", state)
    found = sections(finished)
    assert "one-point collapse" in found["map"]
    assert list(found) == ALL


def test_hostile_file_names_and_labels_stay_text(train: Any, draw: Any, tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>\u202e'\""
    for label in (hostile, "b"):
        draw(tmp_path / "images" / label, 8, seed=len(label))
        for path in (tmp_path / "images" / label).iterdir():
            path.rename(path.with_name(f"{hostile}{path.name}"))
    run = train(images=tmp_path / "images").run_dir
    page = document("Pictures", *run_pictures(run))
    assert "<img src=x" not in page
    assert "\u202e" not in page
    assert "onerror=alert(1)&gt;" in page
