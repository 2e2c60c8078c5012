"""What the CPU kernels do to pixels, against Pillow and plain numpy."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from sltdino.core.rng import generator
from sltdino.core.settings import AugmentationSettings
from sltdino.data.crops import CropParameters, draw_crops, draw_uniforms
from sltdino.data.kernels import (
    apply_crops,
    colour_transforms,
    gaussian_blur,
    light_factors,
    one_thread,
    resample,
    turned,
)

GREY = np.array((0.299, 0.587, 0.114))
NEUTRAL = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def photo(seed: int = 0, height: int = 90, width: int = 130) -> np.ndarray:
    """Smooth structure with noise on it, in the full range."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def neutral(boxes: list[tuple[int, int, int, int]], **changes: object) -> CropParameters:
    n = len(boxes)
    ones, zeros, no = np.ones(n), np.zeros(n), np.zeros(n, dtype=bool)
    plain = CropParameters(np.array(boxes), no, ones, ones, ones, zeros, no, zeros, no, np.zeros((n, 3)), zeros)
    return plain._replace(**{name: np.asarray(value) for name, value in changes.items()})


def to_hwc(crops: torch.Tensor) -> np.ndarray:
    return crops.permute(0, 2, 3, 1).numpy().astype(float)


@pytest.mark.parametrize("size", [24, 48, 96, 112, 224])
@pytest.mark.parametrize("box", [(0, 0, 90, 130), (10, 20, 64, 48), (3, 100, 20, 30), (89, 0, 1, 130), (50, 60, 1, 1)])
def test_the_geometry_is_pillows(size: int, box: tuple[int, int, int, int]) -> None:
    top, left, height, width = box
    cut = Image.fromarray(photo()).crop((left, top, left + width, top + height))
    expected = np.asarray(cut.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=None)).astype(int)
    ours = resample([photo()], np.array([box]), size)[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(ours - expected).max() <= 2


def test_neutral_parameters_leave_the_pixels_as_the_resize_gave_them() -> None:
    boxes = [(0, 0, 90, 130), (5, 6, 70, 70)]
    resized = resample([photo(), photo(1)], np.array(boxes), 64).float()
    crops = apply_crops([photo(), photo(1)], neutral(boxes), size=64, **NEUTRAL)
    torch.testing.assert_close(crops * 255, resized, atol=1e-4, rtol=0)
    whole = apply_crops([photo(2, 64, 64)], neutral([(0, 0, 64, 64)]), size=64, **NEUTRAL)
    np.testing.assert_allclose(to_hwc(whole)[0] * 255, photo(2, 64, 64), atol=1e-4)


def test_pixels_are_normalised_by_channel() -> None:
    mean, std = (0.1, 0.4, 0.7), (0.2, 0.3, 0.5)
    box = [(0, 0, 90, 130)]
    plain = apply_crops([photo()], neutral(box), size=32, **NEUTRAL)
    crops = apply_crops([photo()], neutral(box), size=32, mean=mean, std=std)
    np.testing.assert_allclose(to_hwc(crops), (to_hwc(plain) - mean) / std, atol=1e-5)


def test_flip_mirrors_left_and_right() -> None:
    box = [(0, 0, 90, 130)]
    plain = apply_crops([photo()], neutral(box), size=32, **NEUTRAL)
    assert torch.equal(apply_crops([photo()], neutral(box, flip=[True]), size=32, **NEUTRAL), plain.flip(3))


@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("size", [(24, 24), (48, 60)])
def test_blur_is_a_gaussian(sigma: float, size: tuple[int, int]) -> None:
    pixels = photo(3, *size).transpose(2, 0, 1).astype(np.float32)
    shifts = np.arange(-20, 21)
    weights = np.exp(-0.5 * (shifts[:, None] ** 2 + shifts[None] ** 2) / sigma**2)
    padded = np.pad(pixels.astype(np.float64), ((0, 0), (20, 20), (20, 20)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (41, 41), axis=(1, 2))
    expected = np.einsum("chwij,ij->chw", windows, weights / weights.sum())
    np.testing.assert_allclose(gaussian_blur(pixels, sigma), expected, atol=0.5)  # of 255: cut at 3 sigma


def test_blur_keeps_a_constant_and_the_input() -> None:
    pixels = np.full((3, 20, 20), 77, np.float32)
    np.testing.assert_allclose(gaussian_blur(pixels, 1.7), pixels, atol=1e-4)
    pixels = photo(4, 20, 20).transpose(2, 0, 1).astype(np.float32)
    before = pixels.copy()
    gaussian_blur(pixels, 1.7)
    np.testing.assert_array_equal(pixels, before)


def reference_colour(
    pixels: np.ndarray, *, brightness: float, contrast: float, saturation: float, hue: float, grayscale: bool
) -> np.ndarray:
    """One pixel operation after the other, unclamped; hue turns chroma by an angle in the I-Q plane."""
    pixels = pixels * brightness
    pixels = contrast * pixels + (1 - contrast) * (pixels @ GREY).mean()
    pixels = saturation * pixels + (1 - saturation) * (pixels @ GREY)[..., None]
    to_yiq = np.array((GREY, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)))
    yiq = pixels @ to_yiq.T
    chroma = (yiq[..., 1] + 1j * yiq[..., 2]) * np.exp(2j * np.pi * hue)
    pixels = np.stack((yiq[..., 0], chroma.real, chroma.imag), axis=-1) @ np.linalg.inv(to_yiq).T
    return np.repeat((pixels @ GREY)[..., None], 3, axis=-1) if grayscale else pixels


def test_the_colour_transform_is_the_operations_one_after_the_other() -> None:
    rng = np.random.default_rng(6)
    pixels = photo(5).astype(np.float64).reshape(-1, 3) / 255
    for grayscale in (False, True):
        values = {
            "brightness": rng.uniform(0.6, 1.4), "contrast": rng.uniform(0.6, 1.4),
            "saturation": rng.uniform(0.2, 1.8), "hue": rng.uniform(-0.5, 0.5),
        }  # fmt: skip
        params = neutral([(0, 0, 1, 1)], grayscale=[grayscale], **{name: [value] for name, value in values.items()})
        affine = colour_transforms(params, pixels.mean(0)[None])[0]
        expected = reference_colour(pixels, grayscale=grayscale, **values)
        np.testing.assert_allclose(pixels @ affine[:, :3].T + affine[:, 3], expected, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "value", "enhance"),
    [
        ("brightness", 0.7, ImageEnhance.Brightness),
        ("contrast", 0.6, ImageEnhance.Contrast),
        ("saturation", 0.5, ImageEnhance.Color),
    ],
)
def test_single_colour_changes_are_pillows(name: str, value: float, enhance: type) -> None:
    image = photo(6, 64, 64)
    expected = np.asarray(enhance(Image.fromarray(image)).enhance(value)).astype(int)
    crops = apply_crops([image], neutral([(0, 0, 64, 64)], **{name: [value]}), size=64, **NEUTRAL)
    assert np.abs(to_hwc(crops)[0] * 255 - expected).max() <= 2  # Pillow rounds grey and mean to integers


