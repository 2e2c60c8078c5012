"""What the papers' presets do in a run: the schedules that its trainer follows, its masks, its first steps."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sltdino import load_settings, pretrain
from sltdino.core.auto import Plan, settle
from sltdino.core.distributed import World
from sltdino.core.run_files import load_checkpoint, read_metrics, read_params
from sltdino.core.settings import PretrainSettings
from sltdino.data.image_folder import scan
from sltdino.objectives.centering import EmaCenter, SinkhornKnopp
from sltdino.pretraining.session import build_model, build_trainer
from sltdino.training.batches import build_batches
from sltdino.training.trainer import Trainer

PAPERS = ("dino", "ibot", "dinov2", "signmusketeers")
SMALL = {
    "vit_embed_dim": 16, "vit_depth": 2, "vit_num_heads": 2, "out_dim": 32, "head_hidden_dim": 32,
    "head_bottleneck_dim": 8, "device": "cpu",
}  # fmt: skip
"""Sizes that make a network of the preset's shape in a moment."""


def small(preset: str, *, num_images: int = 102_400, **flags: Any) -> PretrainSettings:
    patch_head = {"patch_out_dim": 32} if preset in ("dinov2", "signmusketeers") else {}
    values = {"train_dir": "crops", "preset": preset, "batch_size": 1024, **SMALL, **patch_head, **flags}
    return settle(load_settings("hands", flags=values).settings, num_images=num_images).settings


@pytest.fixture
def trainer() -> Callable[[str], Trainer]:
    """The trainer of a preset over 100 epochs of 100 steps of 1,024 images."""

    def trainer(preset: str) -> Trainer:
        settings = small(preset)
        return build_trainer(build_model(settings), settings, Plan(1024, 100, 10_000), World())

    return trainer


def half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


@pytest.mark.parametrize(
    ("preset", "peak", "decay_end", "momentum"),
    [("dino", 0.002, 0.4, 0.996), ("ibot", 0.002, 0.4, 0.996), ("dinov2", 0.004, 0.4, 0.992),
     ("signmusketeers", 0.0002, 0.2, 0.994)],
)  # fmt: skip
def test_the_trainer_follows_the_papers_schedules(
    preset: str, peak: float, decay_end: float, momentum: float, trainer: Callable[[str], Trainer]
) -> None:
    schedules = trainer(preset).schedules
    rates = [schedules.learning_rate(step) for step in (499, 999, 5500, 10_000)]
    assert rates == pytest.approx([peak / 2, peak, half_cosine(peak, 1e-6, 0.5), 1e-6])
    decays = [schedules.weight_decay(step) for step in (0, 2500, 10_000)]
    assert decays == pytest.approx([0.04, half_cosine(0.04, decay_end, 0.25), decay_end])
    momenta = [schedules.teacher_momentum(step) for step in (0, 5000, 10_000)]
    assert momenta == pytest.approx([momentum, (momentum + 1) / 2, 1.0])
    temperatures = [schedules.teacher_temp(step) for step in (0, 1000, 3000, 9999)]
    assert temperatures == pytest.approx([0.04, 0.05, 0.07, 0.07])
    assert (schedules.frozen_steps, schedules.frozen_backbone_steps) == (100, 0)


@pytest.mark.parametrize("preset", PAPERS)
def test_the_optimizer_has_the_papers_shares_and_decay(preset: str, trainer: Callable[[str], Trainer]) -> None:
    made = trainer(preset)
    made.schedules.apply(made.optimizer, 999)
    group_of = {id(p): group for group in made.optimizer.param_groups for p in group["params"]}
    groups = {name: group_of[id(p)] for name, p in made.model.student.named_parameters()}
    peak = groups["head.prototypes.weight"]["lr"]
    layer, patch = (0.9, 0.2) if preset in ("dinov2", "signmusketeers") else (1.0, 1.0)
    shares = [groups[f"backbone.{name}"]["lr"] / peak for name in (
        "blocks.1.mlp.fc1.weight", "blocks.0.mlp.fc1.weight", "patch_embed.proj.weight")]  # fmt: skip
    assert shares == pytest.approx([layer, layer**2, patch * layer**3])  # of two blocks
    undecayed = [name for name, group in groups.items() if group["weight_decay"] == 0]
    assert {"backbone.norm.weight", "backbone.blocks.0.attn.qkv.bias", "head.mlp.0.bias"} <= set(undecayed)
    assert groups["backbone.blocks.0.attn.qkv.weight"]["weight_decay"] > 0.04
    assert made.clip_grad_norm == 3.0


