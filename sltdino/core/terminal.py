"""What may be done to the stream that a person looks at."""

from collections.abc import Mapping
from typing import TextIO


def takes_a_bar(stream: TextIO | None, environ: Mapping[str, str]) -> bool:
    """Whether escape codes are welcome: on a terminal that can move its cursor, unless NO_COLOR or CI is set.

    FORCE_COLOR changes nothing: there is no colour to force, and a bar in a pipe or a log is noise.
    """
    if stream is None or not stream.isatty() or environ.get("NO_COLOR") or environ.get("CI"):
        return False
    return environ.get("TERM", "dumb") not in ("dumb", "unknown", "")
