"""The drawn crops: what is where, that they repeat, and that raw pixels alone do not give the label away."""

from collections import Counter
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sltdino.data.synthetic import DEMOS, NUM_SIGNERS, demo_crop, write_demo_crops
from sltdino.errors import CannotCreateError, ResourceError, RunFolderError, SettingsError


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.jpg")}


@pytest.mark.parametrize("stream", DEMOS)
def test_the_same_seed_draws_the_same_files(stream: str, tmp_path: Path) -> None:
    assert write_demo_crops(stream, tmp_path / "a", count=12, seed=3).images == 12
    write_demo_crops(stream, tmp_path / "b", count=12, seed=3)
    write_demo_crops(stream, tmp_path / "c", count=12, seed=4)
    first, again, other = (files_of(tmp_path / name) for name in "abc")
    assert len(first) == 12
    assert first == again
    assert not set(first.values()) & set(other.values())


@pytest.mark.parametrize("stream", DEMOS)
def test_an_image_depends_on_its_number_and_not_on_how_many_there_are(stream: str, tmp_path: Path) -> None:
    write_demo_crops(stream, tmp_path / "few", count=6, seed=0)
    write_demo_crops(stream, tmp_path / "more", count=8, seed=0)
    assert files_of(tmp_path / "few").items() < files_of(tmp_path / "more").items()


@pytest.mark.parametrize("stream", DEMOS)
def test_files_lie_in_a_folder_per_label_and_carry_their_clip(stream: str, tmp_path: Path) -> None:
    write_demo_crops(stream, tmp_path, count=7, seed=0)
    for path in tmp_path.rglob("*.jpg"):
        split, label, name = path.relative_to(tmp_path).parts
        assert split in ("train", "val")
        assert label in DEMOS[stream].labels
        clip, frame = name.removesuffix(".jpg").split("_f")
        assert clip.startswith("signer")
        assert len(frame) == 6
        assert frame.isdigit()
        with Image.open(path) as image:
            assert (image.size, image.mode) == ((128, 128), "RGB")


def test_the_frames_of_a_clip_are_numbered_one_after_the_other() -> None:
    numbers: dict[str, list[int]] = {}
    for index in range(200):
        clip, _, frame = demo_crop("hands", index=index, seed=0).name.removesuffix(".jpg").rpartition("_f")
        numbers.setdefault(clip, []).append(int(frame))
    assert len(numbers) == 40
    assert {tuple(frames) for frames in numbers.values()} == {(0, 1, 2, 3, 4)}


@pytest.mark.parametrize("stream", DEMOS)
def test_no_signer_straddles_the_split_and_every_label_is_on_both_sides(stream: str) -> None:
    labels = DEMOS[stream].labels
    crops = [demo_crop(stream, index=index, seed=0) for index in range(5 * NUM_SIGNERS * len(labels))]
    signers = {split: {crop.frame.signer for crop in crops if crop.split == split} for split in ("train", "val")}
    assert not signers["train"] & signers["val"]
    assert len(signers["val"]) == NUM_SIGNERS / 5
    for split in ("train", "val"):
        counts = Counter(crop.label for crop in crops if crop.split == split)
        assert set(counts) == set(labels)
        assert len(set(counts.values())) == 1
    assert len({(crop.split, crop.label, crop.name) for crop in crops}) == len(crops)


@pytest.mark.parametrize("stream", DEMOS)
def test_every_signer_shows_every_label_equally_often(stream: str) -> None:
    labels = DEMOS[stream].labels
    crops = [demo_crop(stream, index=index, seed=0) for index in range(5 * NUM_SIGNERS * len(labels))]
    shown = Counter((crop.frame.signer, crop.label) for crop in crops)
    assert len(shown) == NUM_SIGNERS * len(labels)
    assert set(shown.values()) == {5}


def test_the_report_counts_what_is_in_the_folder(tmp_path: Path) -> None:
    report = write_demo_crops("face", tmp_path, count=60, seed=0)
    files = [path.relative_to(tmp_path).parts for path in tmp_path.rglob("*.jpg")]
    assert report.images == len(files) == 60
    assert report.labels == Counter(label for _, label, _ in files)
    signers = {(split, name.partition("-")[0]) for split, _, name in files}
    assert report.signers == Counter(split for split, _ in signers)


def test_several_processes_draw_the_same_bits(tmp_path: Path) -> None:
    write_demo_crops("hands", tmp_path / "one", count=20, seed=0)
    write_demo_crops("hands", tmp_path / "two", count=20, seed=0, workers=2)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_a_process_that_dies_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    def kill_one(done: int) -> None:
        for process in active_children():
            process.kill()

    with pytest.raises(ResourceError, match="call again"):
        write_demo_crops("hands", tmp_path, count=100, seed=0, workers=2, on_drawn=kill_one)


def test_the_same_call_completes_an_interrupted_drawing(tmp_path: Path) -> None:
    def interrupt(done: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo_crops("face", tmp_path / "cut", count=12, seed=3, on_drawn=interrupt)
    assert len(files_of(tmp_path / "cut")) == 5
    with pytest.raises(RunFolderError, match="delete it"):
        write_demo_crops("face", tmp_path / "cut", count=12, seed=4)
    write_demo_crops("face", tmp_path / "cut", count=12, seed=3)
    write_demo_crops("face", tmp_path / "whole", count=12, seed=3)
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")
    assert [path.name for path in (tmp_path / "cut").iterdir() if path.is_file()] == []


def test_raw_pixels_tell_hand_shapes_better_than_chance_but_far_from_well() -> None:
    """Held-out crops take the label of most of their 20 nearest training crops, pixel by pixel."""
    demo = DEMOS["hands"]
    pixels: dict[str, list[np.ndarray]] = {"train": [], "val": []}
    labels: dict[str, list[int]] = {"train": [], "val": []}
    for index in range(0, 1600, 5):  # one frame of each clip
        crop = demo_crop("hands", index=index, seed=0)
        values = np.asarray(demo.draw(crop.label, crop.frame).resize((32, 32)), dtype=np.float32).ravel()
        pixels[crop.split].append((values - values.mean()) / values.std())
        labels[crop.split].append(demo.labels.index(crop.label))
    nearest = np.argsort(-np.stack(pixels["val"]) @ np.stack(pixels["train"]).T, axis=1)[:, :20]
    guesses = [np.bincount(neighbours).argmax() for neighbours in np.array(labels["train"])[nearest]]
    accuracy = float(np.mean(np.array(guesses) == np.array(labels["val"])))
    assert 1.2 / len(demo.labels) < accuracy < 0.5


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="not empty"):
        write_demo_crops("hands", tmp_path, count=10, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(CannotCreateError, match="taken"):
        write_demo_crops("hands", tmp_path / "taken", count=10, seed=0)


def test_unknown_streams_and_counts_too_small_for_a_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="hands, face"):
        write_demo_crops("feet", tmp_path, count=10, seed=0)
    with pytest.raises(SettingsError, match="at least 6"):
        write_demo_crops("hands", tmp_path, count=5, seed=0)
