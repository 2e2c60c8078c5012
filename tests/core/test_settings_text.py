"""Settings written as a file and read back."""

import json
import os
import random
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sltdino.core.changes import compare
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_files import LoadedSettings, load_settings
from sltdino.core.settings_presets import STREAMS
from sltdino.core.settings_schema import LEAVES, Leaf, flatten
from sltdino.core.settings_text import settings_json, settings_template, settings_toml
from sltdino.errors import SettingsError

WORDS = ("a b", 'quo"te', "línea", "tab\there", "new\nline", "# hash", "[x]", "\\u0041", "三つ", "")


def candidates(leaf: Leaf, rng: random.Random) -> list[Any]:
    """Values that the option may accept, most of them not its default."""
    if leaf.is_switch:
        return [rng.random() < 0.5, *leaf.choices]
    if leaf.length not in (1, None):
        return [tuple(sorted(rng.uniform(0.01, 1) for _ in range(leaf.length)))]
    if leaf.length is None:
        return [[rng.choice(WORDS[:-1]).replace("\n", "-") for _ in range(rng.randint(1, 3))]]
    values: list[Any] = [*leaf.choices]
    if int in leaf.types:
        values += [rng.choice((1, 2, 3, 8, 64, 1000))]
    if float in leaf.types:
        values += [rng.random(), rng.choice((1e-12, 1e9, 0.1 + 0.2, 1.0))]
    if leaf.is_path or str in leaf.types:
        values += [rng.choice(WORDS[:-1]), f"{rng.randint(0, 9)}.pt"]
    rng.shuffle(values)
    return values


def random_settings(seed: int) -> LoadedSettings:
    """A random value for about half of all options, where it is valid beside those drawn before."""
    rng = random.Random(seed)
    stream = rng.choice((*STREAMS, None))
    flags: dict[str, Any] = {"train_dir": [f"crops {seed}", "~/more"]}
    loaded = load_settings(stream, flags=flags)
    for leaf in rng.sample(LEAVES, len(LEAVES) // 2):
        for value in candidates(leaf, rng)[:2]:
            try:
                loaded = load_settings(stream, flags={**flags, leaf.key: value})
            except SettingsError:
                continue
            flags[leaf.key] = value
            break
    return loaded


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("suffix", "write"), [("toml", settings_toml), ("json", settings_json)])
def test_random_settings_load_back_from_another_folder_as_they_are(
    seed: int, suffix: str, write: Any, tmp_path: Path
) -> None:
    loaded = random_settings(seed)
    file = tmp_path / f"back.{suffix}"
    file.write_text(write(loaded), encoding="utf-8")
    back = load_settings(files=[file]).settings
    assert (compare(loaded.settings, back), compare(back, loaded.settings)) == ([], [])
    assert run_control(back) == run_control(loaded.settings)


def run_control(settings: PretrainSettings) -> list[str]:
    """What `compare` leaves out, because it says which run to work on."""
    return [os.path.abspath(value) if value else "" for value in (settings.output_dir, settings.resume_from)] + [
        str(settings.overwrite)
    ]


def test_the_random_settings_differ_widely_from_the_defaults() -> None:
    defaults = flatten(load_settings(flags={"train_dir": "x"}).settings.model_dump())
    changed = {
        key
        for seed in range(20)
        for key, value in flatten(random_settings(seed).settings.model_dump()).items()
        if value != defaults[key]
    }
    assert len(changed) > 0.9 * len(LEAVES)


def origin_of(text: str, key: str) -> str:
    [line] = [line for line in text.splitlines() if re.match(rf"(# )?{key} (=|is not set)", line)]
    return line.rpartition("  # ")[2]


