"""Plain text pages of 80 columns."""

import textwrap
from collections.abc import Iterable

from sltdino.core.settings_schema import printable

WIDTH = 80
TITLE_WIDTH = 13


def rows(pairs: Iterable[tuple[str, str]]) -> str:
    """Titles and texts in two columns, long texts over several lines; nothing in them can drive a terminal."""
    return "\n".join(line for title, text in pairs for line in row(title, text))


def row(title: str, text: str, *, wrap: bool = True) -> list[str]:
    """The lines of one of `rows`; without `wrap` it is one line, as a command that is to be copied."""
    title, text = printable(title), printable(text)
    return _row(title, text) if wrap else [f"{title:<{TITLE_WIDTH}}{text}"]


def short(text: str, width: int) -> str:
    """The text, its middle cut out where it is longer than `width`."""
    text = printable(text)
    half = (width - 1) // 2
    return text if len(text) <= width else f"{text[:half]}…{text[len(text) - (width - 1 - half) :]}"


def duration(seconds: float) -> str:
    """`42 s`, `16 min`, `3 h 05 min` or `2 d 4 h`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def counted(number: float, what: str) -> str:
    """`1 image`, `2,000 images`, `12.63 epochs`."""
    return f"{short_number(number)} {what}{'' if number == 1 else 's'}"


def short_number(number: float) -> str:
    """A whole number as it is, another one to four digits: `2,000`, `12.63`."""
    return f"{number:,}" if isinstance(number, int) else f"{number:,.4g}"


def percent(share: float) -> str:
    """A share of a whole that is 100 % only where it is all of it."""
    return f"{min(share, 0.999) if share < 1 else share:.1%}" if share != 1 else "100%"


def _row(title: str, text: str) -> list[str]:
    indent = " " * TITLE_WIDTH
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False,
        break_long_words=False,  # a path that is to be copied stays whole
    ) or [indent]  # fmt: skip
    if len(title) >= TITLE_WIDTH:
        return [title, *lines]
    return [title.ljust(TITLE_WIDTH) + lines[0][TITLE_WIDTH:], *lines[1:]]