def test_hue_keeps_grey_and_a_full_turn_keeps_everything() -> None:
    grey = np.repeat(photo(7, 32, 32)[:, :, :1], 3, axis=2)
    box = [(0, 0, 32, 32)]
    for image, hue in ((grey, 0.3), (photo(7, 32, 32), 1.0)):
        turned = apply_crops([image], neutral(box, hue=[hue]), size=32, **NEUTRAL)
        np.testing.assert_allclose(to_hwc(turned)[0] * 255, image, atol=0.01)
    there = colour_transforms(neutral(box, hue=[0.2]), np.full((1, 3), 0.5))[0, :, :3]
    back = colour_transforms(neutral(box, hue=[-0.2]), np.full((1, 3), 0.5))[0, :, :3]
    np.testing.assert_allclose(there @ back, np.eye(3), atol=1e-12)


def test_grayscale_makes_equal_channels_of_the_same_luma() -> None:
    image = photo(8, 32, 32)
    crop = to_hwc(apply_crops([image], neutral([(0, 0, 32, 32)], grayscale=[True]), size=32, **NEUTRAL))[0]
    np.testing.assert_allclose(crop, np.repeat((image @ GREY / 255)[..., None], 3, axis=2), atol=1e-5)


def reference_light(pixels: np.ndarray, light: tuple[float, float, float]) -> np.ndarray:
    """Pixel by pixel, as it is defined; `pixels [S, S, 3]`."""
    size, (across, down, curvature) = len(pixels), light
    lit = pixels.copy()
    for row in range(size):
        for column in range(size):
            x, y = ((place + 0.5) / size * 2 - 1 for place in (column, row))
            lit[row, column] *= 1 + across * x + down * y + curvature * (x * x + y * y - 2 / 3)
    return lit