def test_every_value_stands_on_one_line_with_its_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hands.toml").write_text('train_dir = "crops"\n[dataset]\nbatch_size = 48\n', encoding="utf-8")
    loaded = load_settings(
        "hands", files=[Path("hands.toml")], sets=["loss.koleo_weight=0.1"], flags={"epochs": 5, "preset": "laptop"}
    )
    text = settings_toml(loaded)
    named = [
        origin_of(text, key) for key in ("train_dir", "batch_size", "koleo_weight", "epochs", "depth", "hflip_prob")
    ]
    assert named == [
        "hands.toml:1", "hands.toml:3", "--set loss.koleo_weight", "--epochs", "preset laptop", "preset hands",
    ]  # fmt: skip
    assert (origin_of(text, "seed"), origin_of(text, "val_dir")) == ("default", "default")
    assert len([line for line in text.splitlines() if "  # " in line]) == len(LEAVES)


def test_the_json_text_has_the_origins_where_reading_passes_over_them() -> None:
    content = json.loads(settings_json(load_settings("face", flags={"train_dir": "crops", "epochs": 5})))
    assert content["//"]["origins"]["epochs"] == "--epochs"
    assert content["//"]["origins"]["augmentation.hue"] == "preset face"
    assert content["augmentation"]["hue"] == 0.05
    assert set(content["//"]["origins"]) == {
        f"{section}.{key}"
        for section, group in content.items()
        if isinstance(group, dict) and section != "//"
        for key in group
    } | {key for key, value in content.items() if not isinstance(value, dict)}


def test_a_hostile_origin_stays_in_its_comment() -> None:
    loaded = load_settings("face", flags={"train_dir": "crops"})
    text = settings_toml(LoadedSettings(loaded.settings, {"epochs": "evil\nseed = 666 #.toml:1"}))
    assert tomllib.loads(text)["seed"] == 42


def test_a_path_that_is_no_text_is_refused_with_its_flag() -> None:
    loaded = load_settings("face", flags={"train_dir": "caf\udce9"})
    for write in (settings_toml, settings_json):
        with pytest.raises(SettingsError, match=r"--train-dir: .*caf\\udce9 is not UTF-8"):
            write(loaded)


@pytest.mark.parametrize("stream", STREAMS)
def test_a_template_as_written_gives_the_defaults(stream: str, tmp_path: Path) -> None:
    file = tmp_path / f"{stream}.toml"
    file.write_text(settings_template(stream), encoding="utf-8")
    loaded = load_settings(stream, files=[file])
    plain = load_settings(stream, flags={key: getattr(loaded.settings, key) for key in ("train_dir", "output_dir")})
    assert loaded.settings == plain.settings
    assert set(loaded.origins) - set(plain.origins) == set()


@pytest.mark.parametrize("stream", STREAMS)
def test_a_template_with_every_line_switched_on_gives_the_defaults(stream: str, tmp_path: Path) -> None:
    file = tmp_path / f"{stream}.toml"
    text = re.sub(r"^#(\w+ = )", r"\1", settings_template(stream), flags=re.MULTILINE)
    file.write_text(re.sub(r'^\w+ = "(PATH|FLOAT)"$', "", text, flags=re.MULTILINE), encoding="utf-8")
    loaded = load_settings(stream, files=[file])
    plain = load_settings(stream, flags={key: getattr(loaded.settings, key) for key in ("train_dir", "output_dir")})
    assert loaded.settings == plain.settings
    unset = {leaf.key for leaf in LEAVES if re.search(rf'^{leaf.key.rpartition(".")[2]} = "(PATH|FLOAT)"$', text, re.M)}
    assert set(loaded.origins) | unset | {"resume_from", "overwrite"} == {leaf.key for leaf in LEAVES}


def test_a_template_explains_every_setting() -> None:
    text = " ".join(settings_template("hands").replace("\n# ", " ").split())
    missing = [leaf.key for leaf in LEAVES if " ".join(leaf.help.split()) not in text]
    assert missing == ["resume_from", "overwrite"]


def test_settings_are_written_for_every_field_of_the_model() -> None:
    text = settings_toml(load_settings("hands", flags={"train_dir": "crops"}))
    sections = [line[1:-1] for line in text.splitlines() if line.startswith("[")]
    assert sections == [name for name in PretrainSettings.model_fields if f"[{name}]" in text]
    assert len(sections) == 9
