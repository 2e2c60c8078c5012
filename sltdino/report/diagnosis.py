"""What `sltdino doctor` says: the facts of machine, software and output folder, what is wrong, and what to do."""

import functools
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sltdino.core import disk, machine, software
from sltdino.core.machine import Facts, anonymous
from sltdino.core.settings_schema import printable
from sltdino.errors import SltDinoError
from sltdino.report.remedies import Problem, find_problems

SECONDS = 10.0
"""What does not answer in this time, a network disk or a driver, is reported as such."""
IMPORT_SECONDS = 120.0
"""For the import of torch: from a network disk, or on a busy machine, the first takes a minute and is in order."""
TITLE = "sltdino doctor, for a bug report:"

_COLUMN = 24


class Diagnosis(NamedTuple):
    """The findings of one look."""

    problems: list[Problem]
    """Those that make training impossible first."""
    facts: dict[str, Facts]
    """By section. A section that could not be looked into has `not_found`, with the reason."""

    @property
    def exit_code(self) -> int:
        """0 when one can train here; else the exit code of the first problem that stands in the way."""
        return next((problem.exit_code for problem in self.problems if problem.exit_code), 0)


def diagnose(output_dir: Path) -> Diagnosis:
    """Look at everything. Never raises: what fails is part of the findings."""
    sections: dict[str, Callable[[], Facts]] = {
        "versions": software.versions,
        "torch": software.torch_build,
        "devices": software.devices,
        "processor": machine.processor,
        "memory": machine.memory,
        "images": _images,
        "extras": software.extras,
        "output_folder": functools.partial(disk.output_folder, output_dir),
        "system": machine.system,
        "session": machine.session,
    }
    facts = {
        name: look(collect, seconds=IMPORT_SECONDS if name == "torch" else SECONDS)
        for name, collect in sections.items()
    }
    problems = sorted(find_problems(facts), key=lambda problem: not problem.exit_code)
    return Diagnosis(problems, facts)


def look(collect: Callable[[], Facts], *, seconds: float = SECONDS) -> Facts:
    """The facts, or under `not_found` why there are none; a look that hangs is left to itself after `seconds`."""
    found: list[Facts] = []

    def try_it() -> None:
        try:
            found.append(collect())
        except SltDinoError as error:
            found.append({"not_found": anonymous(str(error)), "exit_code": error.exit_code})
        except BaseException as error:  # a broken library raises anything, also SystemExit
            reason = anonymous(f"{type(error).__name__}: {error}".partition("\n")[0])
            found.append({"not_found": reason[:300]})

    thread = threading.Thread(target=try_it, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else {"not_found": f"no answer in {seconds:g} s"}


def as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """The same for a program: `usable`, `problems` and `facts`, of plain values."""
    return {
        "usable": diagnosis.exit_code == 0,
        "problems": [problem._asdict() for problem in diagnosis.problems],
        "facts": diagnosis.facts,
    }


def render(diagnosis: Diagnosis) -> str:
    """Problems with what to do, then the facts as text to paste."""
    lines = ["no problems found"] if not diagnosis.problems else []
    for problem in diagnosis.problems:
        kind = "problem" if problem.exit_code else "warning"
        lines += [f"{kind}: {problem.what}", f"  -> {problem.what_to_do}"]
    lines += ["", TITLE]
    for section, facts in diagnosis.facts.items():
        lines += ["", section.replace("_", " ")]
        for key, value in _flat(facts):
            name = key.removesuffix("_per_second").removesuffix("_bytes").replace("_", " ")
            lines.append(f"  {name:<{_COLUMN}} {_shown(key, value)}")
    return "\n".join(map(printable, lines))


def _images() -> Facts:
    from sltdino.data.decode import FORMATS  # numpy and Pillow may be what is broken

    return {"formats_read": ", ".join(FORMATS), **software.images()}


def _flat(facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in facts.items():
        if key == "exit_code":
            continue
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows += [(f"{key} {at} {name}", item) for at, each in enumerate(value) for name, item in each.items()]
        else:
            rows.append((key, value))
    return rows


def _shown(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "; ".join(map(str, value)) or "none"
    if "bytes" in key:
        size = f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"
        return f"{size}/s" if key.endswith("per_second") else size
    return f"{value:g}" if isinstance(value, float) else str(value)
