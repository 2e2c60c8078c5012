"""Say in plain English what pydantic found wrong with the settings."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sltdino.core.settings_schema import BY_KEY, Leaf, did_you_mean

_PHRASES = {
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "path_type": "must be a path",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "too_short": "needs at least {min_length} value(s)",
} | dict.fromkeys(
    ("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "must be a whole number"
) | dict.fromkeys(("float_type", "float_parsing"), "must be a number")  # fmt: skip
_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
_LIST_ERRORS = ("tuple_type", "too_long", "missing")


class Problem(NamedTuple):
    """One mistake: which option, and what about it."""

    key: str
    message: str
    kind: Literal["value", "missing", "cross_field"] = "value"


def explain(error: ValidationError) -> list[Problem]:
    """Everything that is wrong, by option. Branches of a union and items of a list become one message each."""
    problems: list[Problem] = []
    by_place: dict[tuple[str, int | None], list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        if detail["type"] == "cross_field":
            problems += [Problem(key, message, "cross_field") for key, message in detail["ctx"]["problems"]]
        else:
            by_place.setdefault(_place(detail), []).append(detail)
    with_wrong_items = {key for key, item in by_place if item is not None}
    for (key, item), details in by_place.items():
        leaf = BY_KEY[key]
        if item is None and key in with_wrong_items:
            continue  # pydantic counts the right ones only, and finds the list too short
        if details[0]["type"] == "missing" and not _items(details[0]):
            where = f"pass {leaf.flag} {leaf.metavar} or set '{key}' in a --config file"
            problems.append(Problem(key, f"missing; {where}", "missing"))
        else:
            prefix = "" if item is None else f"value {item + 1} "
            problems.append(Problem(key, prefix + _message(leaf, details)))
    return problems


def wrong_switch(leaf: Leaf, value: Any) -> str:
    """What is wrong with true or false where no switch is; pydantic would take them for 1 and 0. Or nothing."""
    items = value if isinstance(value, list | tuple) else (value,)
    if leaf.is_switch or not any(isinstance(item, bool) for item in items):
        return ""
    return f"must be {_kind(leaf)} (got {shown(value)})"


def shown(value: Any) -> str:
    """A value as a settings file would have it, cut when long."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _place(detail: ErrorDetails) -> tuple[str, int | None]:
    """Option, and position in its list if one value is wrong. The rest of pydantic's path names branches of a union."""
    loc = detail["loc"]
    key = str(loc[0]) if loc[0] in BY_KEY else f"{loc[0]}.{loc[1]}"
    items = _items(detail)
    return key, items[0] if items and detail["type"] != "missing" else None


def _items(detail: ErrorDetails) -> list[int]:
    return [part for part in detail["loc"] if isinstance(part, int)]


def _message(leaf: Leaf, details: Sequence[ErrorDetails]) -> str:
    detail = next((detail for detail in details if detail["type"] != "literal_error"), None)
    if detail is None:
        value = details[0]["input"]
        near = did_you_mean(value, leaf.choices) if isinstance(value, str) else ""
        kind = _kind(leaf) if leaf.length == 1 else f"one of {', '.join(leaf.choices)}"
        return f"must be {kind} (got {shown(value)}){near}"
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    if detail["type"] in _LIST_ERRORS:
        return f"needs {_kind(leaf)}{_count(detail)}"
    phrase = _PHRASES.get(detail["type"], "").format(**detail.get("ctx", {})) or detail["msg"].lower()
    words = f", or {' or '.join(leaf.choices)}" if leaf.choices else ""
    # a flag's value is text: `(got 0)` reads better than `(got '0')` where it is a number already
    value = str(detail["input"]) if detail["type"] in _BOUNDS else shown(detail["input"])
    return f"{phrase}{words} (got {value})"


def _kind(leaf: Leaf) -> str:
    nouns = {int: "a whole number", float: "a number", str: "text"}
    if leaf.length != 1:
        return f"{leaf.length or 'a list of'} values"
    plain = [noun for kind, noun in nouns.items() if kind in leaf.types and not (kind is int and float in leaf.types)]
    if not plain and len(leaf.choices) > 1:
        return f"one of {', '.join(leaf.choices)}"
    return " or ".join([*(plain or ["a path"] * leaf.is_path), *leaf.choices])


def _count(detail: ErrorDetails) -> str:
    value = detail["input"]
    return f" (got {len(value)})" if isinstance(value, list | tuple) else f" (got {shown(value)})"
