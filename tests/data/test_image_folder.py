"""Scanning: what is found, in which order, what is said about the rest, and how little memory it takes."""

import os
import pickle
import shlex
import subprocess
import time
import tracemalloc
from pathlib import Path

import pytest

from sltdino.data.image_folder import ImageFolder, scan
from sltdino.errors import DataError, MissingInputError


def touch(root: Path, *names: str, content: bytes = b"") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def names_of(images: ImageFolder, root: Path) -> list[str]:
    return [images.path(i).relative_to(root).as_posix() for i in range(len(images))]


def test_natural_order_own_files_first(tmp_path: Path) -> None:
    touch(tmp_path, "b10/x.png", "b9/x.png", "b9/a/2.png", "img10.png", "img2.png", "img02.png", "Img1.png")
    assert names_of(scan([tmp_path]), tmp_path) == [
        "Img1.png", "img02.png", "img2.png", "img10.png", "b9/x.png", "b9/a/2.png", "b10/x.png",
    ]  # fmt: skip


def test_labels_are_the_first_sub_folders(tmp_path: Path) -> None:
    touch(tmp_path, "10/x.png", "9/deep/er/x.png", "x.png")
    images = scan([tmp_path])
    assert [images.label(i) for i in range(3)] == ["", "9", "10"]
    assert images.labels == ("", "9", "10")


def test_extensions_are_the_six_in_any_case(tmp_path: Path) -> None:
    wanted = ["a.PNG", "b.jpg", "c.JpEg", "d.bmp", "e.TIF", "f.tiff"]
    touch(tmp_path, *wanted, "png", "notes.txt", "g.jpg.part")
    assert sorted(names_of(scan([tmp_path]), tmp_path)) == wanted


def test_other_formats_are_counted_by_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.webp", "sub/c.WEBP", "d.heic", "e.gif", "README", "frame.000123", "x.y.toolongsuffix")
    assert scan([tmp_path]).other_formats == {"": 3, "gif": 1, "heic": 1, "webp": 2}


def test_no_images_says_what_was_found_instead(tmp_path: Path) -> None:
    touch(tmp_path, "b.webp", "c.webp", "d.heic", ".hidden.png")
    with pytest.raises(DataError, match=r"found 2 webp, 1 heic; skipped 1 hidden files") as caught:
        scan([tmp_path])
    assert caught.value.exit_code == 65


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="nowhere: No such file") as caught:
        scan([tmp_path / "nowhere"])
    assert caught.value.exit_code == 66


def test_a_mistyped_root_is_answered_with_the_one_that_was_meant(tmp_path: Path) -> None:
    touch(tmp_path, "hand-digits/train/a.png")
    with pytest.raises(MissingInputError) as caught:
        scan([tmp_path / "hand-digit" / "train"])
    assert str(caught.value).endswith(f"; did you mean {tmp_path / 'hand-digits' / 'train'}?")


@pytest.mark.parametrize(("suffix", "name"), [("webp", "WebP"), ("heic", "HEIC"), ("gif", "GIF")])
def test_images_of_a_format_that_is_not_read_come_with_the_command_that_converts_them(
    suffix: str, name: str, tmp_path: Path
) -> None:
    touch(tmp_path, f"my crops/a.{suffix}", f"my crops/b.{suffix}", "my crops/notes.txt")
    with pytest.raises(DataError) as caught:
        scan([tmp_path / "my crops"])
    said, _, command = str(caught.value).partition("ImageMagick: ")
    assert f"{name} is not read" in said
    found = subprocess.run(shlex.split(command.replace("-exec mogrify -format png {} +", "")), capture_output=True)
    assert found.stdout.endswith(f".{suffix}\n".encode())
    assert found.stdout.count(b"\n") == 2


def test_other_files_are_not_said_to_be_images(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(DataError, match=r"; name a folder with images$"):
        scan([tmp_path])


def test_a_root_can_be_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "sub/a.png", "sub/b.png", "c.txt")
    images = scan([tmp_path / "sub" / "b.png"])
    assert (images.path(0), images.label(0), len(images)) == (tmp_path / "sub" / "b.png", "", 1)
    with pytest.raises(DataError, match=r"c\.txt: not a PNG"):
        scan([tmp_path / "c.txt"])


def test_relative_roots_survive_a_change_of_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "data/a.png")
    monkeypatch.chdir(tmp_path)
    images = scan([Path("data")])
    monkeypatch.chdir("/")
    assert images.path(0).exists()


