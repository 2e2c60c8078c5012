"""What a resumed run may change: differences between stored and requested settings, and which of them are refused."""

from collections.abc import Sequence
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


def check_changes(changes: Sequence[Change], allowed: Sequence[str]) -> None:
    """Refuse what would make the run another one: identity always, trajectory unless its name is in `allowed`.

    `allowed` holds dotted keys, flat names or flags. Free changes always pass.

    Raises:
        ChangeRefusedError: with a line for every refused change and every unknown name in `allowed`.
    """
    lines = [f"--allow-change: unknown setting {name!r}{_near(name)}" for name in allowed if find_leaf(name) is None]
    keys = {leaf.key for name in allowed if (leaf := find_leaf(name))}
    lines += [_refusal(change) for change in changes if change.kind == "identity"]
    lines += [_refusal(change) for change in changes if change.kind == "trajectory" and change.key not in keys]
    if lines:
        raise ChangeRefusedError("\n".join(lines))


def _refusal(change: Change) -> str:
    difference = f"{change.key}: the run has {_shown(change.old)}, asked for {_shown(change.new)}"
    if change.kind == "identity":
        return f"{difference}; this is what makes it that run: start a new one"
    return f"{difference}; it would change the run's course: sltdino resume --allow-change {change.key} accepts that"


def _near(name: str) -> str:
    return did_you_mean(name.removeprefix("--").replace("-", "_"), [*BY_FLAT_NAME, *BY_KEY])


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))})"
    if isinstance(value, bool):
        return str(value).lower()
    return "nothing" if value in (None, "") else str(value)
