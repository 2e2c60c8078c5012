"""Exclusion lists: any file name survives, and a list for other folders never passes."""

import os
import shutil
from pathlib import Path

import pytest

from sltdino.data.exclusions import read_exclusions, write_exclusions
from sltdino.data.image_folder import ImageFolder, scan
from sltdino.errors import DataError, MissingInputError, RunFolderError

ODD = (
    b"\xff\xfe.png", b"new\nline.png", b"carriage\r.png", b"tab\t.png", b"back\\slash\\x41.png", b"# hash.png",
    b" space .png", "été 手.png".encode(), b"\x85.png", "\u2028.png".encode(), b"deep/er/x.png",
)  # fmt: skip


def touch(root: Path, *names: str | bytes) -> Path:
    for name in names:
        path = Path(os.fsdecode(os.path.join(os.fsencode(root), os.fsencode(name))))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def listed(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def names_of(images: ImageFolder, root: Path) -> list[str]:
    return [images.path(i).relative_to(root).as_posix() for i in range(len(images))]


def test_any_byte_string_that_is_a_name_can_be_listed(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "kept.png", *ODD)
    everything = scan([data])
    wanted = [everything.path(i) for i in range(len(everything)) if everything.path(i).name != "kept.png"]
    write_exclusions(tmp_path / "list.txt", data, [(path, "odd") for path in wanted], comment="")
    assert set(read_exclusions(tmp_path / "list.txt").names) == set(ODD)
    (tmp_path / "list.txt").read_bytes().decode()  # text in any editor
    images = scan([data], exclusions=read_exclusions(tmp_path / "list.txt"))
    assert names_of(images, data) == ["kept.png"]
    assert images.excluded is not None
    assert (images.excluded.images, images.excluded.unmatched) == (len(ODD), ())


def test_a_list_typed_by_hand_is_relative_to_the_training_folder(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "3/a.png", "3/b.png", "c.png")
    path = listed(tmp_path / "list.txt", "\ufeff# mine\r\n3/a.png\r\n\r\n./c.png\tdull\r\n")
    assert names_of(scan([data], exclusions=read_exclusions(path)), data) == ["3/b.png"]


def test_the_list_of_a_folder_means_its_images_wherever_training_starts(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "hand_l/v_f1.png", "hand_l/v_f2.png", "hand_r/v_f1.png", "hand_r/v_f2.png")
    (tmp_path / "linked").symlink_to(data)
    path = tmp_path / "list.txt"
    write_exclusions(path, data / "hand_l", [(data / "hand_l/v_f1.png", "black")], comment="")
    for roots in ([data], [data / "hand_l", data / "hand_r"], [tmp_path / "linked"]):
        images = scan(roots, exclusions=read_exclusions(path))
        kept = [images.path(i).resolve().relative_to(data).as_posix() for i in range(len(images))]
        assert kept == ["hand_l/v_f2.png", "hand_r/v_f1.png", "hand_r/v_f2.png"]


def test_a_list_for_another_folder_is_refused(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "hand_l/v_f1.png", "hand_r/v_f1.png")
    write_exclusions(tmp_path / "list.txt", data / "hand_l", [(data / "hand_l/v_f1.png", "black")], comment="")
    with pytest.raises(DataError, match=r"none of the 1 names .*hand_r.*it was made for .*hand_l"):
        scan([data / "hand_r"], exclusions=read_exclusions(tmp_path / "list.txt"))


def test_a_list_follows_data_that_moved(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "a/x.png", "a/y.png")
    write_exclusions(tmp_path / "list.txt", data, [(data / "a/x.png", "black")], comment="")
    moved = Path(shutil.move(data, tmp_path / "elsewhere"))
    assert names_of(scan([moved], exclusions=read_exclusions(tmp_path / "list.txt")), moved) == ["a/y.png"]


def test_of_several_folders_that_moved_the_names_are_below_the_one_they_share(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "l/v_f1.png", "r/v_f1.png")
    write_exclusions(tmp_path / "list.txt", data, [(data / "l/v_f1.png", "black")], comment="")
    moved = Path(shutil.move(data, tmp_path / "elsewhere"))
    images = scan([moved / "l", moved / "r"], exclusions=read_exclusions(tmp_path / "list.txt"))
    assert names_of(images, moved) == ["r/v_f1.png"]


def test_a_name_that_fits_two_training_folders_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "l/v_f1.png", "r/v_f1.png")
    path = listed(tmp_path / "list.txt", "v_f1.png\n")
    with pytest.raises(DataError, match=r"'v_f1.png' .* fits images in several of .*# folder: "):
        scan([tmp_path / "l", tmp_path / "r"], exclusions=read_exclusions(path))


def test_names_that_are_no_images_are_counted(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "a.png", "b.png")
    excluded = scan([data], exclusions=read_exclusions(listed(tmp_path / "list.txt", "a.png\nc.png\nd.png\n"))).excluded
    assert excluded is not None
    assert (excluded.images, excluded.unmatched) == (1, ("c.png", "d.png"))
    assert "2 of its names are of no image here, such as 'c.png'" in excluded.text


def test_a_list_of_nothing_leaves_everything(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "a.png")
    images = scan([data], exclusions=read_exclusions(listed(tmp_path / "list.txt", "# nothing\n")))
    assert len(images) == 1


def test_a_list_of_everything_is_refused(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "a.png")
    with pytest.raises(DataError, match="names every image, 1 in all"):
        scan([data], exclusions=read_exclusions(listed(tmp_path / "list.txt", "a.png\n")))


def test_the_fingerprint_is_that_of_what_is_left(tmp_path: Path) -> None:
    touch(tmp_path / "one", "a.png", "b.png", "c.png")
    touch(tmp_path / "two", "a.png", "c.png")
    path = listed(tmp_path / "list.txt", "b.png\n")
    left = scan([tmp_path / "one"], exclusions=read_exclusions(path)).fingerprint
    assert left == scan([tmp_path / "two"]).fingerprint


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\0.png\n", "is not text"),
        (b"a.png\nb\\q.png\n", r":2: .*b|stands for nothing"),
        (b"x\\", "stands for nothing"),
    ],
)
def test_what_is_no_list_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_exclusions(tmp_path / "list.txt")


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"--exclude: .*list\.txt: No such file"):
        read_exclusions(tmp_path / "list.txt")


def test_only_another_list_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    for number in (1, 2):
        write_exclusions(path, tmp_path, [(tmp_path / f"{number}.png", "black")], comment="")
        assert read_exclusions(path).names == (b"%d.png" % number,)
    path.write_text("my notes")
    with pytest.raises(RunFolderError, match="is no exclusion list"):
        write_exclusions(path, tmp_path, [], comment="")
    assert path.read_text() == "my notes"


def test_a_folder_in_the_place_of_a_list_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder; name a list that `sltdino check` wrote"):
        read_exclusions(tmp_path)
