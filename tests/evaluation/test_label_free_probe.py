"""The probe without labels: which images and views it looks at, and that it changes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sltdino.core.settings import AugmentationSettings
from sltdino.core.settings_network import VitSettings
from sltdino.data.image_folder import scan
from sltdino.errors import DataError, DivergedError
from sltdino.evaluation import label_free_probe
from sltdino.evaluation.features import Pixels
from sltdino.evaluation.label_free_probe import LabelFreeProbe
from sltdino.models.vit import VisionTransformer

CROPS = AugmentationSettings(image_size=16, local_crop_size=8, light=0.0, rotation=0.0, solarize_prob="dino")
PIXELS = Pixels(16, CROPS.mean, CROPS.std)


@pytest.fixture(scope="module")
def network() -> VisionTransformer:
    torch.manual_seed(0)
    vit = VitSettings(
        patch_size=8, embed_dim=16, depth=1, num_heads=2, mlp_ratio=4.0, registers=0, layer_scale=0.0,
        layer_norm_eps=1e-5, drop_path=0.5,
    )  # fmt: skip
    return VisionTransformer(vit, image_size=16)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of four frames, each of a colour of its own."""
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for clip in range(3):
        colour = rng.integers(0, 200, 3)
        for frame in range(4):
            pixels = (colour + rng.integers(0, 56, (20, 28, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"video{clip}_f{20 * frame:03d}.png")
    return folder


@pytest.fixture
def make(clips: Path) -> Callable[..., LabelFreeProbe]:
    def make(
        folder: Path = clips, use: Any = "training", on_bad: Any = lambda *_: None, width: int = 16
    ) -> LabelFreeProbe:
        return LabelFreeProbe(scan([folder]), CROPS, width=width, use=use, on_bad=on_bad)

    return make


def test_it_measures_the_cls_features_of_whole_images(make: Any, network: VisionTransformer) -> None:
    probe = make()
    with torch.no_grad():
        rows = network.eval()(torch.stack([PIXELS.load(path) for path in probe.paths])).double().numpy()
    found = probe.measure(network, "cpu")
    shares = np.linalg.svd(rows, compute_uv=False)
    shares = shares / shares.sum() + 1e-7
    assert found["rankme"] == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-4)
    assert found["rankme_max"] == 12  # images, of 16 directions
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert found["feature_std"] == pytest.approx(np.sqrt(16 * rows.var(axis=0).mean()), rel=1e-4)
    assert list(found) == ["rankme", "rankme_max", "feature_std", "alignment", "uniformity", "clip_retrieval"]
    assert probe.num_inputs == 12 + 2 * 12 + 12
    assert probe.sample == "12 training images, 12 of them in two views, 12 frames of 3 clips"


def test_the_views_are_two_different_global_crops_and_the_same_every_time(make: Any, network: Any) -> None:
    seen: list[torch.Tensor] = []

    def keep(module: Any, inputs: tuple[torch.Tensor]) -> None:
        seen.append(inputs[0])

    hook = network.register_forward_pre_hook(keep)
    make().measure(network, "cpu")
    torch.manual_seed(5)
    make().measure(network, "cpu")
    hook.remove()
    first, again = torch.cat(seen[: len(seen) // 2]), torch.cat(seen[len(seen) // 2 :])
    assert torch.equal(first, again)
    whole, one, other = first[0:36:3], first[1:36:3], first[2:36:3]
    for a, b in ((whole, one), (whole, other), (one, other)):
        assert not (a == b).flatten(1).all(dim=1).any()


def test_a_network_that_answers_the_same_to_all_is_aligned_and_uses_one_direction(make: Any) -> None:
    class Constant(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(images), 8)

    found = make().measure(Constant(), "cpu")
    assert found["rankme"] == pytest.approx(1, abs=1e-4)
    assert (found["feature_std"], found["alignment"], found["uniformity"]) == pytest.approx((0, 0, 0), abs=1e-9)


@pytest.mark.parametrize("size", [3, 7])
def test_the_size_of_its_batches_changes_nothing(
    size: int, make: Any, network: VisionTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = make().measure(network, "cpu")
    monkeypatch.setattr(label_free_probe, "_BATCH", size)
    assert make().measure(network, "cpu") == pytest.approx(before, rel=1e-4)


def test_frames_of_clips_of_one_colour_find_their_clip_by_their_pixels(make: Any, pictures: Path) -> None:
    assert make().pixel_retrieval() == 1
    assert make(pictures).pixel_retrieval() is None


def test_a_large_set_is_sampled_and_few_of_it_in_views(
    make: Any, network: VisionTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_free_probe, "MIN_IMAGES", 6)
    monkeypatch.setattr(label_free_probe, "IMAGES_A_DIRECTION", 0)
    monkeypatch.setattr(label_free_probe, "MAX_PAIRS", 2)
    one, other = make(), make()
    assert one.paths == other.paths
    assert len(set(one.paths)) == 6
    assert one.sample.startswith("6 training images, 2 of them in two views")
    assert one.measure(network, "cpu")["alignment"] > 0


def test_wide_features_take_more_images_up_to_a_limit(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_free_probe, "MIN_IMAGES", 3)
    monkeypatch.setattr(label_free_probe, "MAX_IMAGES", 11)
    assert [len(make(width=width).paths) for width in (0, 1, 2, 3)] == [3, 4, 8, 11]


def test_an_unreadable_image_is_left_out_and_reported(make: Any, network: Any, own_pictures: Path) -> None:
    bad: list[Path] = []
    probe = make(own_pictures, on_bad=lambda path, reason: bad.append(path) if reason else None)
    (own_pictures / "3.png").write_bytes(b"broken")
    assert probe.measure(network, "cpu")["rankme"] > 1
    assert bad == [own_pictures / "3.png"]


def test_where_nothing_can_be_read_validation_is_an_error_and_training_is_left_to_the_loader(
    make: Any, network: Any, own_pictures: Path
) -> None:
    training, validation = make(own_pictures), make(own_pictures, "validation")
    for path in training.paths:
        path.write_bytes(b"broken")
    assert training.measure(network, "cpu") == {}
    with pytest.raises(DataError, match="0 of 24 validation images can be read"):
        validation.measure(network, "cpu")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_a_diverged_network(make: Any, value: float) -> None:
    class Broken(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.full((len(images), 8), value)

    with pytest.raises(DivergedError, match="features of training images are not finite, such as"):
        make().measure(Broken(), "cpu")


@pytest.mark.parametrize("training", [True, False])
def test_it_leaves_the_mode_and_the_random_state(make: Any, network: VisionTransformer, training: bool) -> None:
    network.train(training)
    torch.manual_seed(3)
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    probe = make()
    one = probe.measure(network, "cpu")
    assert probe.measure(network, "cpu") == one  # no drop path
    assert network.training is training
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == before_numpy).all()  # type: ignore[index]
