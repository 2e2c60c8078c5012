"""Sources, precedence, origins and errors of settings. The keys are those of COMPAT.md 1.2."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sltdino.core.auto import settle
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_files import LoadedSettings, load_settings
from sltdino.core.settings_presets import PRESETS
from sltdino.core.settings_reader import read_settings_file
from sltdino.core.settings_schema import BY_KEY, LEAVES, SECTIONS, flatten, nest, printable
from sltdino.errors import SettingsError

SEED = """\
train_dir = ["../datasets/face_train"]
output_dir = "work_dirs/dino_face"
epochs = 50
algorithm = "ibot"

[dataset]
batch_size = 48
num_workers = 4
pin_memory = true
persistent_workers = true

[augmentation]
brightness = 0.5
gaussian_blur_prob = 0.7
mean = [0.481, 0.457, 0.408]
std = [0.268, 0.261, 0.276]

[checkpointing]
best_name = "best.pt"
last_name = "last.pt"
history_file = "training_metrics.jsonl"

[experiment]
name = "face-ibot-baseline"
tags = ["face", "ibot", "baseline"]
notes = "Entrenamiento inicial con augmentations más agresivos."
"""

SECTION_KEYS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "dataset": (
        ("dataset", "dataloader"),
        {"batch_size": 9, "num_workers": 3, "shuffle": False, "pin_memory": True, "persistent_workers": True},
    ),
    "augmentation": (
        ("augmentation", "augmentations"),
        {
            "brightness": 0.11, "contrast": 0.12, "saturation": 0.13, "hue": 0.14, "color_jitter_prob": 0.15,
            "grayscale_prob": 0.16, "gaussian_blur_prob": 0.17, "solarize_prob": 0.18, "hflip_prob": 0.19,
            "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "global_crop_scale": [0.3, 0.9],
            "local_crop_scale": [0.2, 0.3], "image_size": 64, "local_crop_size": 32, "num_global_crops": 2,
            "global_crops": 2, "num_local_crops": 7,
        },
    ),
    "checkpointing": (
        ("checkpointing", "checkpoint", "checkpoints"),
        {"best_name": "b.pt", "last_name": "l.pt", "history_file": "h.jsonl"},
    ),
    "experiment": (("experiment",), {"name": "n", "notes": "x", "tags": ["a", "b"]}),
}  # fmt: skip

FLAT_KEYS: dict[str, Any] = {
    "output_dir": "/o", "algorithm": "ibot", "epochs": 3, "learning_rate": 0.5, "weight_decay": 0.2,
    "warmup_epochs": 2.0, "teacher_momentum_base": 0.9, "teacher_momentum_final": 0.99, "clip_grad_norm": 1.5,
    "out_dim": 99, "head_hidden_dim": 98, "patch_out_dim": 97, "patch_mask_ratio": 0.4, "patch_loss_weight": 0.6,
    "student_temp": 0.2, "teacher_temp": 0.03, "center_momentum": 0.8, "seed": 5, "device": "cpu", "resume": "auto",
    "export_backbone": "/e.pt", "log_interval": 4, "patch_size": 8, "vit_embed_dim": 64, "vit_depth": 2,
    "vit_num_heads": 2, "vit_mlp_ratio": 2.0, "stream": "s", "pseudo_epochs": 2, "use_sinkhorn": True,
    "sinkhorn_eps": 0.06, "sinkhorn_iters": 5, "koleo_weight": 0.3, "koleo_epsilon": 0.01, "export_checkpoint": True,
    "output_path": "/p.pt", "dataset_pin_memory": True, "aug_hue": 0.2, "checkpoint_best_name": "z.pt",
    "experiment_name": "e", "experiment_tag": "t",
} | {name: value for _, keys in SECTION_KEYS.values() for name, value in keys.items()}  # fmt: skip


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str, name: str = "run.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def load(*files: Path, **sources: Any) -> LoadedSettings:
    flags = {"train_dir": ["crops"]} | dict(sources.pop("flags", {}))
    return load_settings(files=files, flags=flags, **sources)


def problems(*files: Path, **sources: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(*files, **sources)
    return list(caught.value.problems)


def in_json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


# -- what the documents promise -------------------------------------------------------------------------------------


def test_the_seed_file_gives_the_settings_it_says(write: Any, tmp_path: Path) -> None:
    settings, origins = load_settings("face", files=[write(SEED)])
    assert settings.train_dir == (tmp_path / "../datasets/face_train",)
    assert settings.output_dir == tmp_path / "work_dirs/dino_face"
    assert (settings.epochs, settings.algorithm, settings.stream) == (50, "ibot", "face")
    assert settings.dataset.model_dump(exclude={"cache", "max_bad_fraction", "exclude"}) == {
        "batch_size": 48, "num_workers": 4, "shuffle": True, "pin_memory": True, "persistent_workers": True,
    }  # fmt: skip
    assert (settings.augmentation.brightness, settings.augmentation.gaussian_blur_prob) == (0.5, 0.7)
    assert settings.augmentation.mean == (0.481, 0.457, 0.408)
    assert settings.augmentation.std == (0.268, 0.261, 0.276)
    assert settings.checkpointing.history_file == "training_metrics.jsonl"
    assert settings.experiment.tags == ("face", "ibot", "baseline")
    assert settings.experiment.notes.endswith("más agresivos.")
    assert origins["experiment.name"] == f"{tmp_path / 'run.toml'}:24"


@pytest.mark.parametrize("section", SECTION_KEYS)
def test_every_documented_section_alias_and_key_is_understood(section: str, write: Any) -> None:
    aliases, keys = SECTION_KEYS[section]
    for alias in aliases:
        for key, value in keys.items():
            settings, origins = load(write(json.dumps({alias: {key: value}}), "run.json"))
            [changed] = [dotted for dotted, origin in origins.items() if "run.json" in origin]
            assert changed == f"{section}.{'num_global_crops' if key == 'global_crops' else key}"
            assert in_json(flatten(settings.model_dump())[changed]) == value


@pytest.mark.parametrize("key", FLAT_KEYS)
def test_every_documented_option_is_a_top_level_key(key: str, write: Any) -> None:
    settings, origins = load(write(json.dumps({key: FLAT_KEYS[key], "train_dir": "x"}), "run.json"))
    [changed] = [dotted for dotted, origin in origins.items() if "run.json" in origin]
    value = FLAT_KEYS[key]
    assert in_json(flatten(settings.model_dump())[changed]) in (value, [value])


def test_no_two_options_share_a_flag_or_a_name_in_files() -> None:
    flags = Counter(leaf.flag for leaf in LEAVES)
    names = Counter(name for leaf in LEAVES for name in leaf.flat_names) + Counter(list(SECTIONS))
    assert [name for name, count in (flags + names).items() if count > 1] == []


def test_json_and_toml_say_the_same(write: Any) -> None:
    toml = write("epochs = 3\n[dataset]\nbatch_size = 4\n")
    text = write('{"epochs": 3, "dataset": {"batch_size": 4}}', "run.json")
    assert load(toml).settings == load(text).settings


# -- precedence and origins -----------------------------------------------------------------------------------------


def test_flags_win_over_sets_over_later_files_over_earlier_over_preset_over_defaults(write: Any) -> None:
    early = write("hue = 0.2\ncontrast = 0.2\nbrightness = 0.2\nhflip_prob = 0.2\n", "early.toml")
    late = write("[augmentation]\nhue = 0.3\ncontrast = 0.3\nbrightness = 0.3\n", "late.toml")
    settings, origins = load_settings(
        "hands",
        files=[early, late],
        sets=["hue=0.4", "contrast=0.4"],
        flags={"train_dir": "x", "augmentation.hue": "0.5"},
    )
    crops = settings.augmentation
    assert (crops.hue, crops.contrast, crops.brightness, crops.hflip_prob) == (0.5, 0.4, 0.3, 0.2)
    assert {key.partition(".")[2]: origin.rpartition("/")[2] for key, origin in origins.items() if "." in key} == {
        "hue": "--aug-hue",
        "contrast": "--set contrast",
        "brightness": "late.toml:4",
        "hflip_prob": "early.toml:4",
    }


def test_the_flat_top_level_wins_over_a_section_of_the_same_file(write: Any) -> None:
    assert load(write("batch_size = 4\n[dataset]\nbatch_size = 8\n")).settings.dataset.batch_size == 4


def test_a_section_of_a_later_file_wins_over_the_top_level_of_an_earlier_one(write: Any) -> None:
    files = write("batch_size = 4\n", "a.toml"), write("[dataset]\nbatch_size = 8\n", "b.toml")
    assert load(*files).settings.dataset.batch_size == 8


def test_defaults_have_no_origin() -> None:
    assert load().origins == {"train_dir": "--train-dir"}


def test_a_switch_turned_off_is_named_as_it_was_typed() -> None:
    assert load(flags={"dataset.shuffle": False}).origins["dataset.shuffle"] == "--no-dataset-shuffle"


def test_a_named_preset_wins_over_the_streams_and_loses_to_files_and_flags(write: Any) -> None:
    file = write('preset = "laptop"\n[vit]\ndepth = 6\n', name="small.toml")
    settings, origins = load_settings("hands", files=[file], flags={"train_dir": "crops", "epochs": 7})
    assert (settings.vit.embed_dim, settings.vit.depth, settings.epochs) == (192, 6, 7)
    assert settings.augmentation.hflip_prob == 0.0
    assert (origins["vit.embed_dim"], origins["augmentation.hflip_prob"]) == ("preset laptop", "preset hands")
    assert origins["vit.depth"].endswith("small.toml:3")


def test_the_preset_named_last_is_the_one_that_counts(write: Any) -> None:
    file = write('preset = "laptop"\n')
    settings, origins = load_settings("hands", files=[file], flags={"train_dir": "crops", "preset": "none"})
    assert (settings.vit.embed_dim, origins.get("vit.embed_dim")) == ("auto", None)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings("hands", flags={"train_dir": "crops", "preset": "labtop"})
    assert caught.value.problems == (
        "--preset: must be one of none, laptop, dino, ibot, dinov2, signmusketeers (got 'labtop'); "
        "did you mean 'laptop'?",
    )


def test_every_preset_can_be_asked_for_and_is_valid() -> None:
    assert tuple(PRESETS) == BY_KEY["preset"].choices
    for name in PRESETS:
        settings = load_settings("face", flags={"train_dir": "crops", "preset": name}).settings
        assert set(PRESETS[name]) <= set(PretrainSettings.model_fields)
        assert settings.preset == name


def test_a_resumed_run_keeps_its_values_whatever_preset_is_named() -> None:
    stored = load_settings("hands", flags={"train_dir": "crops", "vit_depth": 2})
    assert load_settings(flags={"preset": "laptop"}, base=stored).settings.vit.depth == 2


def test_a_comment_in_json_is_passed_over(write: Any) -> None:
    file = write('{"//": {"epochs": "why five"}, "epochs": 5}', name="s.json")
    assert load_settings("hands", files=[file], flags={"train_dir": "crops"}).settings.epochs == 5
    inside = write('{"dataset": {"//": "why"}}', name="t.json")
    with pytest.raises(SettingsError, match=r"unknown key 'dataset.//'"):
        load_settings("hands", files=[inside], flags={"train_dir": "crops"})


def test_a_base_takes_the_place_of_preset_and_defaults() -> None:
    base = load_settings("hands", flags={"train_dir": "x", "epochs": 7})
    settings, origins = load_settings(base=base, flags={"batch_size": 4})
    assert settings == base.settings.model_copy(
        update={"dataset": base.settings.dataset.model_copy(update={"batch_size": 4})}
    )
    assert (origins["epochs"], origins["stream"], origins["dataset.batch_size"]) == (
        "--epochs", "preset hands", "--batch-size",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("item", "key", "value"),
    [
        ("loss.koleo_weight=0.25", "loss.koleo_weight", 0.25),
        ("augmentation.mean=[0.1, 0.2, 0.3]", "augmentation.mean", (0.1, 0.2, 0.3)),
        ("experiment.name=2024", "experiment.name", "2024"),
        ("experiment.notes='a = b'", "experiment.notes", "a = b"),
        ("notes=a = b", "experiment.notes", "a = b"),
        ('tags=["a", "b"]', "experiment.tags", ("a", "b")),
        ("tags=one", "experiment.tags", ("one",)),
        ("use_sinkhorn=true", "loss.use_sinkhorn", True),
        ("vit.depth=auto", "vit.depth", "auto"),
        ("dataloader.batch_size=8", "dataset.batch_size", 8),
        ("dataset={batch_size = 8}", "dataset.batch_size", 8),
    ],
)
def test_a_set_item_is_read_as_toml_or_as_text(item: str, key: str, value: Any) -> None:
    assert flatten(load(sets=[item]).settings.model_dump())[key] == value


def test_flatten_and_nest_are_inverse() -> None:
    values = load().settings.model_dump()
    assert nest(flatten(values)) == values
    assert len(flatten(values)) == len(LEAVES)


# -- paths ----------------------------------------------------------------------------------------------------------


def test_paths_in_a_file_start_at_its_folder_and_others_at_the_current_one(write: Any, tmp_path: Path) -> None:
    file = write('train_dir = "faces"\nval_dir = "../val"\nresume = "run"\nexport_backbone = "/abs.pt"\n')
    settings, _ = load_settings(files=[file], sets=["output_path=enc.pt"], flags={"output_dir": "out"})
    assert settings.train_dir == (tmp_path / "faces",)
    assert settings.evaluation.val_dir == tmp_path / "../val"
    assert settings.resume_from == str(tmp_path / "run")
    assert settings.export_backbone == Path("/abs.pt")
    assert (settings.output_path, settings.output_dir) == (Path("enc.pt"), Path("out"))


def test_a_tilde_is_the_home_folder(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ana")
    settings, _ = load_settings(files=[write('train_dir = ["~/faces", "b"]')], flags={"output_dir": "~/run"})
    assert settings.train_dir[0] == Path("/home/ana/faces")
    assert settings.output_dir == Path("/home/ana/run")


@pytest.mark.parametrize("word", ["auto", "must"])
def test_the_words_of_resume_are_no_paths(word: str, write: Any) -> None:
    assert load(write(f'resume = "{word}"')).settings.resume_from == word


def test_a_file_name_of_any_bytes_is_a_path() -> None:
    assert load(flags={"train_dir": ["caf\udce9"]}).settings.train_dir == (Path("caf\udce9"),)


# -- errors ---------------------------------------------------------------------------------------------------------


def test_minutes_take_the_place_of_a_presets_epochs(write: Any) -> None:
    file = write('preset = "laptop"\ntrain_minutes = 10\n')
    settings, origins = load_settings("hands", files=[file], flags={"train_dir": "."})
    assert (settings.epochs, settings.train_minutes, settings.vit.depth) == ("auto", 10, 4)
    assert "epochs" not in origins


@pytest.mark.parametrize(("text", "culprit"), [("epochs = 5\n", "'epochs' of {file}:1"), ("", "--epochs")])
def test_minutes_beside_given_epochs_are_a_mistake(text: str, culprit: str, write: Any) -> None:
    file, flags = write(text), {"train_dir": ".", "train_minutes": 10} | ({} if text else {"epochs": 5})
    with pytest.raises(SettingsError) as caught:
        load_settings("hands", files=[file], flags=flags)
    both = "and minutes both say how long to train; leave one of the two out"
    assert caught.value.problems == (f"--train-minutes: {culprit.format(file=file)} {both}",)


def test_epochs_may_be_a_part_of_one_and_whole_ones_stay_whole() -> None:
    flags = {"train_dir": ".", "eval_every": "0.05"}
    settings = [load_settings("hands", flags={**flags, "epochs": text}).settings for text in ("0.5", "5", "5.0")]
    assert [repr(each.epochs) for each in settings] == ["0.5", "5", "5"]
    assert settings[0].evaluation.eval_every == 0.05


def test_all_mistakes_of_a_file_are_reported_line_by_line(write: Any) -> None:
    file = write(
        'epochs = 0\nalgorithm = "dinno"\n[dataset]\npin_memry = true\nbatch_size = "many"\n'
        "[augmentation]\nimage_size = 225\nmean = [0.5, 'x', 0.5]\n[datset]\na = 1\n"
    )
    where = f"{file}:"
    assert list(problems(file)) == [
        f"{where}1: 'epochs' must be greater than 0, or auto (got 0)",
        f"{where}2: 'algorithm' must be one of dino, ibot, dinov2 (got 'dinno'); did you mean 'dino'?",
        f"{where}4: unknown key 'dataset.pin_memry'; did you mean 'dataset.pin_memory'?",
        f"{where}5: 'dataset.batch_size' must be a whole number (got 'many')",
        f"{where}7: 'augmentation.image_size' 225 is not a multiple of the patch size 16; use 224",
        f"{where}8: 'augmentation.mean' value 2 must be a number (got 'x')",
        f"{where}9: unknown section 'datset'; did you mean 'dataset'?",
    ]


def test_mistakes_of_all_sources_are_reported_together(write: Any, tmp_path: Path) -> None:
    found = problems(
        write("epochs = [1,", "broken.toml"),
        tmp_path / "absent.toml",
        sets=["loss.koleo_wieght=1", "alone"],
        flags={"seed": "-1", "epoch": 3},
    )
    assert [line.replace(str(tmp_path), "") for line in found] == [
        "/broken.toml:1: Invalid value (at end of document)",
        "--config: there is no file /absent.toml",
        "--set loss.koleo_wieght: unknown key 'loss.koleo_wieght'; did you mean 'loss.koleo_weight'?",
        "--set alone: write it as --set KEY=VALUE",
        "flags: unknown key 'epoch'; did you mean 'epochs'?",
        "--seed: must be at least 0 (got -1)",
    ]


def test_missing_crops_name_the_flag_and_the_key() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings("hands")
    assert caught.value.problems == (
        "--train-dir: missing; pass --train-dir PATH or set 'train_dir' in a --config file",
    )


def test_an_unreadable_file_is_not_blamed_for_what_it_might_have_said(write: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(files=[write("epochs =")])
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("vit.depth", "x", "--vit-depth: must be a whole number, or auto (got 'x')"),
        ("vit.depth", "0", "--vit-depth: must be at least 1, or auto (got 0)"),
        ("precision", "fp16", "--precision: must be one of fp32, bf16, auto (got 'fp16'); did you mean 'bf16'?"),
        ("loss.student_temp", "0", "--student-temp: must be greater than 0 (got 0)"),
        ("learning_rate", "nan", "--learning-rate: must be a finite number, or auto (got 'nan')"),
        ("augmentation.mean", ("1", "2"), "--aug-mean: needs 3 values (got 2)"),
        ("augmentation.mean", "0.5", "--aug-mean: needs 3 values (got '0.5')"),
        ("dataset.num_workers", True, "--num-workers: must be a whole number or auto (got true)"),
        ("train_dir", [], "--train-dir: needs at least 1 value(s) (got [])"),
        ("train_dir", "", "--train-dir: must not be empty (got '')"),
        ("train_dir", "a\0b", "--train-dir: must not contain a NUL character"),
        ("experiment.notes", 3, "--experiment-notes: must be text (got 3)"),
        (
            "checkpointing.best_name",
            "../x",
            "--checkpoint-best-name: must be a file name inside the run folder, not a path (got '../x')",
        ),
        ("dataset", 3, "flags: 'dataset' is a section of settings (got 3)"),
        ("augmentation.epochs", 3, "flags: unknown key 'augmentation.epochs'; did you mean 'epochs'?"),
    ],
)
def test_a_wrong_value_is_explained_in_plain_words(key: str, value: Any, message: str) -> None:
    assert problems(flags={key: value}) == [message]


def test_a_cross_field_error_blames_where_the_culprit_came_from(write: Any) -> None:
    file = write("image_size = 100\n")
    assert problems(file, sets=["patch_size=14"]) == [
        f"{file}:1: 'image_size' 100 is not a multiple of the patch size 14; use 98"
    ]
    assert problems(sets=["patch_size=15"]) == [
        "--image-size (default): 224 is not a multiple of the patch size 15; use 225"
    ]


def test_a_settled_value_of_a_resumed_run_is_blamed_on_its_rule() -> None:
    stored = settle(load().settings, num_images=1000)
    base = LoadedSettings(stored.settings, stored.origins)
    assert problems(base=base, sets=["patch_size=56"]) == [
        "--local-crop-size (auto: 3/7 of the image size): 96 is not a multiple of the patch size 56; use 112"
    ]


def test_a_cross_field_check_is_left_out_when_a_value_it_needs_is_wrong() -> None:
    assert problems(flags={"patch_size": "0", "image_size": "98"}) == [
        "--patch-size: must be at least 1, or auto (got 0)"
    ]


def test_one_option_under_two_names_at_one_level_is_an_error(write: Any) -> None:
    file = write("[dataset]\nbatch_size = 4\n[dataloader]\nbatch_size = 8\n")
    assert problems(file) == [f"{file}:4: 'dataloader.batch_size' repeats 'dataset.batch_size' of {file}:2; keep one"]


def test_a_json_key_given_twice_is_an_error(write: Any) -> None:
    file = write('{"epochs": 3,\n "dataset": {"epochs": 1},\n "epochs": 4}', "run.json")
    assert problems(file) == [f"{file}:3: 'epochs' is given twice, first on line 1"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "epochs = 3\nepochs 4\n", ":2:8: Expected '=' after a key in a key/value pair"),
        ("a.json", '{"epochs": 3,\n}', ":2:1: Expecting property name enclosed in double quotes"),
        ("a.json", "[1]", ': must hold an object of settings, like {"epochs": 5}'),
        ("a.yaml", "epochs: 3", ": a settings file ends in .toml, .tml or .json"),
    ],
)
def test_a_malformed_file_is_reported_with_line_and_column(name: str, text: str, message: str, write: Any) -> None:
    file = write(text, name)
    assert problems(file) == [f"{file}{message}"]


def test_text_that_is_not_utf8_is_reported_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "latin.toml"
    file.write_bytes(b'epochs = 3\nnotes = "m\xe1s"\n')
    assert problems(file) == [f"{file}:2: is not UTF-8 text; save the file as UTF-8"]


def test_an_unknown_stream_is_refused() -> None:
    with pytest.raises(SettingsError, match="did you mean 'hands'"):
        load_settings("hand")


def test_messages_carry_no_control_characters_of_the_input(write: Any) -> None:
    file = write('"\\u001b[31mred" = 1\nalgorithm = "\\u202e\\u0007"\n')
    lines = problems(file)
    assert len(lines) == 2
    assert all(line == printable(line) for line in lines)
    assert "\\x1b[31mred" in lines[0]


def test_printable_keeps_letters_and_spells_out_what_is_not() -> None:
    assert printable("más ± 手 \x1b[0m\n\u202e\udce9") == "más ± 手 \\x1b[0m\\n\\u202e\\udce9"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a" + ".a" * 20_000 + " = 1", id="dotted key"),
        pytest.param("[" + "a." * 20_000 + "a]", id="dotted header"),
        pytest.param("x = " + "[" * 100_000, id="nested"),
        pytest.param('"' * 250_000, id="quotes"),
        pytest.param("'" * 250_000, id="apostrophes"),
        pytest.param("".join(f"k{index} = 1\n" for index in range(15_000)), id="many keys"),
        pytest.param("#" * 300_000, id="large"),
    ],
)
def test_a_hostile_file_is_refused_quickly(text: str, write: Any) -> None:
    file = write(text)
    start = time.process_time()
    assert problems(file)
    assert time.process_time() - start < 3


def test_what_is_not_a_regular_file_is_not_opened(tmp_path: Path) -> None:
    import os

    fifo = tmp_path / "pipe.toml"
    os.mkfifo(fifo)
    assert problems(fifo) == [f"--config: {fifo} is not a file"]


# -- lines of keys --------------------------------------------------------------------------------------------------


def test_toml_lines_survive_strings_comments_and_inline_tables(write: Any) -> None:
    file = read_settings_file(
        write(
            'notes = """\nepochs = 1\n[dataset]\n"""  # = [\nmean = [ # ]\n 0.1,\n]\n"seed" = 1\n'
            "checkpoint.best_name = 'a # b'\nloss = { koleo_weight = 1, sinkhorn_iters = 2 }\nepochs = 2\n"
            "[ 'dataset' ] # x\n  batch_size=3\n"
        )
    )
    assert {".".join(path): line for path, line in file.lines.items()} == {
        "notes": 1, "mean": 5, "seed": 8, "checkpoint.best_name": 9, "loss": 10, "loss.koleo_weight": 10,
        "loss.sinkhorn_iters": 10, "epochs": 11, "dataset": 12, "dataset.batch_size": 13,
    }  # fmt: skip


def test_json_lines_survive_braces_and_colons_in_strings(write: Any) -> None:
    file = read_settings_file(write('{"notes": "{\\": [",\n "tags":\n ["a: b"],\n "loss": {\n "x": 1}}', "a.json"))
    assert {".".join(path): line for path, line in file.lines.items()} == {
        "notes": 1, "tags": 2, "loss": 4, "loss.x": 5,
    }  # fmt: skip


def test_windows_line_ends_and_a_byte_order_mark_are_accepted(tmp_path: Path) -> None:
    file = tmp_path / "windows.toml"
    file.write_bytes(b"\xef\xbb\xbfepochs = 3\r\n[dataset]\r\nbatch_size = 4\r\n")
    settings, origins = load(file)
    assert (settings.epochs, settings.dataset.batch_size) == (3, 4)
    assert origins["dataset.batch_size"] == f"{file}:3"


def test_python_callers_may_pass_paths_and_plain_values() -> None:
    settings = load_settings("hands", flags={"train_dir": [Path("a"), "b"], "epochs": 5, "batch_size": 8}).settings
    assert isinstance(settings, PretrainSettings)
    assert settings.train_dir == (Path("a"), Path("b"))
