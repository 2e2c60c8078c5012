"""Which clip and frame a crop is, by its name: `<video>_f000123.jpg`."""

import re
from typing import NamedTuple

_FRAME = re.compile(r"(?P<clip>.+)_f(?P<number>[0-9]{1,18})", re.DOTALL)  # more digits would not fit an int64


class FrameName(NamedTuple):
    """What the name of a crop says."""

    clip: str
    """Empty where it says nothing."""
    number: int


def frame_name(file_name: str) -> FrameName:
    """Read a file's name, suffix included: `video7_f000012.jpg` is frame 12 of `video7`."""
    match = _FRAME.fullmatch(file_name.rpartition(".")[0])
    return FrameName(match["clip"], int(match["number"])) if match else FrameName("", 0)