@pytest.mark.parametrize("light", [(0.3, 0, 0), (0, -0.3, 0), (0, 0, 0.3), (-0.1, 0.25, -0.3)])
def test_light_multiplies_the_pixels_before_their_colour_changes(light: tuple[float, float, float]) -> None:
    values = {"brightness": 1.2, "contrast": 0.7, "saturation": 1.3, "hue": 0.1}
    params = neutral([(0, 0, 24, 24)], light=[light], **{name: [value] for name, value in values.items()})
    image, mean, std = photo(11, 24, 24), np.array((0.4, 0.5, 0.6)), np.array((0.2, 0.3, 0.5))
    crop = to_hwc(apply_crops([image], params, size=24, mean=mean.tolist(), std=std.tolist()))[0]
    coloured = reference_colour(reference_light(image / 255, light), grayscale=False, **values)
    np.testing.assert_allclose(crop, (np.clip(coloured, 0, 1) - mean) / std, atol=1e-5)


def test_what_light_makes_brighter_than_white_may_come_back_before_it_is_cut() -> None:
    white = np.full((16, 16, 3), 255, np.uint8)
    params = neutral([(0, 0, 16, 16)], light=[(0.3, 0, 0)], brightness=[0.7])
    crop = to_hwc(apply_crops([white], params, size=16, **NEUTRAL))[0]
    np.testing.assert_allclose(crop, 0.7 * reference_light(white / 255, (0.3, 0, 0)), atol=1e-5)


@pytest.mark.parametrize("size", [8, 64])
def test_light_keeps_the_mean_of_an_even_crop(size: int) -> None:
    grey = np.full((size, size, 3), 100, np.uint8)
    for light in ((0.3, 0.3, 0.3), (-0.3, 0.2, -0.3)):
        crop = apply_crops([grey], neutral([(0, 0, size, size)], light=[light]), size=size, **NEUTRAL)
        assert crop.std() > 0.05
        # the middles of few pixels are nearer the middle of the crop than all its points are
        np.testing.assert_allclose(crop.mean().item(), 100 / 255, rtol=0.3 / size**2 + 1e-6)


@pytest.mark.parametrize("size", [1, 2, 8, 224])
def test_the_strongest_light_leaves_some_everywhere(size: int) -> None:
    corners = np.array(np.meshgrid(*[(-0.3, 0.3)] * 3)).reshape(3, -1).T
    factors = light_factors(corners, size)
    assert factors.min() > 0
    assert factors.max() < 2


def test_without_light_nothing_changes_beside_crops_that_have_some() -> None:
    images, params = many_crops(6)
    dark = params._replace(light=np.zeros((6, 3)))
    half = params._replace(light=np.where(np.arange(6)[:, None] < 3, params.light, 0))
    without, some = (apply_crops(images, crops, size=48, **NEUTRAL) for crops in (dark, half))
    assert torch.equal(some[3:], without[3:])
    assert not any(torch.equal(one, other) for one, other in zip(some[:3], without[:3], strict=True))


@pytest.mark.parametrize("degrees", [10.0, -25.0, 44.0])
def test_a_turned_crop_equals_pillow_s_within_the_circle_that_stays_inside(degrees: float) -> None:
    image = photo(12, 64, 64)
    expected = np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR)).astype(np.float32)
    crop = to_hwc(turned(torch.from_numpy(image.transpose(2, 0, 1)[None]).float(), np.array([degrees])))[0]
    inside = np.hypot(*(np.mgrid[:64, :64] - 31.5)) < 31
    np.testing.assert_allclose(crop[inside], expected[inside], atol=1.01)


