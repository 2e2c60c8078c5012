"""The list of what a run made: an entry a name, replaced in place, order kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sltdino.core import json_files


def placed(
    artifacts: list[dict[str, Any]], path: Path | str, *, name: str | None, metadata: Mapping[str, object]
) -> list[dict[str, Any]]:
    """The list with an entry for `path`, in the place of the one of the same name or at the end."""
    entry = {
        "name": name if name is not None else Path(path).name,
        "path": str(path),
        "timestamp": json_files.now(),
        "metadata": json_files.finite(metadata),
    }
    names = [known["name"] for known in artifacts]
    if entry["name"] not in names:
        return [*artifacts, entry]
    index = names.index(entry["name"])
    return [*artifacts[:index], entry, *artifacts[index + 1 :]]
