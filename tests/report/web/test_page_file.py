"""Where a report may be written, and over what."""

from pathlib import Path
from typing import Any

import pytest

from sltdino.errors import CannotCreateError
from sltdino.report.web.html import document
from sltdino.report.web.page_file import check_place, write_page


def test_an_older_report_is_replaced_and_another_file_is_not(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    check_place(path, [finished])
    write_page(path, document("Zeichen <ä>"))
    assert "Zeichen &lt;ä&gt;" in path.read_text()
    check_place(path, [finished])
    path.write_text("<!doctype html><p>Mine")
    with pytest.raises(CannotCreateError, match=r"report\.html: exists, and no report; .* --overwrite"):
        check_place(path, [finished])
    check_place(path, [finished], overwrite=True)


def test_a_file_of_the_run_is_never_replaced(finished: Path) -> None:
    for name in ("checkpoint_last.pt", "params.json", "metrics.jsonl"):
        with pytest.raises(CannotCreateError, match="is a file of the run"):
            check_place(finished / name, [finished], overwrite=True)
    check_place(finished / "report.html", [finished])


def test_no_page_lies_among_the_images(train: Any, own_pictures: Path, draw: Any, tmp_path: Path) -> None:
    for label in "ab":
        draw(tmp_path / "val" / label, 3, seed=ord(label))
    run = train(images=own_pictures, val_dir=str(tmp_path / "val")).run_dir
    (tmp_path / "link").symlink_to(own_pictures)
    for folder in (own_pictures, tmp_path / "link", tmp_path / "val" / "a"):
        with pytest.raises(CannotCreateError, match="lies among the images"):
            check_place(folder / "report.html", [run], overwrite=True)


def test_a_folder_or_a_place_in_none_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotCreateError, match="is a folder"):
        check_place(tmp_path, [finished])
    with pytest.raises(CannotCreateError, match="there is no folder"):
        check_place(tmp_path / "none" / "report.html", [finished])
