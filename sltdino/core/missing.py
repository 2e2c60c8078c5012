"""What to say about a file or folder that is not there."""

import difflib
import os
from itertools import islice
from pathlib import Path

from sltdino.core.settings_schema import printable

_MOST_NAMES = 10_000  # of a folder, to look through for one that was meant


def not_there(path: Path) -> str:
    """`crops/hand: No such file or directory; …`: with what was perhaps meant, or how much of the path is there."""
    whole = Path(os.path.abspath(path))
    parent = next(folder for folder in whole.parents if os.path.isdir(folder))
    first, *rest = whole.relative_to(parent).parts
    said = f"{path}: No such file or directory"
    if os.path.lexists(parent / first):
        kind = "a file" if os.path.exists(parent / first) else "a broken link"
        return f"{said}; {printable(str(parent / first))} is {kind}"
    for name in difflib.get_close_matches(first[:100], _names(parent), n=3, cutoff=0.6):
        meant = (parent / name).joinpath(*rest)
        if os.path.exists(meant):
            return f"{said}; did you mean {printable(str(meant))}?"
    return f"{said}; {printable(str(parent))} is there, but no {first!r} in it"


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in islice(entries, _MOST_NAMES) if not entry.name.startswith("."))
    except OSError:  # a folder that may be entered but not read: there is nothing to suggest
        return []
