"""Crop parameters: RandomResizedCrop's distribution, DINO's asymmetry, and draws that do not depend on one another."""

import math

import numpy as np
import pytest

from sltdino.core.rng import generator
from sltdino.core.settings import AugmentationSettings
from sltdino.data.crops import ImageCrops, draw_crops, draw_uniforms

NUM_IMAGES = 4000


def drawn(
    augmentation: AugmentationSettings, size: tuple[int, int] = (100, 120), num_images: int = NUM_IMAGES
) -> ImageCrops:
    num_local = 4 if augmentation.num_local_crops == "auto" else augmentation.num_local_crops
    many = {"light": 0.0, "rotation": 0.0, "solarize_prob": "dino"}
    settled = {name: value for name, value in many.items() if getattr(augmentation, name) == "auto"}
    num_crops = augmentation.num_global_crops + num_local
    uniforms = np.stack([draw_uniforms(generator(0, "crops", image), num_crops) for image in range(num_images)])
    return draw_crops(uniforms, np.tile(size, (num_images, 1)), augmentation.model_copy(update=settled))


def reference_box(rng: np.random.Generator, height: int, width: int, scale: tuple[float, float]) -> tuple[int, ...]:
    """torchvision's RandomResizedCrop, written from its documentation."""
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w
    w, h = width, height
    if width / height < 3 / 4:
        h = round(w / (3 / 4))
    elif width / height > 4 / 3:
        w = round(h * (4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("size", [(100, 120), (64, 64), (50, 200)])
def test_boxes_are_distributed_as_torchvisions(size: tuple[int, int]) -> None:
    crops = drawn(AugmentationSettings(), size)
    rng = np.random.default_rng(5)
    settings = AugmentationSettings()
    for boxes, scale in (
        (crops.global_crops.boxes[0], settings.global_crop_scale),
        (crops.local_crops.boxes[2], settings.local_crop_scale),
    ):
        expected = np.array([reference_box(rng, *size, scale) for _ in range(NUM_IMAGES)])
        for ours, theirs in zip(boxes.T, expected.T, strict=True):
            error = 4 * theirs.std() * math.sqrt(2 / NUM_IMAGES) + 1e-9
            assert abs(ours.mean() - theirs.mean()) < error
            quantiles = np.linspace(0.1, 0.9, 5)
            np.testing.assert_allclose(np.quantile(ours, quantiles), np.quantile(theirs, quantiles), atol=5)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (2, 2), (224, 224)])
def test_boxes_lie_in_the_image(size: tuple[int, int]) -> None:
    for crops in drawn(AugmentationSettings(local_crop_scale=(0.01, 0.02)), size, 200):
        top, left, height, width = np.moveaxis(crops.boxes, -1, 0)
        assert (height >= 1).all()
        assert (width >= 1).all()
        assert (top >= 0).all()
        assert (left >= 0).all()
        assert (top + height <= size[0]).all()
        assert (left + width <= size[1]).all()


