"""A data set with everything wrong in it: each flaw is counted, in order, and the list names the right images."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from sltdino.data.checking import measuring
from sltdino.data.checking.flaws import Flaw, find_flaws
from sltdino.data.checking.survey import Survey, survey
from sltdino.data.checking.unwanted import KINDS, unwanted
from sltdino.errors import DataError, SettingsError


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((80, 80), Image.Resampling.NEAREST)


def save(image: Image.Image, *parts: object) -> Path:
    path = Path(*map(str, parts))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """Twelve different images of two signers."""
    for number in range(12):
        save(picture(number), tmp_path, "train", "ab"[number % 2], f"signer{number % 2}-{number}.png")
    return tmp_path / "train"


def flaws(train: Path, **options: object) -> dict[str, Flaw]:
    return {flaw.name: flaw for flaw in find_flaws(survey([train], **options))}  # type: ignore[arg-type]


def listed(found: Survey, *more: str) -> dict[str, str]:
    kinds = [*(name for name, kind in KINDS.items() if kind.by_default), *more]
    return {found.shown(index): reason for index, reason in unwanted(found, kinds).items()}


def test_a_clean_data_set_has_no_flaw(train: Path) -> None:
    assert flaws(train) == {}


def test_broken_black_constant_and_copied_images_are_listed_with_their_reasons(train: Path) -> None:
    (train / "a/cut.png").write_bytes((train / "a/signer0-0.png").read_bytes()[:200])
    save(Image.new("RGB", (80, 80), (4, 4, 4)), train / "b/black.png")
    save(Image.new("RGB", (80, 80), (200, 10, 10)), train / "b/red.png")
    save(picture(3), train / "b/z-copy.bmp")
    found = survey([train])
    assert [flaw.name for flaw in find_flaws(found) if flaw.excludes] == ["broken", "black", "constant", "copies"]
    reasons = listed(found)
    assert reasons.pop("a/cut.png").startswith("broken: ")
    assert reasons == {
        "b/black.png": "black",
        "b/red.png": "constant",
        "b/z-copy.bmp": "same pixels as b/signer1-3.png",
    }


def test_black_images_are_no_copies_of_each_other(train: Path) -> None:
    path = save(Image.new("RGB", (8, 8)), train / "a/black0.png")
    for number in range(1, 300):
        shutil.copy(path, train / f"a/black{number}.png")
    found = survey([train])
    assert found.duplicates[:2] == ((), ())
    assert find_flaws(found)[0][:2] == ("black", 300)


def test_what_stands_on_both_sides_is_said_first_and_leaves_training(train: Path, tmp_path: Path) -> None:
    val = tmp_path / "val"
    save(picture(3), val, "b/other-name.png")
    save(ImageEnhance.Brightness(picture(4)).enhance(0.8), val, "a/darker.png")
    save(picture(100), val, "a/own.png")
    found = survey([train], val_dir=val)
    assert [(flaw.name, flaw.number, flaw.total) for flaw in find_flaws(found)] == [
        ("leaked", 1, 3),
        ("near leaks", 1, 3),
    ]
    same = {"train/b/signer1-3.png": "same pixels as val/b/other-name.png"}
    assert listed(found) == same
    assert listed(found, "leaks") == {**same, "train/a/signer0-4.png": "nearly the same as val/a/darker.png"}


def test_a_near_copy_of_a_leaked_image_counts_as_one_of_the_validation_image(train: Path, tmp_path: Path) -> None:
    save(picture(3), tmp_path / "val/b/copy.png")
    save(ImageEnhance.Brightness(picture(3)).enhance(0.8), train / "b/darker.png")
    found = survey([train], val_dir=tmp_path / "val")
    assert set(listed(found, "leaks")) == {"train/b/signer1-3.png", "train/b/darker.png"}


def test_signers_and_clips_on_both_sides_are_counted(train: Path, tmp_path: Path) -> None:
    save(picture(50), train / "a/signer5-clip1_f000001.png")
    save(picture(51), tmp_path / "val/b/signer5-clip1_f000009.png")
    save(picture(52), tmp_path / "val/b/signer7-clip2_f000009.png")
    found = flaws(train, val_dir=tmp_path / "val", group=re.compile("^(signer[0-9]+)"))
    assert found["same signers"][1:3] == (1, 4)
    assert found["same clips"][1:3] == (1, 2)


def test_one_image_under_two_labels_is_said(train: Path) -> None:
    save(picture(2), train / "b/copy.png")
    assert flaws(train)["torn labels"].number == 2


def test_near_copies_of_other_clips_and_frames_like_the_one_before_are_apart(train: Path) -> None:
    for frame in range(4):
        save(ImageEnhance.Brightness(picture(60)).enhance(1 - frame / 50), train / f"a/v1_f{frame:06d}.png")
    save(ImageEnhance.Brightness(picture(60)).enhance(0.7), train / "a/v2_f000000.png")
    found = survey([train])
    by_name = {flaw.name: flaw for flaw in find_flaws(found)}
    assert by_name["repeats"].number == 3
    assert by_name["near-copies"].number == len(by_name["near-copies"].examples[0]) - 1
    assert [found.shown(index) for index in by_name["near-copies"].examples[0]][-1] == "a/v2_f000000.png"
    assert listed(found) == {}
    assert len(listed(found, "repeats")) == 3


@pytest.mark.parametrize(
    ("folders", "side"),
    [
        (("hand_l", "hand_r"), True), (("left", "right"), True), (("x/left-hand", "y/right hand"), True),
        (("LHand", "RHand"), True), (("l", "r"), False), (("leftover", "bright"), False),
    ],
)  # fmt: skip
def test_sides_are_read_from_the_names_of_folders(folders: tuple[str, str], side: bool, tmp_path: Path) -> None:
    for number in range(4):
        save(picture(number), tmp_path, folders[0], f"{number}.png")
    save(picture(9), tmp_path, folders[1], "0.png")
    found = flaws(tmp_path)
    assert ("sides" in found) == side
    if side:
        assert "4 left and 1 right" in found["sides"].text


def test_uneven_labels_small_blurred_and_unread_files_are_said(train: Path) -> None:
    for number in range(30):
        save(picture(200 + number), train, "c", f"{number}.png")
    save(picture(300).resize((40, 90)), train / "c/small.png")
    save(picture(301).resize((4, 4)).resize((80, 80), Image.Resampling.BICUBIC), train / "c/soft.png")
    (train / "c/photo.webp").write_bytes(b"")
    found = flaws(train)
    assert list(found) == ["not read", "labels", "small", "blurred"]
    assert found["not read"].text == "files are not read: 1 webp"
    assert "mogrify" in found["not read"].remedy
    assert "32 of 'c'" in found["labels"].text


def test_any_number_of_processes_measures_the_same(train: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (train / "a/cut.png").write_bytes(b"x")
    alone = survey([train])
    monkeypatch.setattr(measuring, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr(measuring, "_CHUNK", 2)
    together = survey([train], workers=2)
    assert together.images.tobytes() == alone.images.tobytes()
    assert together.reasons == alone.reasons


def test_the_validation_folder_lies_apart(train: Path) -> None:
    with pytest.raises(SettingsError, match=r"--val-dir: .*lie in each other"):
        survey([train], val_dir=train / "a")


def test_nothing_but_broken_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"not one of 1 images can be read; .*a\.png: empty file"):
        survey([tmp_path])


def _noise_file() -> bytes:
    content = io.BytesIO()
    picture(0).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_check_leaves_no_file_and_no_process(by: signal.Signals, tmp_path: Path) -> None:
    content = _noise_file()
    (tmp_path / "data").mkdir()
    (tmp_path / "out").mkdir()
    for number in range(4000):
        (tmp_path / f"data/{number}.png").write_bytes(content)
    command = [
        sys.executable,
        "-m",
        "sltdino",
        "check",
        str(tmp_path / "data"),
        "--num-workers",
        "2",
        "--html",
        "a.html",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen(
        command, cwd=tmp_path / "out", env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    workers = _children(process.pid, at_least=2)
    process.send_signal(by)
    _, said = process.communicate(timeout=30)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGKILL: -9}[by], said
    assert list((tmp_path / "out").iterdir()) == []
    _wait(lambda: not any(Path(f"/proc/{worker}/stat").exists() and _is_alive(worker) for worker in workers))


def _children(parent: int, *, at_least: int) -> list[int]:
    found: list[int] = []

    def look() -> bool:
        found[:] = [int(text) for text in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
        return len(found) >= at_least

    _wait(look)
    return found


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)
