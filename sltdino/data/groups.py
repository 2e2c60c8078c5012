"""Groups of images by their file names: the signer, or the clip, that several images show."""

import re
from collections.abc import Sequence
from pathlib import Path

from sltdino.errors import DataError, SettingsError

_EXAMPLES = 3


def group_pattern(regex: str) -> re.Pattern[str]:
    """`--group-regex`, compiled.

    Raises:
        SettingsError: it is no regular expression, or does not have exactly one capture group.
    """
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise SettingsError(f"--group-regex: {regex!r} is no regular expression ({error})") from error
    if pattern.groups != 1:
        raise SettingsError(
            f"--group-regex: {regex!r} has {pattern.groups} capture groups; it needs one, around what names the group, "
            "as in '^(signer[0-9]+)'"
        )
    return pattern


def group_name(file_name: str, pattern: re.Pattern[str]) -> str:
    """What the capture group holds of the first match in a file's name; empty where nothing matches."""
    found = pattern.search(file_name)
    return "" if found is None else found[1] or ""


def group_names(paths: Sequence[Path], pattern: re.Pattern[str]) -> list[str]:
    """The `group_name` of every image.

    Raises:
        DataError: a name does not match, or its group is empty; says how many, and which.
    """
    names = [group_name(path.name, pattern) for path in paths]
    unmatched = [path.name for path, name in zip(paths, names, strict=True) if not name]
    if unmatched:
        examples = ", ".join(map(repr, unmatched[:_EXAMPLES]))
        raise DataError(
            f"--group-regex: {pattern.pattern!r} does not match the names of {len(unmatched):,} of {len(paths):,} "
            f"images, such as {examples}; the pattern is searched in the file name"
        )
    return names
