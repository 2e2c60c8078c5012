"""The papers' presets, value by value as the reference tables have them; what wins over them, and what they leave."""

import math
from typing import Any

import pytest

from sltdino.core.auto import Settled, settle
from sltdino.core.auto_network import InitialNetwork
from sltdino.core.settings_files import load_settings
from sltdino.core.settings_presets import PRESETS
from sltdino.core.settings_schema import BY_KEY, flatten

PAPERS = ("dino", "ibot", "dinov2", "signmusketeers")


def settled(preset: str, *, stream: str = "hands", num_images: int = 102_400, **flags: Any) -> Settled:
    """Of a run of the papers' batch, and so of 100 steps an epoch, unless flags say otherwise."""
    values = {"train_dir": "crops", "preset": preset, "batch_size": 1024, **flags}
    loaded = load_settings(stream, flags=values)
    found = settle(loaded.settings, num_images=num_images)
    return Settled(found.settings, loaded.origins | found.origins)


def values(preset: str, **options: Any) -> dict[str, Any]:
    return flatten(settled(preset, **options).settings.model_dump())


# Written from the tables, row by row, and not from the presets; rows that the tables say once for all are repeated.
ROWS: dict[str, tuple[Any, Any, Any, Any]] = {
    # key                              DINO          iBOT          DINOv2        SignMusketeers
    "algorithm":                      ("dino",       "ibot",       "dinov2",     "dinov2"),
    "epochs":                         (100,          100,          100,          100),
    "optimizer.learning_rate":        (0.002,        0.002,        0.004,        0.0002),
    "optimizer.warmup_epochs":        (10,           10,           10,           10),
    "optimizer.min_learning_rate":    (1e-6,         1e-6,         1e-6,         1e-6),
    "optimizer.weight_decay":         (0.04,         0.04,         0.04,         0.04),
    "optimizer.weight_decay_final":   (0.4,          0.4,          0.4,          0.2),
    "optimizer.teacher_momentum_base":  (0.996,      0.996,        0.992,        0.994),
    "optimizer.teacher_momentum_final": (1.0,        1.0,          1.0,          1.0),
    "loss.teacher_temp_start":        (0.04,         0.04,         0.04,         0.04),
    "loss.teacher_temp":              (0.07,         0.07,         0.07,         0.07),
    "loss.teacher_temp_warmup_epochs": (30,          30,           30,           30),
    "loss.student_temp":              (0.1,          0.1,          0.1,          0.1),
    "loss.use_sinkhorn":              (False,        False,        True,         True),
    "loss.sinkhorn_iters":            (3,            3,            3,            3),
    "loss.center_momentum":           (0.9,          0.9,          0.9,          0.9),
    "loss.koleo_weight":              (0.0,          0.0,          0.1,          0.1),
    "loss.koleo_epsilon":             (1e-4,         1e-4,         1e-4,         1e-4),
    "loss.patch_loss_weight":         (1.0,          1.0,          1.0,          1.0),
    "head.out_dim":                   (65536,        8192,         65536,        65536),
    "head.patch_out_dim":             ("shared",     "shared",     65536,        65536),
    "head.hidden_dim":                (2048,         2048,         2048,         2048),
    "head.bottleneck_dim":            (256,          256,          256,          256),
    "head.batch_norm":                (False,        False,        False,        False),
    "augmentation.image_size":        (224,          224,          224,          224),
    "augmentation.num_global_crops":  (2,            2,            2,            2),
    "augmentation.global_crop_scale": ((0.4, 1.0),   (0.25, 1.0),  (0.32, 1.0),  (0.5, 1.0)),
    "augmentation.num_local_crops":   (8,            10,           8,            8),
    "augmentation.local_crop_size":   (96,           96,           98,           98),
    "augmentation.local_crop_scale":  ((0.05, 0.4),  (0.05, 0.25), (0.05, 0.32), (0.25, 0.5)),
    "augmentation.brightness":        (0.4,          0.4,          0.4,          0.4),
    "augmentation.contrast":          (0.4,          0.4,          0.4,          0.4),
    "augmentation.saturation":        (0.2,          0.2,          0.2,          0.2),
    "augmentation.color_jitter_prob": (0.8,          0.8,          0.8,          0.8),
    "augmentation.grayscale_prob":    (0.2,          0.2,          0.2,          0.2),
    "augmentation.light":             (0.0,          0.0,          0.0,          0.0),  # none of them has it
    "augmentation.gaussian_blur_prob": ("auto",      "auto",       "auto",       "auto"),  # DINO's 1.0, 0.1, 0.5
    "augmentation.solarize_prob":     ("dino",       "dino",       "dino",       "dino"),  # 0, 0.2, 0
    "augmentation.rotation":          (0.0,          0.0,          0.0,          0.0),
    "loss.patch_mask_prob":           (0.5,          0.5,          0.5,          0.5),
    "loss.patch_mask_ratio":          (0.3,          0.3,          0.3,          0.3),  # from 0.1 to 0.5
    "loss.patch_mask_block":          (4,            16,           4,            4),
    "optimizer.clip_grad_norm":       (3.0,          3.0,          3.0,          3.0),
    "optimizer.freeze_last_layer_epochs": (1,        1,            1,            1),
    "optimizer.freeze_backbone_epochs": (0.0,        0.0,          0.0,          0.0),
    "optimizer.decay_embeddings":     (True,         True,         True,         True),
    "optimizer.layer_decay":          (1.0,          1.0,          0.9,          0.9),
    "optimizer.patch_embed_lr_scale": (1.0,          1.0,          0.2,          0.2),
    "vit.drop_path":                  (0.1,          0.1,          0.3,          0.4),
    "vit.drop_path_uniform":          (False,        False,        True,         True),
    "vit.patch_size":                 (16,           16,           14,           14),
    "vit.embed_dim":                  (384,          384,          384,          384),
    "vit.depth":                      (12,           12,           12,           12),
    "vit.num_heads":                  (6,            6,            6,            6),
    "vit.mlp_ratio":                  (4.0,          4.0,          4.0,          4.0),
    "vit.registers":                  (0,            0,            0,            4),
    "vit.layer_scale":                (0.0,          0.0,          1e-5,         1e-5),
    "vit.weight_init":                ("trunc_normal", "trunc_normal", "trunc_normal", "trunc_normal"),
    "vit.positions":                  ("random",     "random",     "random",     "random"),
    "loss.standardize_teacher":       (False,        False,        False,        False),
}  # fmt: skip


