"""Are two runs the same run? Weights at zero tolerance, metrics without times; the first difference is named.

    python tools/compare_runs.py RUN OTHER

Exit code 0 and no output when they are equal; 1 and the first difference on stdout when they are not.
"""

import sys
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from sltdino.core.run_files import load_checkpoint, read_metrics, read_names
from sltdino.errors import SltDinoError
from sltdino.training.health import HEALTHY, STARVED

STATE = ("student", "teacher", "objective", "optimizer", "steps_done", "progress", "watch")
TIMES = frozenset({"timestamp", "seconds", "images_per_second", "data_wait", "eta_seconds"})
"""What may differ between two runs of the same steps."""


def first_difference(run: Path, other: Path) -> str:
    """The first difference between the last checkpoints and metrics of two run folders; empty when there is none.

    Raises:
        SltDinoError: one of the runs cannot be read.
    """
    one, two = ({key: load_checkpoint(path).state[key] for key in STATE} for path in (run, other))
    return next(_differences(one, two, "checkpoint"), "") or next(_differences(_metrics(run), _metrics(other), ""), "")


def _metrics(run: Path) -> dict[str, dict[str, Any]]:
    """Records by what they are about; that a run was resumed is no result of its steps."""
    records = [record for record in read_metrics(run, read_names(run).history_file) if record["context"] != "resume"]
    return {f"metrics record {number}": _timeless(record) for number, record in enumerate(records, start=1)}


def _timeless(record: dict[str, Any]) -> dict[str, Any]:
    """The record with a verdict that is of its step, where it has one: that a loader is slow is no result either."""
    return {**record, "health": HEALTHY} if record.get("health") == STARVED else record


def _differences(one: Any, other: Any, where: str) -> Iterator[str]:
    if type(one) is not type(other):
        yield f"{where}: {_brief(one)} and {_brief(other)}"
    elif isinstance(one, Mapping):
        for key in dict.fromkeys([*one, *other]):
            if key not in TIMES:
                yield from _differences(one.get(key), other.get(key), f"{where}.{key}".removeprefix("."))
    elif isinstance(one, list):
        for index, (a, b) in enumerate(zip_longest(one, other)):
            yield from _differences(a, b, f"{where}[{index}]")
    elif isinstance(one, torch.Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            yield f"{where}: {_brief(one)} and {_brief(other)}"
        elif not torch.equal(one, other):
            yield f"{where}: {int((one != other).sum())} of {one.numel()} numbers differ"
    elif one != other:
        yield f"{where}: {_brief(one)} and {_brief(other)}"


def _brief(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} of shape {list(value.shape)}"
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def main(argv: list[str]) -> int:
    """Compare the two runs named in `argv`; the exit code."""
    if len(argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        difference = first_difference(Path(argv[0]), Path(argv[1]))
    except SltDinoError as error:
        print(f"error [{error.code}] {error}", file=sys.stderr)
        return error.exit_code
    if difference:
        print(difference)
    return 1 if difference else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
