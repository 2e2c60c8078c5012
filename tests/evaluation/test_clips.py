"""Which images are a clip, and where its features go."""

import os
from pathlib import Path

import pytest

from sltdino.data.image_folder import common_folder, scan
from sltdino.errors import DataError
from sltdino.evaluation.clips import Clip, group_clips


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"never decoded here")
    return root


def group(*inputs: Path) -> dict[str, list[tuple[int, str]]]:
    """Frame number and file name of the images of every clip."""
    images = scan(inputs)
    clips = group_clips(images, common_folder(inputs))
    return {
        clip.file: [(int(n), images.path(int(i)).name) for n, i in zip(clip.frames, clip.images, strict=True)]
        for clip in clips
    }


def the_clip(root: Path) -> Clip:
    [clip] = group_clips(scan([root]), root)
    return clip


def test_a_clip_is_the_name_before_the_frame_number_in_order_of_the_numbers(tmp_path: Path) -> None:
    touch(tmp_path, "a_f000010.jpg", "a_f000009.png", "b_f2.jpg", "a_f11.jpg")
    assert group(tmp_path) == {
        "a": [(9, "a_f000009.png"), (10, "a_f000010.jpg"), (11, "a_f11.jpg")],
        "b": [(2, "b_f2.jpg")],
    }


def test_the_last_frame_number_of_a_name_counts(tmp_path: Path) -> None:
    assert group(touch(tmp_path, "take_f3_f000001.jpg")) == {"take_f3": [(1, "take_f3_f000001.jpg")]}


def test_one_name_in_several_folders_is_several_clips(tmp_path: Path) -> None:
    touch(tmp_path, "face/v_f1.jpg", "hand_l/v_f1.jpg", "hand_r/deep/v_f1.jpg")
    assert list(group(tmp_path)) == ["face/v", "hand_l/v", "hand_r/deep/v"]


def test_several_inputs_are_told_apart_by_what_they_do_not_share(tmp_path: Path) -> None:
    touch(tmp_path, "train/face/v_f1.jpg", "val/face/v_f1.jpg")
    assert list(group(tmp_path / "train" / "face", tmp_path / "val" / "face")) == ["train/face/v", "val/face/v"]


def test_an_input_may_be_a_file_and_its_folder_is_where_it_lies(tmp_path: Path) -> None:
    touch(tmp_path, "v_f1.jpg", "v_f2.jpg", "w_f1.jpg")
    assert group(tmp_path / "v_f2.jpg", tmp_path / "v_f1.jpg") == {"v": [(1, "v_f1.jpg"), (2, "v_f2.jpg")]}


def test_other_images_are_one_clip_a_folder_in_natural_order(tmp_path: Path) -> None:
    root = touch(tmp_path / "crops", "3/img10.png", "3/img2.png", "top.png", "3/_f7.png")
    assert group(root) == {
        "crops": [(0, "top.png")],
        "3": [(0, "_f7.png"), (1, "img2.png"), (2, "img10.png")],
    }
    files = [root / "3" / name for name in ("img10.png", "img2.png")]
    assert group(*files) == {"3": [(0, "img2.png"), (1, "img10.png")]}


def test_hostile_names_stay_inside(tmp_path: Path) -> None:
    clips = ["na\nme", "手話", "-rf", "a b;$(x)", "%s", "\x1b[2J", "_.."]
    touch(tmp_path, *(f"{clip}_f1.jpg" for clip in clips))
    (tmp_path / os.fsdecode(b"\xff\xfe_f1.jpg")).write_bytes(b"")
    found = group(tmp_path)
    assert set(found) == {*clips, os.fsdecode(b"\xff\xfe")}
    assert not any(Path(file).is_absolute() or ".." in Path(file).parts for file in found)


def test_rows_run_from_the_first_frame_to_the_last(tmp_path: Path) -> None:
    clip = the_clip(touch(tmp_path, "v_f7.jpg", "v_f9.jpg", "v_f12.jpg"))
    assert (clip.first, clip.num_rows, clip.numbered) == (7, 6, True)


def test_two_images_of_one_frame_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"v_f01\.jpg and v_f1\.png are both frame 1 of one clip"):
        group(touch(tmp_path, "v_f1.png", "v_f01.jpg", "v_f2.jpg"))


def test_two_clips_of_one_file_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the features of both would be 3; rename one"):
        group(touch(tmp_path, "3/picture.png", "3_f1.png"))


def test_numbers_that_are_no_frame_numbers_are_refused_before_they_take_memory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"would take 20,231,123,120,000 rows \(at most 10,200\)"):
        group(touch(tmp_path, "v_f1.jpg", "v_f20231123120000.jpg"))
    assert the_clip(touch(tmp_path / "x", "v_f1.jpg", "v_f10200.jpg")).num_rows == 10_200


def test_a_number_too_long_for_any_integer_is_part_of_the_name(tmp_path: Path) -> None:
    name = f"v_f{'9' * 100}.jpg"
    assert group(touch(tmp_path / "c", name)) == {"c": [(0, name)]}
