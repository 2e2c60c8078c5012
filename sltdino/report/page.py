"""Plain text pages of 80 columns."""

import textwrap
from collections.abc import Iterable

from sltdino.core.settings_schema import printable

WIDTH = 80
_TITLE = 13


def rows(pairs: Iterable[tuple[str, str]]) -> str:
    """Titles and texts in two columns, long texts over several lines; nothing in them can drive a terminal."""
    return "\n".join(line for title, text in pairs for line in _row(printable(title), printable(text)))


def short(text: str, width: int) -> str:
    """The text, its middle cut out where it is longer than `width`."""
    text = printable(text)
    half = (width - 1) // 2
    return text if len(text) <= width else f"{text[:half]}…{text[len(text) - (width - 1 - half) :]}"


def _row(title: str, text: str) -> list[str]:
    indent = " " * _TITLE
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False,
        break_long_words=False,  # a path that is to be copied stays whole
    ) or [indent]  # fmt: skip
    if len(title) >= _TITLE:
        return [title, *lines]
    return [title.ljust(_TITLE) + lines[0][_TITLE:], *lines[1:]]
