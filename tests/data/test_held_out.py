"""Validation images that are training images too: by name, by link and by content, and at what cost."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sltdino.data.held_out import refuse_shared_images, shared_images
from sltdino.data.image_folder import scan
from sltdino.errors import SettingsError


def fill(folder: Path, count: int, *, seed: int, size: int = 100) -> Path:
    """Files of one length whose bytes differ."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        (folder / f"{number}.png").write_bytes(rng.bytes(size))
    return folder


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return fill(tmp_path / "train", 8, seed=1)


@pytest.fixture
def val(tmp_path: Path) -> Path:
    return fill(tmp_path / "val", 7, seed=2)


def refusal(train: Path, val: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        refuse_shared_images(scan([train]), scan([val]))
    return str(caught.value)


def test_files_of_the_same_lengths_that_differ_in_a_byte_are_held_out(train: Path, val: Path) -> None:
    content = bytearray((train / "3.png").read_bytes())
    content[-1] ^= 1
    (val / "5.png").write_bytes(content)
    assert shared_images(scan([train]), scan([val])) == (0, False, ())
    refuse_shared_images(scan([train]), scan([val]))


def test_a_validation_folder_inside_a_training_folder_is_refused_with_the_first_five(val: Path) -> None:
    said = refusal(val.parent, val)
    names = "; ".join(f"{val}/{number}.png" for number in range(5))
    assert said == (
        f"--val-dir: 7 of 7 validation images are training images too: {names} and 2 more; "
        "name training folders that do not hold the validation images"
    )


def test_a_linked_folder_is_the_folder(train: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(train)
    assert "8 of 8 validation images are training images too" in refusal(train, tmp_path / "linked")


@pytest.mark.parametrize("make", [os.symlink, os.link, shutil.copy])
def test_a_link_or_a_copy_under_another_name_is_found_by_its_content(make: Any, train: Path, val: Path) -> None:
    (val / "5.png").unlink()
    make(train / "3.png", val / "5.png")
    assert refusal(train, val) == (
        f"--val-dir: 1 of 7 validation images are copies of training images: {val}/5.png of {train}/3.png; "
        "keep one of each two, or split the images anew; all of them, and a list for `pretrain --exclude`: "
        f"sltdino check {train} --val-dir {val}"
    )


def test_every_validation_copy_counts_and_the_first_training_image_is_named(train: Path, val: Path) -> None:
    shutil.copy(train / "2.png", train / "9.png")
    for number in (1, 4):
        shutil.copy(train / "2.png", val / f"{number}.png")
    found = shared_images(scan([train]), scan([val]))
    assert (found.number, found.are_copies) == (2, True)
    assert found.examples == ((val / "1.png", train / "2.png"), (val / "4.png", train / "2.png"))


def test_only_what_may_be_the_same_is_read(train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    val = fill(tmp_path / "val", 3, seed=2, size=99)
    content = bytearray((train / "3.png").read_bytes())
    (val / "same middle.png").write_bytes(b"-" + content[1:])
    (val / "same length.png").write_bytes(b"-" * 100)
    images, opened, read = scan([train]), [], []
    others, real_open, real_read = scan([val]), os.open, os.read
    monkeypatch.setattr(os, "open", lambda path, *rest: opened.append(Path(path).name) or real_open(path, *rest))
    monkeypatch.setattr(os, "read", lambda file, size: read.append(file) or real_read(file, size))
    assert not shared_images(images, others).number
    assert sorted(opened) == sorted(
        [*(f"{number}.png" for number in range(8)), "same length.png", *2 * ["same middle.png"], "3.png"]
    )
    assert len(read) == 2 * 2  # two files, to their ends


def test_empty_and_unreadable_files_are_no_copies(train: Path, val: Path) -> None:
    (train / "0.png").write_bytes(b"")
    (val / "0.png").write_bytes(b"")
    trained_on, held_out = scan([train]), scan([val])
    shutil.copy(train / "2.png", val / "2.png")
    (train / "2.png").unlink()
    (val / "3.png").unlink()
    assert not shared_images(trained_on, held_out).number
