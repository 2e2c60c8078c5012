"""Command lines of the old scripts, and the settings they must produce; argparse itself is the second judge."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from sltdino.cli.app import app
from sltdino.cli.legacy import _OLD_FLAGS, _lengths, translate
from sltdino.core.settings_schema import flatten
from sltdino.errors import SettingsError

A, B, C = Path("a"), Path("b"), Path("c")

TABLE: dict[str, dict[str, Any]] = {
    "--train-dir a b c": {"train_dir": (A, B, C)},
    "--train a b --epochs 3 --train-dir=c": {"train_dir": (A, B, C), "epochs": 3},
    "--train-dir a --no-dataset-shuffle": {"train_dir": (A,), "dataset.shuffle": False},
    "--train-dir -5 a": {"train_dir": (Path("-5"), A)},
    "--output-dir work/run": {"output_dir": Path("work/run")},
    "--output-d work/run": {"output_dir": Path("work/run")},
    "--algorithm ibot": {"algorithm": "ibot"},
    "--alg=dino": {"algorithm": "dino"},
    "--epochs 10": {"epochs": 10},
    "--ep=10": {"epochs": 10},
    "--batch-size 32": {"dataset.batch_size": 32},
    "--b 32": {"dataset.batch_size": 32},
    "--num-workers 0": {"dataset.num_workers": 0},
    "--num-w=2": {"dataset.num_workers": 2},
    "--learning-rate 1e-3": {"optimizer.learning_rate": 1e-3},
    "--lea .001": {"optimizer.learning_rate": 1e-3},
    "--weight-decay 1e-4": {"optimizer.weight_decay": 1e-4},
    "--we 0": {"optimizer.weight_decay": 0.0},
    "--warmup-epochs 1.0": {"optimizer.warmup_epochs": 1.0},
    "--wa 2": {"optimizer.warmup_epochs": 2.0},
    "--teacher-momentum-base .996": {"optimizer.teacher_momentum_base": 0.996},
    "--teacher-momentum-final 1.0": {"optimizer.teacher_momentum_final": 1.0},
    "--teacher-momentum-b 0.9 --teacher-momentum-f .99": {
        "optimizer.teacher_momentum_base": 0.9,
        "optimizer.teacher_momentum_final": 0.99,
    },
    "--clip-grad-norm 0": {"optimizer.clip_grad_norm": 0.0},
    "--cl 1.0": {"optimizer.clip_grad_norm": 1.0},
    "--out-dim 1024": {"head.out_dim": 1024},
    "--out- 1024": {"head.out_dim": 1024},
    "--head-hidden-dim 2048": {"head.hidden_dim": 2048},
    "--hea 2048": {"head.hidden_dim": 2048},
    "--patch-out-dim 256": {"head.patch_out_dim": 256},
    "--patch-o 256": {"head.patch_out_dim": 256},
    "--patch-mask-ratio .3": {"loss.patch_mask_ratio": 0.3},
    "--patch-m .4": {"loss.patch_mask_ratio": 0.4},
    "--patch-loss-weight 1.0": {"loss.patch_loss_weight": 1.0},
    "--patch-l 0": {"loss.patch_loss_weight": 0.0},
    "--patch-s 8": {"vit.patch_size": 8},
    "--student-temp .1": {"loss.student_temp": 0.1},
    "--stu .2": {"loss.student_temp": 0.2},
    "--teacher-temp .04": {"loss.teacher_temp": 0.04},
    "--teacher-t .05": {"loss.teacher_temp": 0.05},
    "--center-momentum .9": {"loss.center_momentum": 0.9},
    "--ce 0": {"loss.center_momentum": 0.0},
    "--seed 42": {"seed": 42},
    "--se 7": {"seed": 7},
    "--device cpu": {"device": "cpu"},
    "--de cuda:1": {"device": "cuda:1"},
    "--resume work/run/checkpoint_last.pt": {"resume_from": "work/run/checkpoint_last.pt"},
    "--r=work/run": {"resume_from": "work/run"},
    "--export-backbone out/backbone.pt": {"export_backbone": Path("out/backbone.pt")},
    "--export-b out/backbone.pt": {"export_backbone": Path("out/backbone.pt")},
    "--export-checkpoint --output-path out/encoder.pt": {
        "export_checkpoint": True,
        "output_path": Path("out/encoder.pt"),
    },
    "--export-c --output-p=out/encoder.pt": {"export_checkpoint": True, "output_path": Path("out/encoder.pt")},
    "--log-interval 10": {"log_interval": 10},
    "--log 5": {"log_interval": 5},
    "--image-size 112": {"augmentation.image_size": 112},
    "--im 112": {"augmentation.image_size": 112},
    "--patch-size 14 --image-size 224 --local-crop-size 98": {
        "vit.patch_size": 14,
        "augmentation.image_size": 224,
        "augmentation.local_crop_size": 98,
    },
    "--vit-embed-dim 384 --vit-depth 12 --vit-num-heads 6 --vit-mlp-ratio 4.0": {
        "vit.embed_dim": 384,
        "vit.depth": 12,
        "vit.num_heads": 6,
        "vit.mlp_ratio": 4.0,
    },
    "--vit-e 64 --vit-d 2 --vit-n 2 --vit-m 2": {
        "vit.embed_dim": 64,
        "vit.depth": 2,
        "vit.num_heads": 2,
        "vit.mlp_ratio": 2.0,
    },
    "--global-crops 2": {"augmentation.num_global_crops": 2},
    "--global-crop-scale .4 1": {"augmentation.global_crop_scale": (0.4, 1.0)},
    "--global-crop- .5 1.0": {"augmentation.global_crop_scale": (0.5, 1.0)},
    "--num-local-crops 4": {"augmentation.num_local_crops": 4},
    "--num-l 0": {"augmentation.num_local_crops": 0},
    "--local-crop-size 96": {"augmentation.local_crop_size": 96},
    "--local-crop-scale .05 .4": {"augmentation.local_crop_scale": (0.05, 0.4)},
    "--local-crop-sc .1 .4 --local-crop-si 48": {
        "augmentation.local_crop_scale": (0.1, 0.4),
        "augmentation.local_crop_size": 48,
    },
    "--stream hand_left": {"stream": "hand_left"},
    "--str=face": {"stream": "face"},
    "--no-dataset-shuffle": {"dataset.shuffle": False},
    "--no": {"dataset.shuffle": False},
    "--dataset-pin-memory": {"dataset.pin_memory": True},
    "--dataset-pi": {"dataset.pin_memory": True},
    "--dataset-persistent-workers": {"dataset.persistent_workers": True},
    "--dataset-pe": {"dataset.persistent_workers": True},
    "--aug-brightness .4 --aug-contrast .4 --aug-saturation .2 --aug-hue .1": {
        "augmentation.brightness": 0.4,
        "augmentation.contrast": 0.4,
        "augmentation.saturation": 0.2,
        "augmentation.hue": 0.1,
    },
    "--aug-b 0 --aug-con 0 --aug-sa 0 --aug-hu 0": {
        "augmentation.brightness": 0.0,
        "augmentation.contrast": 0.0,
        "augmentation.saturation": 0.0,
        "augmentation.hue": 0.0,
    },
    "--aug-color-jitter-prob .8 --aug-grayscale-prob .2 --aug-gaussian-blur-prob .5": {
        "augmentation.color_jitter_prob": 0.8,
        "augmentation.grayscale_prob": 0.2,
        "augmentation.gaussian_blur_prob": 0.5,
    },
    "--aug-col 1 --aug-gr 0 --aug-ga 1": {
        "augmentation.color_jitter_prob": 1.0,
        "augmentation.grayscale_prob": 0.0,
        "augmentation.gaussian_blur_prob": 1.0,
    },
    "--aug-solarize-prob .1 --aug-hflip-prob .5": {"augmentation.solarize_prob": 0.1, "augmentation.hflip_prob": 0.5},
    "--aug-so 0 --aug-hf 0": {"augmentation.solarize_prob": 0.0, "augmentation.hflip_prob": 0.0},
    "--aug-mean .481 .457 .408": {"augmentation.mean": (0.481, 0.457, 0.408)},
    "--aug-mean -0.1 -1 -.5 --aug-std .268 .261 .276": {
        "augmentation.mean": (-0.1, -1.0, -0.5),
        "augmentation.std": (0.268, 0.261, 0.276),
    },
    "--aug-m 0 0 0 --aug-st 1 1 1": {"augmentation.mean": (0.0, 0.0, 0.0), "augmentation.std": (1.0, 1.0, 1.0)},
    "--checkpoint-best-name best.pt --checkpoint-last-name last.pt --checkpoint-history-file h.jsonl": {
        "checkpointing.best_name": "best.pt",
        "checkpointing.last_name": "last.pt",
        "checkpointing.history_file": "h.jsonl",
    },
    "--experiment-name baseline --experiment-notes notas": {
        "experiment.name": "baseline",
        "experiment.notes": "notas",
    },
    "--experiment-tag face --experiment-tag ibot": {"experiment.tags": ("face", "ibot")},
    "--experiment-t face --experiment-na x --experiment-no=": {
        "experiment.tags": ("face",),
        "experiment.name": "x",
        "experiment.notes": "",
    },
    "--pseudo-epochs 1": {"pseudo_epochs": 1},
    "--ps 3": {"pseudo_epochs": 3},
    "--use-sinkhorn --sinkhorn-eps .05 --sinkhorn-iters 3": {
        "loss.use_sinkhorn": True,
        "loss.sinkhorn_eps": 0.05,
        "loss.sinkhorn_iters": 3,
    },
    "--u --sinkhorn-e .1 --sinkhorn-i 5": {
        "loss.use_sinkhorn": True,
        "loss.sinkhorn_eps": 0.1,
        "loss.sinkhorn_iters": 5,
    },
    "--koleo-weight 0 --koleo-epsilon 1e-4": {"loss.koleo_weight": 0.0, "loss.koleo_epsilon": 1e-4},
    "--koleo-w .5 --koleo-e 1e-3": {"loss.koleo_weight": 0.5, "loss.koleo_epsilon": 1e-3},
}
"""By old spelling; `--train-dir a` stands before it where it has none."""

LISTS = {"--train-dir": "+", "--global-crop-scale": 2, "--local-crop-scale": 2, "--aug-mean": 3, "--aug-std": 3}
SWITCHES = {
    "--export-checkpoint", "--use-sinkhorn", "--no-dataset-shuffle", "--dataset-pin-memory",
    "--dataset-persistent-workers", "--help",
}  # fmt: skip


def expect(settings: Any, expected: Mapping[str, Any]) -> None:
    values = flatten(settings.model_dump())
    assert {key: values[key] for key in expected} == expected


@pytest.fixture(scope="module")
def command() -> Any:
    """The command line, built once: that takes longer than to parse one."""
    return typer.main.get_command(app)


@pytest.mark.parametrize("old", TABLE)
def test_an_old_command_line_gives_its_settings(old: str, command: Any, trained: list[Any]) -> None:
    argv = old.split()
    argv = argv if "--train" in old else ["--train-dir", "a", *argv]
    command.main(["pretrain", "face", *translate(argv)], standalone_mode=False)
    expect(trained[0], {"train_dir": (A,), **TABLE[old]})


def test_the_table_has_every_flag() -> None:
    told = {word.partition("=")[0] for old in TABLE for word in translate(old.split()) if word.startswith("--")}
    assert told == set(_OLD_FLAGS) - {"--config", "--help"}


class Refusing(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise ValueError(message)


def old_parsers() -> tuple[Refusing, Refusing]:
    """As the old script built them: one that only knows `--config`, then one with all flags."""
    first, second = Refusing(add_help=False), Refusing(add_help=False)
    first.add_argument("--config", action="append", default=[])
    for flag in _OLD_FLAGS:
        if flag in SWITCHES:
            second.add_argument(flag, dest=flag, action="append_const", const=flag)
        else:
            second.add_argument(flag, dest=flag, nargs=LISTS.get(flag, 1))
    return first, second


def in_full(argv: list[str]) -> list[str]:
    """What argparse makes of it: every flag in full, each of its values behind it."""
    first, second = old_parsers()
    config, rest = first.parse_known_args(argv)
    given = {flag: value for flag, value in vars(second.parse_args(rest)).items() if value is not None}
    words = [word for file in config.config for word in ("--config", file)]
    for flag, values in given.items():
        several = LISTS.get(flag, 1) == "+"
        words += [] if flag in SWITCHES or several else [flag]
        words += [word for value in values for word in (flag, value)] if several else values
    return words


@pytest.mark.parametrize("flag", _OLD_FLAGS)
def test_every_prefix_means_what_argparse_took_it_for(flag: str) -> None:
    count = 0 if flag in SWITCHES else LISTS.get(flag, 1)
    values = ["-0.5", "2", "0.25"][: 3 if count == "+" else count]
    for end in range(3, len(flag) + 1):
        argv = [flag[:end], *values]
        try:
            expected = in_full(argv)
        except ValueError:
            with pytest.raises(SettingsError, match="could be"):
                translate(argv)
        else:
            assert translate(argv) == expected


@pytest.mark.parametrize(
    "argv",
    [
        ["--train-dir", "a", "-1", "-.5", "-1.5", "--seed", "1"],
        ["--train-dir", "mis recortes", "-mis otros", "--experiment-notes=uno dos"],
        ["--train-dir", "a", "--experiment-no=-1"],
        ["--experiment-notes=a=b", "--train-dir", "a=b", "-"],
        ["--conf", "a.toml", "--train-dir", "a"],
        ["--c=a.toml"],
    ],
    ids=" ".join,
)
def test_values_are_counted_as_argparse_counts_them(argv: list[str]) -> None:
    split = [part for word in translate(argv) for part in (word.split("=", 1) if word[:2] == "--" else [word])]
    assert sorted(split) == sorted(in_full(argv))


FILE = {
    "train_dir": ["crops/face", "/absolute"],
    "output_dir": "run",
    "epochs": 7,
    "learning_rate": 0.002,
    "vit_depth": 3,
    "dataset": {"batch_size": 48, "shuffle": False},
    "augmentations": {"global_crops": 2, "brightness": 0.5, "mean": [0.5, 0.5, 0.5]},
    "checkpoint": {"last_name": "last.pt"},
    "experiment": {"name": "línea base", "tags": "una"},
}


@pytest.mark.parametrize("suffix", [".toml", ".tml", ".json", ".JSON"])
@pytest.mark.parametrize("flag", ["--config", "--c"])
def test_a_file_of_any_kind_gives_defaults_that_flags_override(
    suffix: str, flag: str, shared_module: ModuleType, trained: list[Any], elsewhere: Path
) -> None:
    import tomli_w

    file = elsewhere / "configs" / f"face{suffix}"
    file.parent.mkdir()
    text = json.dumps(FILE) if suffix.lower() == ".json" else tomli_w.dumps(FILE)
    file.write_text(text, encoding="utf-8")
    shared_module.run([flag, f"configs/face{suffix}", "--epo", "9", "--export-b", "out.pt"], default_stream="face")
    expected = {
        "train_dir": (Path("configs/crops/face"), Path("/absolute")),
        "output_dir": Path("configs/run"),
        "export_backbone": Path("out.pt"),
        "epochs": 9,
        "optimizer.learning_rate": 0.002,
        "vit.depth": 3,
        "dataset.batch_size": 48,
        "dataset.shuffle": False,
        "augmentation.num_global_crops": 2,
        "augmentation.brightness": 0.5,
        "augmentation.mean": (0.5, 0.5, 0.5),
        "checkpointing.last_name": "last.pt",
        "experiment.name": "línea base",
        "experiment.tags": ("una",),
        "stream": "face",
    }
    expect(trained[0], expected)


def test_a_folder_on_the_command_line_replaces_those_of_the_file(
    shared_module: ModuleType, trained: list[Any], elsewhere: Path
) -> None:
    (elsewhere / "face.json").write_text(json.dumps(FILE), encoding="utf-8")
    shared_module.run(iter(["--config", "face.json", "--train-dir", "~/a", "b"]), default_stream="hand")
    expect(trained[0], {"train_dir": (Path("~/a").expanduser(), B), "stream": "hand", "augmentation.hflip_prob": 0.0})


@pytest.mark.parametrize("stream", ["face", "hands"])
def test_the_flags_of_the_command_are_known_with_their_numbers_of_values(stream: str, command: Any) -> None:
    expected: dict[str, int | None] = {"--help": 0, "--debug": 0}
    for option in command.commands["pretrain"].commands[stream].params:
        gathers = option.multiple and option.opts[0] not in ("--config", "--set")  # these were never `--set a b`
        count = 0 if option.is_flag else None if gathers else option.nargs
        expected |= dict.fromkeys((*option.opts, *option.secondary_opts), count)
    expected["--print-config"] = 0  # its value may be left out, so it only comes after a `=`
    assert _lengths() == expected
