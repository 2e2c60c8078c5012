"""Which frames of which clips are looked at."""

from pathlib import Path

import numpy as np
import pytest

from sltdino.data.image_folder import scan
from sltdino.evaluation import clip_sample
from sltdino.evaluation.clip_sample import ClipSample, sample_clips
from sltdino.evaluation.clips import frame_of


def frames(folder: Path, clip: str, *numbers: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{clip}_f{number:06d}.png").write_bytes(b"")


def found(sample: ClipSample) -> dict[int, list[tuple[str, int]]]:
    """Folder/clip and frame of every image, by the number of its clip."""
    clips: dict[int, list[tuple[str, int]]] = {}
    for path, number in zip(sample.paths, sample.clips_N.tolist(), strict=True):
        frame = frame_of(path.name)
        assert frame is not None
        clips.setdefault(number, []).append((f"{path.parent.name}/{frame.clip}", frame.number))
    return clips


def test_five_frames_are_spread_over_a_clip_whatever_number_it_begins_at(tmp_path: Path) -> None:
    frames(tmp_path / "a", "one", *range(1000, 1201))
    frames(tmp_path / "a", "two", *range(45))
    sample = sample_clips(scan([tmp_path]))
    assert sorted(found(sample).values()) == [
        [("a/one", number) for number in (1000, 1050, 1100, 1150, 1200)],
        [("a/two", number) for number in (0, 11, 22, 33, 44)],
    ]
    assert sample.num_clips == 2


def test_frames_of_a_clip_are_never_nearer_than_ten(tmp_path: Path) -> None:
    frames(tmp_path / "a", "one", *range(25))
    frames(tmp_path / "a", "two", 0, 3, 9, 30, 31, 32)
    frames(tmp_path / "a", "short", *range(9))
    assert sorted(found(sample_clips(scan([tmp_path]))).values()) == [
        [("a/one", 0), ("a/one", 10), ("a/one", 20)], [("a/two", 0), ("a/two", 9 + 21)],
    ]  # fmt: skip


def test_one_name_in_two_folders_is_two_clips(tmp_path: Path) -> None:
    for folder in ("left", "right"):
        frames(tmp_path / folder, "one", 0, 20)
    assert sorted(found(sample_clips(scan([tmp_path]))).values()) == [
        [("left/one", 0), ("left/one", 20)], [("right/one", 0), ("right/one", 20)],
    ]  # fmt: skip


@pytest.mark.parametrize("names", [("one_f0.png", "one_f50.png"), ("1.png", "2.png"), ("a_f1.png", "b_f1.png")])
def test_without_two_clips_there_is_no_sample(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    sample = sample_clips(scan([tmp_path]))
    assert (sample.paths, sample.num_clips) == ((), 0)


def test_of_many_clips_a_fixed_number_is_drawn_the_same_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_sample, "MAX_CLIPS", 4)
    for number in range(12):
        frames(tmp_path / "a", f"video{number}", 0, 20, 40)
    np.random.seed(1)
    one = sample_clips(scan([tmp_path]))
    np.random.seed(2)
    assert sample_clips(scan([tmp_path])).paths == one.paths
    assert (one.num_clips, len(one.paths)) == (4, 12)
    assert len({path.name.split("_")[0] for path in one.paths}) == 4
