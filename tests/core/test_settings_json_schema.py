"""The JSON schema of settings files, by an independent validator."""

import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sltdino.core.settings_files import load_settings
from sltdino.core.settings_json_schema import json_schema
from sltdino.core.settings_schema import BY_FLAT_NAME, IN_SECTION, SECTIONS
from sltdino.errors import SettingsError

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_fits(path: Path) -> None:
    assert list(VALIDATOR.iter_errors(tomllib.loads(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"train_dir": "crops", "tags": "one"},
        {"train_dir": ["a", "b"], "experiment": {"tag": ["x"]}},
        {"dataloader": {"num_workers": "auto"}, "num_workers": 3, "checkpoints": {"best_name": "b.pt"}},
        {"//": {"anything": [1, None]}, "aug_mean": [0.5, 0.5, 0.5]},
    ],
)
def test_what_the_reader_accepts_fits(content: dict[str, Any], tmp_path: Path) -> None:
    assert list(VALIDATOR.iter_errors(content)) == []
    read(content, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        {"epoch": 5},
        {"epochs": 0},
        {"epochs": "many"},
        {"train_dir": []},
        {"dataset": {"pin_memry": True}},
        {"augmentation": {"mean": [0.5, 0.5]}},
        {"algorithm": "byol"},
        {"section": {}},
        {"dataset": 3},
        {"vit": {"depth": "automatic"}},
    ],
)
def test_what_the_reader_refuses_does_not_fit(content: dict[str, Any], tmp_path: Path) -> None:
    assert list(VALIDATOR.iter_errors(content)) != []
    with pytest.raises(SettingsError):
        read(content, tmp_path)


def read(content: dict[str, Any], folder: Path) -> None:
    import json

    file = folder / "settings.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    load_settings("hands", files=[file], flags={} if "train_dir" in content else {"train_dir": "crops"})


def test_every_spelling_of_every_setting_is_known_and_explained() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == {*BY_FLAT_NAME, *SECTIONS, "//"}
    assert all(set(schema["$defs"][name]["properties"]) == set(words) for name, words in IN_SECTION.items())
    leaves = [row for name, row in schema["$defs"].items() if name not in IN_SECTION]
    assert all(row["description"] for row in leaves)
