"""Groups of images by their file names."""

import re
from pathlib import Path

import pytest

from sltdino.data.groups import group_name, group_names
from sltdino.errors import DataError


def test_the_group_is_the_first_match_of_the_pattern_in_the_file_name() -> None:
    assert group_names([Path("s9/s1-s2.png"), Path("s2.png")], re.compile("(s[0-9]+)")) == ["s1", "s2"]


@pytest.mark.parametrize("regex", ["(s[0-9]+)", "^(s?)", "^(?:x|(s))"])
def test_what_captures_nothing_names_no_group(regex: str) -> None:
    pattern = re.compile(regex)
    assert group_name("x.png", pattern) == ""
    with pytest.raises(DataError, match=r"names of 1 of 2 images, such as 'x\.png'"):
        group_names([Path("s1.png"), Path("x.png")], pattern)
