"""`sltdino pretrain` and `resume`: from typed flags to the call of the use case."""

from pathlib import Path
from typing import Any

import pytest

from sltdino.core.settings_schema import LEAVES, flatten

# COMPAT.md 1.1: a value for every legacy flag, and the option it sets
LEGACY: dict[str, tuple[list[str], str, Any]] = {
    "--output-dir": (["o"], "output_dir", Path("o")),
    "--algorithm": (["ibot"], "algorithm", "ibot"),
    "--epochs": (["11"], "epochs", 11),
    "--batch-size": (["33"], "dataset.batch_size", 33),
    "--num-workers": (["0"], "dataset.num_workers", 0),
    "--learning-rate": (["1e-3"], "optimizer.learning_rate", 1e-3),
    "--weight-decay": (["1e-4"], "optimizer.weight_decay", 1e-4),
    "--warmup-epochs": (["1.5"], "optimizer.warmup_epochs", 1.5),
    "--teacher-momentum-base": ([".995"], "optimizer.teacher_momentum_base", 0.995),
    "--teacher-momentum-final": ([".999"], "optimizer.teacher_momentum_final", 0.999),
    "--clip-grad-norm": (["0"], "optimizer.clip_grad_norm", 0.0),
    "--out-dim": (["1024"], "head.out_dim", 1024),
    "--head-hidden-dim": (["64"], "head.hidden_dim", 64),
    "--patch-out-dim": (["256"], "head.patch_out_dim", 256),
    "--patch-mask-ratio": ([".4"], "loss.patch_mask_ratio", 0.4),
    "--patch-loss-weight": (["2"], "loss.patch_loss_weight", 2.0),
    "--student-temp": ([".2"], "loss.student_temp", 0.2),
    "--teacher-temp": ([".05"], "loss.teacher_temp", 0.05),
    "--center-momentum": ([".8"], "loss.center_momentum", 0.8),
    "--seed": (["7"], "seed", 7),
    "--device": (["cpu"], "device", "cpu"),
    "--resume": (["auto"], "resume_from", "auto"),
    "--export-backbone": (["b.pt"], "export_backbone", Path("b.pt")),
    "--log-interval": (["5"], "log_interval", 5),
    "--image-size": (["64"], "augmentation.image_size", 64),
    "--patch-size": (["8"], "vit.patch_size", 8),
    "--vit-embed-dim": (["64"], "vit.embed_dim", 64),
    "--vit-depth": (["2"], "vit.depth", 2),
    "--vit-num-heads": (["4"], "vit.num_heads", 4),
    "--vit-mlp-ratio": (["2"], "vit.mlp_ratio", 2.0),
    "--global-crops": (["2"], "augmentation.num_global_crops", 2),
    "--num-local-crops": (["3"], "augmentation.num_local_crops", 3),
    "--local-crop-size": (["32"], "augmentation.local_crop_size", 32),
    "--global-crop-scale": ([".3", "1"], "augmentation.global_crop_scale", (0.3, 1.0)),
    "--local-crop-scale": ([".1", ".3"], "augmentation.local_crop_scale", (0.1, 0.3)),
    "--stream": (["torso"], "stream", "torso"),
    "--no-dataset-shuffle": ([], "dataset.shuffle", False),
    "--dataset-pin-memory": ([], "dataset.pin_memory", True),
    "--dataset-persistent-workers": ([], "dataset.persistent_workers", True),
    "--aug-brightness": ([".3"], "augmentation.brightness", 0.3),
    "--aug-contrast": ([".3"], "augmentation.contrast", 0.3),
    "--aug-saturation": ([".3"], "augmentation.saturation", 0.3),
    "--aug-hue": ([".2"], "augmentation.hue", 0.2),
    "--aug-color-jitter-prob": ([".3"], "augmentation.color_jitter_prob", 0.3),
    "--aug-grayscale-prob": ([".3"], "augmentation.grayscale_prob", 0.3),
    "--aug-gaussian-blur-prob": ([".3"], "augmentation.gaussian_blur_prob", 0.3),
    "--aug-solarize-prob": ([".3"], "augmentation.solarize_prob", 0.3),
    "--aug-light": ([".2"], "augmentation.light", 0.2),
    "--aug-rotation": (["5"], "augmentation.rotation", 5.0),
    "--aug-hflip-prob": ([".3"], "augmentation.hflip_prob", 0.3),
    "--aug-mean": ([".5", ".4", ".3"], "augmentation.mean", (0.5, 0.4, 0.3)),
    "--aug-std": ([".5", ".4", ".3"], "augmentation.std", (0.5, 0.4, 0.3)),
    "--checkpoint-best-name": (["x.pt"], "checkpointing.best_name", "x.pt"),
    "--checkpoint-last-name": (["y.pt"], "checkpointing.last_name", "y.pt"),
    "--checkpoint-history-file": (["z.jsonl"], "checkpointing.history_file", "z.jsonl"),
    "--experiment-name": (["n"], "experiment.name", "n"),
    "--experiment-notes": (["-- a note"], "experiment.notes", "-- a note"),
    "--experiment-tag": (["t"], "experiment.tags", ("t",)),
    "--pseudo-epochs": (["2"], "pseudo_epochs", 2),
    "--use-sinkhorn": ([], "loss.use_sinkhorn", True),
    "--sinkhorn-eps": ([".05"], "loss.sinkhorn_eps", 0.05),
    "--sinkhorn-iters": (["4"], "loss.sinkhorn_iters", 4),
    "--koleo-weight": (["0"], "loss.koleo_weight", 0.0),
    "--koleo-epsilon": (["1e-3"], "loss.koleo_epsilon", 1e-3),
    "--export-checkpoint": ([], "export_checkpoint", True),
    "--output-path": (["e.pt"], "output_path", Path("e.pt")),
}