def test_link_loops_end(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    images = scan([tmp_path])
    assert names_of(images, tmp_path) == ["a/x.png"]
    assert any("1 folders met a second time" in warning for warning in images.warnings)
    assert any("1 broken links" in warning for warning in images.warnings)


def test_the_same_file_counts_once_and_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.png", "a/y.png")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "linked.png").symlink_to(tmp_path / "a" / "x.png")
    images = scan([tmp_path, tmp_path / "a", tmp_path / "a" / "y.png"])
    assert names_of(images, tmp_path) == ["a/x.png", "a/y.png"]
    assert any("2 files met a second time" in warning for warning in images.warnings)
    assert any("1 folders met a second time" in warning for warning in images.warnings)


def test_links_to_different_files_and_hard_links_are_images_of_their_own(tmp_path: Path) -> None:
    touch(tmp_path, "store/x.png", "store/y.png")
    (tmp_path / "set").mkdir()
    for name in "xy":
        (tmp_path / "set" / f"{name}.png").symlink_to(tmp_path / "store" / f"{name}.png")
    os.link(tmp_path / "store" / "x.png", tmp_path / "set" / "hard.png")
    images = scan([tmp_path / "set"])
    assert names_of(images, tmp_path / "set") == ["hard.png", "x.png", "y.png"]
    assert images.warnings == ()


def test_hidden_and_special_things_are_skipped_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", ".b.png", "._a.png", ".cache/c.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    images = scan([tmp_path])
    assert names_of(images, tmp_path) == ["a.png"]
    said = " ".join(images.warnings)
    for part in ("3 hidden files and folders", "1 special files", "1 broken links"):
        assert part in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_folder_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "locked/b.png")
    (tmp_path / "locked").chmod(0)
    images = scan([tmp_path])
    assert any("1 folders that cannot be read (Permission denied)" in warning for warning in images.warnings)


def test_a_folder_that_fails_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.png", "locked/b.png")
    real = os.scandir

    def scandir(path: bytes) -> object:
        if path.endswith(b"locked"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    images = scan([tmp_path])
    assert names_of(images, tmp_path) == ["a.png"]
    assert any("1 folders that cannot be read (Permission denied)" in warning for warning in images.warnings)


def test_any_byte_string_is_a_legal_name(tmp_path: Path) -> None:
    odd = [b"\xff\xfe.png", b"new\nline.png", b"\xc3\xa9t\xc3\xa9 \xe6\x89\x8b.png", b"'\"$`.png", b"0" * 250 + b".png"]
    for name in odd:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"1")
    images = scan([tmp_path])
    assert sorted(os.fsencode(images.path(i).name) for i in range(len(images))) == sorted(odd)
    assert all(images.path(i).read_bytes() == b"1" for i in range(len(images)))


def test_the_fingerprint_follows_names_and_sizes_and_not_the_place(tmp_path: Path) -> None:
    for place in ("one", "elsewhere/two"):
        touch(tmp_path / place, "a/x.png", "y.png", content=b"12345")
    first = scan([tmp_path / "one"]).fingerprint
    assert scan([tmp_path / "elsewhere" / "two"]).fingerprint == first
    touch(tmp_path / "one", "y.png", content=b"123456")
    assert scan([tmp_path / "one"]).fingerprint != first
    touch(tmp_path / "one", "y.png", content=b"12345")
    assert scan([tmp_path / "one"]).fingerprint == first
    (tmp_path / "one" / "y.png").rename(tmp_path / "one" / "z.png")
    assert scan([tmp_path / "one"]).fingerprint != first


def test_an_index_outside_raises(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    for index in (-1, 1):
        with pytest.raises(IndexError):
            scan([tmp_path]).path(index)


def held_bytes(images: ImageFolder) -> int:
    """Memory of a fresh copy, measured by the allocator."""
    pickled = pickle.dumps(images)
    tracemalloc.start()
    try:
        copy = pickle.loads(pickled)
        assert len(copy) == len(images)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def many_files(root: Path, count: int) -> None:
    for clip in range(count // 100):
        (root / f"signer{clip % 10}").mkdir(exist_ok=True)
        for frame in range(100):
            name = f"signer{clip % 10}/video{clip:05}_f{frame:06}.jpg"
            os.close(os.open(root / name, os.O_CREAT | os.O_WRONLY))


def test_20_000_files_take_under_100_bytes_each(tmp_path: Path) -> None:
    many_files(tmp_path, 20_000)
    images = scan([tmp_path])
    assert len(images) == 20_000
    assert held_bytes(images) < 60 * len(images)
    assert images.nbytes < 60 * len(images)


@pytest.mark.slow
def test_200_000_files_take_seconds_and_under_100_bytes_each(tmp_path: Path) -> None:
    many_files(tmp_path, 200_000)
    start = time.perf_counter()
    images = scan([tmp_path])
    assert time.perf_counter() - start < 15
    assert len(images) == 200_000
    assert held_bytes(images) < 100 * len(images)
