"""Groups of images by their file names: the signer, or the clip, that several images show."""

import re

from sltdino.errors import SettingsError


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