def given(trained: Any) -> dict[str, Any]:
    [(args, _)] = trained
    return flatten(args[0].model_dump())


def test_every_legacy_flag_sets_its_option(run: Any, trained: Any) -> None:
    argv = [part for flag, (values, _, _) in LEGACY.items() for part in (flag, *values)]
    result = run("pretrain", "hands", "--train-dir", "crops", *argv)
    assert (result.code, result.err) == (0, [])
    values = given(trained)
    assert {key: values[key] for _, key, _ in LEGACY.values()} == {key: value for _, key, value in LEGACY.values()}


def test_every_option_has_a_flag_that_reaches_it(run: Any, trained: Any) -> None:
    typed: list[str] = []
    for leaf in LEAVES:
        chosen = {"train_dir": ("d",), "output_dir": "o", "resume_from": "auto", "track": ("wandb",),
                  "train_minutes": 5}  # fmt: skip
        default = chosen.get(leaf.key, leaf.default)
        value = {None: "v", "": "v", (): ("v",)}.get(default, default)
        if leaf.is_switch:
            typed.append(leaf.flag)
        else:
            typed += [leaf.flag, *map(str, value if isinstance(value, tuple) else (value,))]
    assert run("pretrain", "hands", *typed).err == []
    [(_, kwargs)] = trained
    assert kwargs["origins"] == {leaf.key: leaf.flag for leaf in LEAVES}


def test_a_list_flag_is_repeated(run: Any, trained: Any) -> None:
    run("pretrain", "face", "--train-dir", "a", "--train-dir", "b", "--experiment-tag", "x", "--experiment-tag", "y")
    values = given(trained)
    assert (values["train_dir"], values["experiment.tags"]) == ((Path("a"), Path("b")), ("x", "y"))


@pytest.mark.parametrize(("stream", "flip"), [("face", 0.25), ("hands", 0.0)])
def test_the_two_commands_differ_in_their_preset(stream: str, flip: float, run: Any, trained: Any) -> None:
    run("pretrain", stream, "--train-dir", "a")
    assert given(trained)["augmentation.hflip_prob"] == flip


def test_a_flag_wins_over_set_and_set_over_a_file(run: Any, trained: Any, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('train_dir = "x"\nepochs = 1\nseed = 1\nbatch_size = 16\n')
    run("pretrain", "face", "--config", str(file), "--set", "epochs=2", "--set", "seed=2", "--epochs", "3")
    values = given(trained)
    assert (values["epochs"], values["seed"], values["dataset.batch_size"]) == (3, 2, 16)
    assert trained[0][1]["config_files"] == (file,)


@pytest.mark.parametrize(("flag", "value"), [("--use-sinkhorn", True), ("--no-use-sinkhorn", False)])
def test_a_switch_that_may_be_auto_has_both_spellings(flag: str, value: bool, run: Any, trained: Any) -> None:
    run("pretrain", "face", "--train-dir", "a", flag)
    assert given(trained)["loss.use_sinkhorn"] is value


def test_wrong_values_of_all_flags_are_reported_at_once(run: Any, trained: Any) -> None:
    result = run(
        "pretrain", "hands", "--epochs", "0", "--algorithm", "x", "--vit-depth", "many", "--aug-mean", "1", "a", "1"
    )
    assert result.code == 2
    assert result.err == [
        "error: --train-dir: missing; pass --train-dir PATH or set 'train_dir' in a --config file",
        "error: --algorithm: must be one of dino, ibot, dinov2 (got 'x')",
        "error: --epochs: must be greater than 0, or auto (got 0)",
        "error: --aug-mean: value 2 must be a number (got 'a')",
        "error: --vit-depth: must be a whole number, or auto (got 'many')",
    ]
    assert trained == []


def test_a_flag_is_not_taken_for_the_value_of_another(run: Any) -> None:
    result = run("pretrain", "hands", "--train-dir", "a", "--output-dir", "--epochs")
    assert (result.code, result.err) == (2, ["error: --output-dir: needs PATH before --epochs"])


def test_resume_hands_over_what_was_typed(run: Any, trained: Any) -> None:
    argv = ["--epochs", "9", "--allow-change", "learning_rate,weight_decay", "--allow-change", "seed", "--fallback"]
    assert run("resume", "work/run", *argv, "--set", "seed=3", "--config", "c.toml").code == 0
    assert trained == [
        (
            (Path("work/run"),),
            {
                "files": (Path("c.toml"),),
                "sets": ("seed=3",),
                "flags": {"epochs": "9"},
                "allow_change": ["learning_rate", "weight_decay", "seed"],
                "fallback": True,
            },
        )
    ]


@pytest.mark.parametrize("argv", [("pretrain", "hands", "--train-dir", "a"), ("resume", "r")])
def test_the_run_folder_is_the_only_thing_on_stdout(argv: Any, run: Any, trained: Any) -> None:
    result = run(*argv)
    assert (result.out, result.err) == ("work_dirs/run\n", [])


def test_resume_alone_changes_nothing(run: Any, trained: Any) -> None:
    run("resume", "r")
    [(_, kwargs)] = trained
    assert kwargs == {"files": (), "sets": (), "flags": {}, "allow_change": [], "fallback": False}


@pytest.mark.parametrize("flag", ["--resume", "--output-dir", "--overwrite"])
def test_resume_takes_no_flag_that_names_another_run(flag: str, run: Any, trained: Any) -> None:
    assert run("resume", "r", flag, "x").code == 2
    assert trained == []
