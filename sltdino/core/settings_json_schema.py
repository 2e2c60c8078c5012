"""A JSON schema of settings files, for editors that complete and check what is typed."""

import functools
from typing import Any

from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_reader import JSON_COMMENT
from sltdino.core.settings_schema import IN_SECTION, LEAVES, SECTIONS, Leaf, section_class

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Schema (draft 2020-12) of a TOML or JSON settings file, with every spelling that the reader accepts.

    Nothing is required: what a file leaves out may come from another file or a flag.
    """
    settings = {leaf.key: _setting(leaf) for leaf in LEAVES}
    sections = {name: _section(name) for name in IN_SECTION}
    flat = {name: _reference(leaf.key) for leaf in LEAVES for name in leaf.flat_names}
    grouped = {alias: _reference(name) for alias, name in SECTIONS.items()}
    comment = {JSON_COMMENT: {"description": "A comment: passed over when the file is read."}}
    return {
        "$schema": _DRAFT,
        "title": "sltdino settings",
        "description": "A file for sltdino pretrain --config.",
        **_object({**flat, **grouped, **comment}),
        "$defs": settings | sections,
    }


def _setting(leaf: Leaf) -> dict[str, Any]:
    section, _, name = leaf.key.rpartition(".")
    schema = {key: value for key, value in _model_schema(section)["properties"][name].items() if key != "title"}
    if leaf.length is None:  # one value may stand for a list of one
        described = {key: schema.pop(key) for key in ("description", "default") if key in schema}
        return {"anyOf": [schema, schema["items"]], **described}
    return schema


@functools.cache
def _model_schema(section: str) -> dict[str, Any]:
    """What pydantic says of a section, or of the whole settings where it has no name."""
    model = section_class(PretrainSettings.model_fields[section].annotation) if section else PretrainSettings
    assert model is not None
    return model.model_json_schema()


def _section(name: str) -> dict[str, Any]:
    described = {"description": _model_schema(name)["description"]}
    return described | _object({word: _reference(leaf.key) for word, leaf in IN_SECTION[name].items()})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _reference(key: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{key}"}
