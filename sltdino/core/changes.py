"""What a resumed run may change: differences between stored and requested settings, and which of them are refused."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_base import ChangeClass
from sltdino.core.settings_schema import BY_FLAT_NAME, BY_KEY, LEAVES, absolute, did_you_mean, find_leaf, flatten
from sltdino.errors import ChangeRefusedError

RUN_CONTROL = frozenset({"resume_from", "overwrite", "output_dir"})
"""Settings that say which run to work on. They are no part of the run, so they never differ."""


class Change(NamedTuple):
    """A setting that is not what the run was started with."""

    key: str
    kind: ChangeClass
    old: Any
    new: Any


def compare(stored: PretrainSettings, requested: PretrainSettings) -> list[Change]:
    """Every difference, in the order of the settings. A requested `auto` keeps what is stored."""
    old, new = flatten(stored.model_dump()), flatten(requested.model_dump())
    return [
        Change(leaf.key, leaf.resume, old[leaf.key], new[leaf.key])
        for leaf in LEAVES
        if leaf.key not in RUN_CONTROL
        and new[leaf.key] != "auto"
        # the same folder named from elsewhere is no change
        and absolute(leaf, old[leaf.key]) != absolute(leaf, new[leaf.key])
    ]


def check_changes(changes: Sequence[Change], allowed: Sequence[str], *, run: Path) -> None:
    """Refuse what would make the run another one: identity always, trajectory unless its name is in `allowed`.

    `allowed` holds dotted keys, flat names or flags. Free changes always pass.

    Args:
        run: what `sltdino resume` takes to go on with the run.

    Raises:
        ChangeRefusedError: with a line for every refused change and every unknown name in `allowed`; where all of it
            may be allowed, the last line has the command.
    """
    lines = [f"--allow-change: unknown setting {name!r}{_near(name)}" for name in allowed if find_leaf(name) is None]
    keys = {leaf.key for name in allowed if (leaf := find_leaf(name))}
    lines += [_refusal(change) for change in changes if change.kind == "identity"]
    course = [change for change in changes if change.kind == "trajectory" and change.key not in keys]
    may_be_allowed = not lines
    lines += [_refusal(change) for change in course]
    if course and may_be_allowed:
        lines.append(f"to go on with that: {_command(changes, run)}")
    if lines:
        raise ChangeRefusedError("\n".join(lines))


def _refusal(change: Change) -> str:
    difference = f"{change.key}: the run has {_shown(change.old)}, asked for {_shown(change.new)}"
    if change.key == "train_minutes":
        return f"{difference}; minutes become steps when a run starts: to train longer, resume it with --epochs N"
    if change.kind == "identity":
        return f"{difference}; this is what makes it that run: start a new one"
    return f"{difference}; it would change the run's course"


def _command(changes: Sequence[Change], run: Path) -> str:
    """The command that makes and accepts the changes; --epochs needs no permission there."""
    keys = dict.fromkeys(change.key for change in changes if change.kind == "trajectory" and change.key != "epochs")
    words = ["sltdino", "resume", str(run), *(word for change in changes for word in _typed(change))]
    return shlex.join([*words, "--allow-change", ",".join(keys)] if keys else words)


def _typed(change: Change) -> list[str]:
    """The flags that ask for the change; none for images that are others in the same folders."""
    leaf, new = BY_KEY[change.key], change.new
    if new is None or (leaf.length is None and not isinstance(new, tuple)):
        return []
    if leaf.is_switch:
        return [leaf.flag if new else f"--no-{leaf.flag.removeprefix('--')}"]
    if not isinstance(new, tuple):
        return [leaf.flag, str(new)]
    if leaf.length is None:
        return [word for value in new for word in (leaf.flag, str(value))]
    return [leaf.flag, *map(str, new)]


def _near(name: str) -> str:
    return did_you_mean(name.removeprefix("--").replace("-", "_"), [*BY_FLAT_NAME, *BY_KEY])


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))})"
    if isinstance(value, bool):
        return str(value).lower()
    return "nothing" if value in (None, "") else str(value)