@pytest.mark.parametrize(
    ("preset", "terms"),
    [("dino", {"cls": 1.0}), ("ibot", {"cls": 1.0, "patch": 1.0}),
     ("dinov2", {"cls": 1.0, "koleo": 0.1, "patch": 1.0}),
     ("signmusketeers", {"cls": 1.0, "koleo": 0.1, "patch": 1.0})],
)  # fmt: skip
def test_the_objective_has_the_papers_terms_and_centering(
    preset: str, terms: dict[str, float], trainer: Callable[[str], Trainer]
) -> None:
    made = trainer(preset)
    assert made.objective.weights == terms
    balancings = [module for module in made.objective.modules() if isinstance(module, EmaCenter | SinkhornKnopp)]
    assert len(balancings) == len(terms) - ("koleo" in terms)
    for balancing in balancings:
        assert not balancing.standardize
        if isinstance(balancing, SinkhornKnopp):
            assert (preset[:4] != "ibot", balancing.iterations, balancing.eps) == (True, 3, None)
        else:
            assert (preset in ("dino", "ibot"), balancing.momentum) == (True, 0.9)
    assert (made.model.student.patch_head is not None) is (preset in ("dinov2", "signmusketeers"))


@pytest.mark.parametrize(("preset", "patch"), [("ibot", 16), ("dinov2", 14), ("signmusketeers", 14)])
def test_half_of_the_crops_are_masked_by_a_tenth_to_a_half(preset: str, patch: int, pictures: Path) -> None:
    settings = small(preset, num_images=24, batch_size=24, num_local_crops=0)
    masks = build_batches(settings, scan([pictures]), World())[0].batches[0].masks_GN.numpy()
    assert masks.shape == (48, (224 // patch) ** 2)
    shares = masks.mean(axis=1)
    masked = shares[shares > 0]
    assert len(masked) == 24
    assert 0.095 < masked.min() < 0.15
    assert 0.45 < masked.max() < 0.505
    assert masked.mean() == pytest.approx(0.3, abs=0.01)


def test_dino_masks_nothing(pictures: Path) -> None:
    settings = small("dino", num_images=24, batch_size=8, num_local_crops=0, image_size=32)
    assert not np.any(build_batches(settings, scan([pictures]), World())[0].batches[0].masks_GN.numpy())


@pytest.mark.parametrize("preset", PAPERS)
def test_a_tiny_run_of_every_paper_trains_and_records_it(preset: str, pictures: Path, tmp_path: Path) -> None:
    patch = 14 if preset in ("dinov2", "signmusketeers") else 16
    flags = {
        "train_dir": str(pictures), "output_dir": str(tmp_path / "run"), "preset": preset, "epochs": 1,
        "batch_size": 12, "num_workers": 0, "log_interval": 1, "image_size": 2 * patch, **SMALL,
    }  # fmt: skip
    settings, origins = load_settings("hands", flags=flags)
    said: list[str] = []
    pretrain(settings, origins=origins, reporter=Listener(said))
    steps = [record for record in read_metrics(tmp_path / "run") if record["context"] == "train_step"]
    assert [math.isfinite(record["loss"]) for record in steps] == [True, True]
    params = read_params(tmp_path / "run")
    assert params["settings"]["preset"] == preset
    recorded = params["origins"]
    assert (recorded["loss.center_momentum"], recorded["epochs"]) == (f"preset {preset}", "--epochs")
    assert recorded["optimizer.warmup_epochs"] == f"auto: preset {preset}, 10 epochs of 100, in proportion for 1"
    starts = [line for line in said if "starts from DINOv2's ViT-S/14" in line]
    assert len(starts) == (preset == "signmusketeers")


class Listener:
    """A reporter that keeps the warnings."""

    def __init__(self, said: list[str]) -> None:
        self._said = said

    def say(self, text: str) -> None:
        """Pass over it."""

    def warn(self, text: str) -> None:
        """Keep it."""
        self._said.append(text)

    def detail(self, text: str) -> None:
        """Pass over it."""

    def step(self, step: int, total_steps: int, metrics: Any) -> None:
        """Pass over it."""

    def close(self) -> None:
        """Nothing."""


def test_embeddings_are_in_the_decayed_group_where_that_is_asked(train: Any) -> None:
    runs = [train(str(asked), epochs=1, decay_embeddings=asked).run_dir for asked in (False, True)]
    groups = [load_checkpoint(run).state["optimizer"]["param_groups"] for run in runs]
    before, after = ({group["decays"]: len(group["params"]) for group in rows} for rows in groups)
    assert after[True] - before[True] == before[False] - after[False] == 3  # positions, CLS token, mask token
