"""What is said about a name that is not there."""

from pathlib import Path

from sltdino.core.missing import not_there


def test_the_nearest_folder_that_exists_is_named(tmp_path: Path) -> None:
    (tmp_path / "crops").mkdir()
    said = not_there(tmp_path / "crops" / "xyz" / "train")
    assert said.endswith(f"No such file or directory; {tmp_path / 'crops'} is there, but no 'xyz' in it")


def test_a_similar_name_is_only_suggested_when_the_whole_path_is_there(tmp_path: Path) -> None:
    (tmp_path / "hand-digits" / "val").mkdir(parents=True)
    assert "did you mean" not in not_there(tmp_path / "hand-digit" / "train")
    assert not_there(tmp_path / "hand-digit" / "val").endswith(f"did you mean {tmp_path / 'hand-digits' / 'val'}?")


def test_a_file_in_the_place_of_a_folder_and_a_broken_link_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    assert not_there(tmp_path / "file" / "x").endswith(f"{tmp_path / 'file'} is a file")
    assert not_there(tmp_path / "link").endswith(f"{tmp_path / 'link'} is a broken link")


def test_a_relative_name_is_said_as_it_was_given() -> None:
    assert not_there(Path("sltdinoo-no-such-thing")).startswith("sltdinoo-no-such-thing: No such file")


def test_a_name_with_escapes_that_is_suggested_does_nothing_to_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "crops\x1b[2J").mkdir()
    assert not_there(tmp_path / "crops").endswith("crops\\x1b[2J?")