@pytest.mark.parametrize("preset", PAPERS)
def test_every_value_is_the_papers(preset: str) -> None:
    found, column = values(preset), PAPERS.index(preset)
    expected = {key: row[column] for key, row in ROWS.items()}
    assert {key: found[key] for key in ROWS} == expected


@pytest.mark.parametrize("preset", PAPERS)
def test_no_value_that_a_preset_holds_is_missing_from_the_tables(preset: str) -> None:
    # the named size stands in the table as numbers
    assert set(flatten(PRESETS[preset])) - {"vit.backbone"} <= set(ROWS)


@pytest.mark.parametrize(
    ("preset", "at_256", "at_32"),
    [
        ("dino", 5e-4, 6.25e-5),
        ("ibot", 5e-4, 6.25e-5),
        ("dinov2", 2e-3, 4e-3 / math.sqrt(32)),
        ("signmusketeers", 1e-4, 2e-4 / math.sqrt(32)),
    ],
)
def test_the_learning_rate_follows_the_batch_by_the_papers_rule(preset: str, at_256: float, at_32: float) -> None:
    def rate(**flags: Any) -> float:
        return values(preset, **flags)["optimizer.learning_rate"]

    assert (rate(batch_size=256), rate(batch_size=32)) == pytest.approx((at_256, at_32), rel=1e-9)
    assert rate(batch_size=32, accumulate_steps=8) == pytest.approx(at_256, rel=1e-9)