def test_a_very_long_image_gets_the_central_fallback() -> None:
    boxes = drawn(AugmentationSettings(global_crop_scale=(1.0, 1.0)), (10, 100), 50).global_crops.boxes
    assert np.unique(boxes.reshape(-1, 4), axis=0).tolist() == [[0, (100 - 13) // 2, 10, 13]]


def test_dinos_asymmetry() -> None:
    crops = drawn(AugmentationSettings())
    blurred = [(sigma > 0).mean() for sigma in (*crops.global_crops.blur_sigma, *crops.local_crops.blur_sigma)]
    np.testing.assert_allclose(blurred, [1.0, 0.1, 0.5, 0.5, 0.5, 0.5], atol=0.03)
    assert blurred[0] == 1
    solarized = [s.mean() for s in (*crops.global_crops.solarize, *crops.local_crops.solarize)]
    np.testing.assert_allclose(solarized, [0, 0.2, 0, 0, 0, 0], atol=0.03)
    assert solarized[0] == 0


def test_a_given_probability_holds_for_all_crops() -> None:
    for crops in drawn(AugmentationSettings(gaussian_blur_prob=0.3, solarize_prob=0.4)):
        np.testing.assert_allclose((crops.blur_sigma > 0).mean(axis=1), 0.3, atol=0.03)
        np.testing.assert_allclose(crops.solarize.mean(axis=1), 0.4, atol=0.03)


def test_blur_is_in_proportion_to_the_image_size() -> None:
    for size in (224, 112):
        for crops in drawn(AugmentationSettings(image_size=size, gaussian_blur_prob=1.0)):
            low, high = 0.1 * size / 224, 2.0 * size / 224
            assert low <= crops.blur_sigma.min() < low + 0.01
            assert high - 0.01 < crops.blur_sigma.max() <= high


def test_colour_factors_span_their_ranges_when_applied_and_are_neutral_otherwise() -> None:
    settings = AugmentationSettings(brightness=0.4, contrast=1.5, saturation=0.2, hue=0.1, color_jitter_prob=0.6)
    for crops in drawn(settings):
        neutral = crops.brightness == 1
        np.testing.assert_allclose(neutral.mean(), 0.4, atol=0.02)
        for values, low, high in (
            (crops.brightness, 0.6, 1.4),
            (crops.contrast, 0.0, 2.5),
            (crops.saturation, 0.8, 1.2),
            (crops.hue, -0.1, 0.1),
        ):
            applied = values[~neutral]
            assert low <= applied.min() < low + 0.01 * (high - low)
            assert high - 0.01 * (high - low) < applied.max() <= high
        assert (crops.hue[neutral] == 0).all()
        assert (crops.contrast[neutral] == 1).all()
        np.testing.assert_allclose(crops.grayscale.mean(), settings.grayscale_prob, atol=0.02)
        np.testing.assert_allclose(crops.flip.mean(), settings.hflip_prob, atol=0.02)


def test_light_spans_its_strength_in_every_direction_of_every_crop() -> None:
    for crops in drawn(AugmentationSettings(light=0.2)):
        for values in crops.light.reshape(-1, 3).T:
            assert -0.2 <= values.min() < -0.199
            assert 0.199 < values.max() <= 0.2
            np.testing.assert_allclose(np.quantile(values, (0.25, 0.5, 0.75)), (-0.1, 0, 0.1), atol=0.01)


def test_the_light_of_one_crop_says_nothing_of_another_or_of_the_rest() -> None:
    crops = drawn(AugmentationSettings(light=0.3, color_jitter_prob=1.0, solarize_prob=0.5)).global_crops
    lights = crops.light.transpose(0, 2, 1).reshape(6, -1)
    rest = [*crops.brightness, *crops.boxes[..., 0], *crops.flip, *crops.grayscale, *crops.solarize]
    for values in (lights, np.abs(lights)):  # a dependence on the size alone would not show in the values
        columns = [*values, *rest]
        between = np.corrcoef(columns) - np.eye(len(columns))
        assert np.abs(between).max() < 5 / math.sqrt(NUM_IMAGES)


def test_angles_span_their_range_whatever_else_happens_to_the_crop() -> None:
    crops = drawn(AugmentationSettings(rotation=12.0, color_jitter_prob=0.5)).global_crops
    np.testing.assert_allclose(np.quantile(crops.rotation, (0, 0.25, 0.5, 0.75, 1)), (-12, -6, 0, 6, 12), atol=0.6)
    jittered = crops.brightness != 1
    assert abs(np.corrcoef(jittered.flatten(), crops.rotation.flatten())[0, 1]) < 5 / math.sqrt(2 * NUM_IMAGES)
    assert not drawn(AugmentationSettings()).global_crops.rotation.any()


def test_light_changes_nothing_else() -> None:
    without, lit = (drawn(AugmentationSettings(light=light), num_images=50) for light in (0.0, 0.3))
    for before, after in zip(without, lit, strict=True):
        assert not before.light.any()
        for name in set(before._fields) - {"light"}:
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


def test_a_setting_changes_only_what_it_is_about() -> None:
    before = drawn(AugmentationSettings(light=0.3, rotation=5.0), num_images=50)
    after = drawn(
        AugmentationSettings(
            brightness=0.0, hflip_prob=0.0, num_local_crops=7, gaussian_blur_prob=0.0, light=0.3, rotation=5.0
        ),
        num_images=50,
    )
    for name in ("boxes", "contrast", "saturation", "hue", "grayscale", "solarize", "light", "rotation"):
        np.testing.assert_array_equal(getattr(before.global_crops, name), getattr(after.global_crops, name))
        np.testing.assert_array_equal(getattr(before.local_crops, name), getattr(after.local_crops, name)[:4])


def test_an_images_crops_do_not_depend_on_the_others_in_the_call() -> None:
    together, alone = drawn(AugmentationSettings(), num_images=30), drawn(AugmentationSettings(), num_images=7)
    for kind in range(2):
        for ours, theirs in zip(together[kind], alone[kind], strict=True):
            np.testing.assert_array_equal(ours[:, :7], theirs)


def test_no_local_crops() -> None:
    crops = drawn(AugmentationSettings(num_local_crops=0), num_images=3)
    assert crops.local_crops.boxes.shape == (0, 3, 4)
    assert crops.global_crops.boxes.shape == (2, 3, 4)
