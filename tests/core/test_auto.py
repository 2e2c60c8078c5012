"""What `auto` settles to, and that it settles once."""

import pytest

from sltdino.core.auto import plan, settle
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
    follow = {"augmentation.gaussian_blur_prob", "augmentation.solarize_prob"}
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