@pytest.mark.parametrize("preset", PAPERS)
def test_few_images_get_the_recipe_of_a_million(preset: str) -> None:
    assert values(preset, num_images=1000, batch_size=32) == values(preset, num_images=10**6, batch_size=32)


@pytest.mark.parametrize("preset", PAPERS)
@pytest.mark.parametrize(("epochs", "lengths"), [(300, (10, 30, 1)), (50, (5, 15, 0.5)), (1, (0.1, 0.3, 0.01))])
def test_lengths_in_epochs_shrink_with_a_short_run_and_say_so(
    preset: str, epochs: int, lengths: tuple[float, ...]
) -> None:
    keys = ("optimizer.warmup_epochs", "loss.teacher_temp_warmup_epochs", "optimizer.freeze_last_layer_epochs")
    found = settled(preset, epochs=epochs)
    assert [flatten(found.settings.model_dump())[key] for key in keys] == pytest.approx(lengths)
    shrunk = f" of 100, in proportion for {epochs}" * (epochs < 100)
    assert found.origins[keys[0]] == f"auto: preset {preset}, 10 epochs{shrunk}"
    assert found.origins[keys[2]] == f"auto: preset {preset}, 1 epoch{shrunk}"


def test_automatic_values_say_by_what_rule() -> None:
    key = "optimizer.learning_rate"
    assert settled("ibot").origins[key] == "auto: preset ibot, 0.0005 · 1024 images per step / 256"
    assert settled("signmusketeers", batch_size=8).origins[key] == (
        "auto: preset signmusketeers, 0.0002 · sqrt(8 images per step / 1024)"
    )


@pytest.mark.parametrize("preset", PAPERS)
def test_hands_are_not_mirrored_and_faces_keep_their_colour(preset: str) -> None:
    hands, face = values(preset), values(preset, stream="face")
    assert hands["augmentation.hflip_prob"] == 0.0
    assert (face["augmentation.hflip_prob"], face["augmentation.hue"]) == (0.25, 0.05)


@pytest.mark.parametrize("preset", PAPERS)
def test_every_flag_wins_over_the_preset(preset: str) -> None:
    flags = {key: BY_KEY[key].default for key in flatten(PRESETS[preset])}
    settings, origins = load_settings("hands", flags={"train_dir": "crops", "preset": preset, **flags})
    found = flatten(settings.model_dump())
    assert {key: found[key] for key in flags} == flags
    assert [origin for origin in origins.values() if origin == f"preset {preset}"] == []


@pytest.mark.parametrize("preset", PAPERS)
def test_a_flag_wins_over_the_rule_of_the_paper(preset: str) -> None:
    found = settled(preset, learning_rate=7e-4, warmup_epochs=3)
    assert (found.settings.optimizer.learning_rate, found.settings.optimizer.warmup_epochs) == (7e-4, 3)
    assert (found.origins["optimizer.learning_rate"], found.origins["head.out_dim"]) == (
        "--learning-rate", f"preset {preset}",
    )  # fmt: skip


DINOV2_S = InitialNetwork(
    name="dinov2_vits14_reg4_pretrain.pth", patch_size=14, embed_dim=384, depth=12, num_heads=6, mlp_ratio=4.0,
    registers=4, layer_scale=1e-5, layer_norm_eps=1e-6,
)  # fmt: skip


def test_signmusketeers_starts_from_dinov2s_weights_as_it_is() -> None:
    flags = {"train_dir": "crops", "preset": "signmusketeers", "init_from": "dinov2_vits14_reg4_pretrain.pth"}
    vit = settle(load_settings("hands", flags=flags).settings, num_images=10**6, initial=DINOV2_S).settings.vit
    assert (vit.registers, vit.layer_scale, vit.layer_norm_eps, vit.depth) == (4, 1e-5, 1e-6, 12)
