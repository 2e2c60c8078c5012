"""The settings of a run as tables: what was chosen for it and by whom, then all of them with what they mean."""

import re
from collections.abc import Mapping
from typing import Any

from sltdino.core.settings_schema import BY_KEY
from sltdino.report.web.html import Html, Section, details, element, escape, facts, join, paragraph, section, table

_DEFAULT = "default"
_BREAK = re.compile(r"(?<=[^\s./_])[./_](?=[^\s./_])")


def settings_section(params: Mapping[str, Any]) -> Section:
    """The section of a run's settings, from its params.json; of an old script's, what little it wrote down."""
    stored = params.get("settings")
    if not isinstance(stored, Mapping):
        rows = [[code(key), value_text(value)] for key, value in flat(params).items()]
        old = paragraph("An old script wrote this run's params.json: without origins, and not every setting.")
        return section("settings", "Settings", old, table(["setting", "value"], rows, caption="params.json"))
    origins = params.get("origins")
    values, origins = flat(stored), origins if isinstance(origins, Mapping) else {}
    chosen = [[code(key), value_text(value), origins[key]] for key, value in values.items() if key in origins]
    every = [
        [code(key), value_text(value), origins.get(key, _DEFAULT), BY_KEY[key].help if key in BY_KEY else None]
        for key, value in values.items()
    ]
    return section(
        "settings",
        "Settings",
        paragraph(f"{len(chosen)} of {len(values)} settings were not left at their defaults."),
        table(["setting", "value", "origin"], chosen, caption="Chosen for this run, or settled by its data"),
        details(
            f"All {len(values)} settings",
            table(["setting", "value", "origin", "meaning"], every, caption="Every setting"),
            printed=True,
        ),
    )


def software_section(params: Mapping[str, Any]) -> Section | None:
    """The section of what a run ran on; None where it did not say."""
    environment = params.get("environment")
    if not isinstance(environment, Mapping) or not environment:
        return None
    pairs = [(str(name).replace("_", " "), value_text(value)) for name, value in environment.items() if value != ""]
    return section("software", "Software and machine", paragraph("Where the run was started:"), facts(pairs))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted key."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return found


def code(text: object) -> Html:
    """A name or path, as it is typed."""
    return element("code", breakable(str(text)))


def breakable(text: str) -> Html:
    """Text that may go on in a new line behind its dots, strokes and low lines; copied, it is as it was."""
    return Html(_BREAK.sub(r"\g<0><wbr>", escape(text)))


def value_text(value: object) -> Html:
    """A setting's value as it would be typed: lists without brackets, a dash for nothing."""
    if value is None or value in ("", [], {}):
        return escape("–")
    if isinstance(value, bool):
        return escape(str(value).lower())
    if isinstance(value, list | tuple):
        return join(map(value_text, value), ", ")
    return breakable(str(value))
