"""What `auto` settles to, and that it settles once."""

import pytest
from pydantic import ValidationError

from sltdino.core.auto import plan, settle
from sltdino.core.auto_network import InitialNetwork
from sltdino.core.settings import PretrainSettings
from sltdino.errors import SettingsError


def settings(**values: object) -> PretrainSettings:
    return PretrainSettings.model_validate({"train_dir": "crops", **values})


def test_nothing_that_has_a_rule_stays_auto() -> None:
    values = settle(settings(), num_images=1000).settings.model_dump()
    left = {
        f"{section}.{key}"
        for section, fields in values.items()
        if isinstance(fields, dict)
        for key, value in fields.items()
        if value == "auto"
    }
    # these follow the machine, the crop or the schedule, where they are used
    follow = {"augmentation.gaussian_blur_prob"}
    assert left == {"dataset.num_workers", "loss.sinkhorn_eps"} | follow


def test_settled_settings_stay_as_they_are() -> None:
    once = settle(settings(), num_images=1000)
    again = settle(once.settings, num_images=10**6)
    assert again.settings == once.settings
    assert again.origins == {}


def test_given_values_win_and_have_no_auto_origin() -> None:
    settled = settle(settings(head={"out_dim": 77}, optimizer={"learning_rate": 5e-4}), num_images=1000)
    assert settled.settings.head.out_dim == 77
    assert settled.settings.optimizer.learning_rate == 5e-4
    assert not {"head.out_dim", "optimizer.learning_rate"} & settled.origins.keys()
    assert settled.origins["loss.teacher_temp"] == "auto: 1,000 images"


@pytest.mark.parametrize(("num_images", "light"), [(1, 0.3), (19_999, 0.3), (20_000, 0.0), (10**6, 0.0)])
def test_light_is_uneven_for_few_images(num_images: int, light: float) -> None:
    settled = settle(settings(), num_images=num_images)
    assert settled.settings.augmentation.light == light
    assert settled.origins["augmentation.light"] == f"auto: {num_images:,} images"


def test_few_images_are_turned_and_not_solarized_and_many_are_as_in_dino() -> None:
    few, many = (settle(settings(), num_images=number).settings.augmentation for number in (19_999, 20_000))
    assert (few.rotation, few.solarize_prob) == (10.0, 0.0)
    assert (many.rotation, many.solarize_prob) == (0.0, "dino")


@pytest.mark.parametrize("light", [-0.01, 0.31, "much"])
def test_light_stays_within_what_leaves_every_pixel_some(light: object) -> None:
    with pytest.raises(ValidationError, match=r"augmentation\.light"):
        settings(augmentation={"light": light})


@pytest.mark.parametrize(
    ("num_images", "prototypes", "temp"),
    [
        (1_000, 1024, 0.33),
        (20_000, 2048, 0.02),
        (60_000, 4096, 0.034),
        (150_000, 16_384, 0.0458),
        (10**6, 65_536, 0.07),
    ],
)
def test_prototypes_and_temperature_follow_the_number_of_images(num_images: int, prototypes: int, temp: float) -> None:
    settled = settle(settings(), num_images=num_images).settings
    assert settled.head.out_dim == prototypes
    assert settled.loss.teacher_temp == pytest.approx(temp, abs=1e-3)


def test_temperatures_without_standardized_scores_are_lightly_trains_for_small_data() -> None:
    loss = settle(settings(loss={"standardize_teacher": False}), num_images=1000).settings.loss
    assert (loss.teacher_temp_start, loss.teacher_temp) == (0.02, 0.02)


@pytest.mark.parametrize(("image", "patch", "local"), [(224, 16, 96), (224, 14, 98), (112, 16, 48), (64, 8, 24)])
def test_local_crops_are_three_sevenths_in_whole_patches(image: int, patch: int, local: int) -> None:
    given = settings(augmentation={"image_size": image}, vit={"patch_size": patch})
    assert settle(given, num_images=1000).settings.augmentation.local_crop_size == local


@pytest.mark.parametrize(
    ("vit", "shape"),
    [
        ({}, (384, 12, 6)),
        ({"backbone": "vit-tiny"}, (192, 12, 3)),
        ({"backbone": "vit-base", "depth": 2}, (768, 2, 12)),
        ({"embed_dim": 128, "depth": 4}, (128, 4, 2)),
        ({"embed_dim": 200}, (200, 12, 2)),
    ],
)
def test_named_sizes_give_way_to_explicit_values(vit: dict[str, object], shape: tuple[int, int, int]) -> None:
    settled = settle(settings(vit=vit), num_images=1000).settings.vit
    assert (settled.embed_dim, settled.depth, settled.num_heads) == shape


def test_settled_values_must_fit_together() -> None:
    with pytest.raises(SettingsError, match="5 heads do not divide the width 384"):
        settle(settings(vit={"num_heads": 5}), num_images=1000)


@pytest.mark.parametrize(("steps", "momentum"), [(100, 0.9), (1500, 0.99), (10**6, 0.996)])
def test_the_teachers_horizon_follows_the_run(steps: int, momentum: float) -> None:
    given = settings(epochs=steps, dataset={"batch_size": 10})
    assert settle(given, num_images=10).settings.optimizer.teacher_momentum_base == pytest.approx(momentum, abs=1e-3)