def test_what_a_turn_brings_in_from_beyond_the_edges_is_mirrored() -> None:
    halves = np.zeros((32, 32, 3), np.uint8)
    halves[:16] = 200
    crop = to_hwc(turned(torch.from_numpy(halves.transpose(2, 0, 1)[None]).float(), np.array([15.0])))[0]
    np.testing.assert_allclose(crop[0], 200, atol=1e-3)
    np.testing.assert_allclose(crop[-1], 0, atol=1e-3)


def test_crops_that_are_not_turned_keep_their_bits_beside_one_that_is() -> None:
    images, params = many_crops(6)
    straight = params._replace(rotation=np.zeros(6))
    some = params._replace(rotation=np.where(np.arange(6) < 3, params.rotation, 0))
    without, mixed = (apply_crops(images, crops, size=48, **NEUTRAL) for crops in (straight, some))
    assert torch.equal(mixed[3:], without[3:])
    assert not any(torch.equal(one, other) for one, other in zip(mixed[:3], without[:3], strict=True))


def test_solarize_inverts_the_bright_half() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    crop = apply_crops([ramp], neutral([(0, 0, 16, 16)], solarize=[True]), size=16, **NEUTRAL)
    expected = np.where(ramp < 128, ramp, 255 - ramp)
    np.testing.assert_allclose(to_hwc(crop)[0] * 255, expected, atol=1e-3)


def test_values_stay_in_range_under_strong_changes() -> None:
    changes = {"brightness": [1.9], "contrast": [1.9], "saturation": [1.9], "hue": [0.4]}
    crop = apply_crops([photo(9)], neutral([(0, 0, 90, 130)], **changes), size=48, **NEUTRAL)
    assert crop.min() >= 0
    assert crop.max() <= 1


def many_crops(num_images: int) -> tuple[list[np.ndarray], CropParameters]:
    images = [photo(seed, 60 + seed, 100 - seed) for seed in range(num_images)]
    uniforms = np.stack([draw_uniforms(generator(1, "crops", image), 2) for image in range(num_images)])
    settings = AugmentationSettings(
        num_local_crops=0,
        image_size=112,
        gaussian_blur_prob=0.7,
        solarize_prob=0.5,
        light=0.3,
        rotation=10.0,
    )
    sizes = np.array([image.shape[:2] for image in images])
    return images, draw_crops(uniforms, sizes, settings).global_crops.at(1)


@pytest.mark.parametrize("size", [24, 96, 112])
def test_a_crop_is_the_same_bits_alone_and_in_a_batch(size: int) -> None:
    images, params = many_crops(13)
    settings = AugmentationSettings()
    with one_thread():
        together = apply_crops(images, params, size=size, mean=settings.mean, std=settings.std)
        for row in range(13):
            one = slice(row, row + 1)
            alone = apply_crops(images[one], params.at(one), size=size, mean=settings.mean, std=settings.std)
            assert torch.equal(alone[0], together[row])


def test_arrays_and_tensors_are_the_same_images_and_out_is_written() -> None:
    images, params = many_crops(5)
    arrays = apply_crops(images, params, size=48, **NEUTRAL)
    out = torch.full((5, 3, 48, 48), 7.0)
    returned = apply_crops([torch.from_numpy(image) for image in images], params, size=48, out=out, **NEUTRAL)
    assert returned.data_ptr() == out.data_ptr()
    assert torch.equal(out, arrays)


def test_one_thread_gives_the_threads_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_mild_crop_resembles_a_plain_resize() -> None:
    """No mixed-up axes or channels: a mild crop resembles a plain resize of its box."""
    image = photo(10, 100, 140)
    box = (10, 20, 80, 90)
    changes = {"brightness": [1.1], "contrast": [0.9], "saturation": [1.1], "hue": [0.02], "blur_sigma": [0.5]}
    crop = to_hwc(apply_crops([image], neutral([box], **changes), size=64, **NEUTRAL))[0]
    plain = np.asarray(Image.fromarray(image).crop((20, 10, 110, 90)).resize((64, 64))) / 255
    for channel in range(3):
        assert np.corrcoef(crop[:, :, channel].ravel(), plain[:, :, channel].ravel())[0, 1] > 0.9