def test_plan_drops_the_incomplete_batch_after_all_repeats() -> None:
    given = settings(epochs=3, pseudo_epochs=2, dataset={"batch_size": 8}, optimizer={"accumulate_steps": 2})
    assert plan(given, num_images=20) == (16, 2, 6)
    assert plan(given, num_images=20, world_size=2) == (32, 1, 3)


@pytest.mark.parametrize(
    ("vit", "others"),
    [
        ({"layer_scale": 1e-5}, "LayerScale"),
        ({"embed_dim": 7, "num_heads": 1}, "width 7"),
        ({"positions": "random"}, "random positions"),
    ],
)
def test_few_images_start_from_xavier_matrices_where_the_layout_cannot_be(vit: dict[str, object], others: str) -> None:
    settled = settle(settings(vit=vit), num_images=1000)
    assert settled.settings.vit.weight_init == "xavier"
    assert settled.origins["vit.weight_init"] == f"auto: 1,000 images, {others}"
    with pytest.raises(ValidationError, match="layout"):
        settings(vit={**vit, "weight_init": "layout"})


WEIGHTS = InitialNetwork(
    name="dinov2_vits14_reg.pth", patch_size=14, embed_dim=384, depth=12, num_heads=6, mlp_ratio=3.5, registers=4,
    layer_scale=1e-5, layer_norm_eps=1e-6,
)  # fmt: skip


def test_without_weights_the_network_is_the_small_one_of_patch_16() -> None:
    vit = settle(settings(), num_images=1000).settings.vit
    assert (vit.backbone, vit.patch_size, vit.mlp_ratio, vit.registers) == ("vit-small", 16, 4.0, 0)
    assert (vit.layer_scale, vit.layer_norm_eps, vit.weight_init) == (0.0, 1e-5, "layout")


def test_auto_values_of_the_network_follow_the_weights_it_starts_from() -> None:
    settled = settle(settings(init_from="x.pth"), num_images=1000, initial=WEIGHTS)
    vit = settled.settings.vit.model_dump()
    assert {key: vit[key] for key in WEIGHTS._asdict() if key != "name"} == {
        key: value for key, value in WEIGHTS._asdict().items() if key != "name"
    }
    assert (vit["backbone"], vit["weight_init"]) == ("vit-small", "trunc_normal")
    assert settled.origins["vit.registers"] == "auto: dinov2_vits14_reg.pth"
    assert settled.settings.augmentation.local_crop_size == 98


def test_weights_of_no_named_size_name_none() -> None:
    settled = settle(settings(init_from="x.pth"), num_images=1000, initial=WEIGHTS._replace(embed_dim=96))
    assert settled.settings.vit.backbone == "auto"
    assert "vit.backbone" not in settled.origins


@pytest.mark.parametrize(
    ("vit", "message"),
    [
        ({"depth": 6}, "--vit-depth: 6, and the weights in dinov2_vits14_reg.pth have 12; leave it out, or over a "
         "preset pass --vit-depth auto"),
        ({"mlp_ratio": 4.0}, "--vit-mlp-ratio: 4.0, and the weights in dinov2_vits14_reg.pth have 3.5; leave it out, "
         "or over a preset pass --vit-mlp-ratio auto"),
        ({"layer_scale": 0.0},
         "--vit-layer-scale: 0.0, and the weights in dinov2_vits14_reg.pth have one; leave it out, or over a "
         "preset pass --vit-layer-scale auto"),
        ({"backbone": "vit-tiny"}, "--backbone: vit-tiny has embed_dim 192, num_heads 3, and the weights in "
         "dinov2_vits14_reg.pth have embed_dim 384, num_heads 6; leave it out, or over a preset pass --backbone auto"),
        ({"weight_init": "layout"}, "--vit-weight-init: layout would replace the weights in dinov2_vits14_reg.pth; "
         "leave it out"),
        ({"patch_size": 16}, "--patch-size: 16, and the weights in dinov2_vits14_reg.pth have 14; leave it out, or "
         "over a preset pass --patch-size auto, or add --init-resample-patch, which resamples their patch kernels"),
    ],
)  # fmt: skip
def test_a_given_value_that_contradicts_the_weights_is_an_error_with_both(vit: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settle(settings(init_from="x.pth", vit=vit), num_images=1000, initial=WEIGHTS)
    assert caught.value.problems == (message,)


def test_what_the_weights_can_be_adapted_to_may_be_given() -> None:
    vit = {"patch_size": 16, "registers": 0, "layer_norm_eps": 1e-5, "layer_scale": 0.5, "backbone": "vit-small"}
    given = settings(init_from="x.pth", init_resample_patch=True, vit=vit)
    settled = settle(given, num_images=1000, initial=WEIGHTS).settings
    assert settled.vit.model_dump().items() >= vit.items()
    assert settled.augmentation.local_crop_size == 96


def test_the_image_size_is_measured_in_the_patches_of_the_weights() -> None:
    with pytest.raises(SettingsError, match="225 is not a multiple of the patch size 14; use 224"):
        settle(settings(init_from="x.pth", augmentation={"image_size": 225}), num_images=1000, initial=WEIGHTS)


def test_none_is_a_random_start() -> None:
    assert settings(init_from="none").init_from is None
