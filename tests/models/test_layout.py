"""A start whose CLS token knows what is where."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sltdino.core.settings_network import VitSettings
from sltdino.models.layout import CONTENT_STD, calibrate, orthogonal, position_codes
from sltdino.models.vit import VisionTransformer


def network(seed: int = 0, weight_init: str = "layout", **shape: int) -> VisionTransformer:
    shape = {"embed_dim": 64, "depth": 4, "num_heads": 4, "patch_size": 8} | shape
    rest = {"mlp_ratio": 4.0, "registers": 0, "layer_scale": 0.0, "layer_norm_eps": 1e-5, "weight_init": weight_init}
    torch.manual_seed(seed)
    return VisionTransformer(VitSettings.model_validate({**rest, **shape}), image_size=32).eval()


def pictures(number: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Four blots at places that say the label, a little off, each under a light of its own; `[B, 3, 32, 32]`."""
    generator = torch.Generator().manual_seed(seed)
    places_LB2 = torch.rand(6, 4, 2, generator=torch.Generator().manual_seed(9))
    labels_B = torch.arange(number) % 6
    centres = places_LB2[labels_B] + 0.03 * torch.randn(number, 4, 2, generator=generator)
    axis = torch.linspace(0, 1, 32)
    down, across = (-((axis - centres[..., i, None]) ** 2) / 0.015 for i in (0, 1))
    blots = (down[..., :, None] + across[..., None, :]).exp().sum(dim=1)
    light = 0.5 * torch.randn(number, 3, 1, 1, generator=generator)
    return 2 * blots[:, None] + light + 0.1 * torch.randn(number, 3, 32, 32, generator=generator), labels_B


def accuracy(backbone: VisionTransformer) -> float:
    """Of the nearest neighbour by cosine."""
    (train, train_labels), (val, val_labels) = pictures(120, seed=1), pictures(90, seed=2)
    if backbone.vit.weight_init == "layout":
        calibrate(backbone, train)
    with torch.no_grad():
        train_BD, val_BD = (F.normalize(backbone(images), dim=1) for images in (train, val))
    return (train_labels[(val_BD @ train_BD.T).argmax(dim=1)] == val_labels).float().mean().item()


def test_untrained_features_tell_pictures_apart_by_what_is_where() -> None:
    assert accuracy(network()) > 0.9
    assert accuracy(network(weight_init="xavier")) < 0.7


@pytest.mark.parametrize(
    "shape",
    [{"patch_size": 4, "num_heads": 16}, {"num_heads": 8}, {"embed_dim": 48, "depth": 3}, {"registers": 4},
     {"embed_dim": 65, "num_heads": 13, "depth": 1}],
    ids=str,
)  # fmt: skip
def test_other_shapes_do_so_too(shape: dict[str, int]) -> None:
    assert accuracy(network(**shape)) > 0.8


@pytest.mark.parametrize("width", [8, 9, 11, 16])
@torch.no_grad()
def test_a_narrow_network_starts_finite_and_tells_rows_and_columns_apart(width: int) -> None:
    backbone, (images, _) = network(embed_dim=width, num_heads=1), pictures(32, seed=3)
    calibrate(backbone, images)
    assert all(value.isfinite().all() for value in backbone.state_dict().values())
    attention_LHN = attention_of_cls(backbone, images)
    assert len(set(attention_LHN.argmax(dim=-1).flatten().tolist())) == 4


def test_position_codes_are_products_of_cosines() -> None:
    places = torch.rand(5, 2)
    codes = position_codes(places, 10).numpy()
    y, x = places.double().numpy().T
    by_frequency = sorted((i * i + j * j, i, j) for i in range(6) for j in range(6))[:10]
    root = [1.0] + [math.sqrt(2)] * 5
    expected = np.stack(
        [root[i] * root[j] * np.cos(np.pi * i * y) * np.cos(np.pi * j * x) for _, i, j in by_frequency], axis=1
    )
    expected *= math.sqrt(10) / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(codes, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_orthogonal_matrices_have_singular_values_of_one(shape: tuple[int, int]) -> None:
    np.testing.assert_allclose(np.linalg.svd(orthogonal(*shape).numpy(), compute_uv=False), 1.0, atol=1e-6)


def attention_of_cls(backbone: VisionTransformer, images: torch.Tensor) -> torch.Tensor:
    """Of every block's heads to the patches, by softmax written out: `[L, H, N]`, mean over images."""
    x, rows = backbone.embed(images), []
    for block in backbone.blocks:
        heads, width = backbone.vit.num_heads, backbone.embed_dim
        assert heads != "auto"
        qkv = block.attn.qkv(block.norm1(x)).view(len(images), -1, 3, heads, width // heads)  # type: ignore[operator,union-attr]
        scores = torch.einsum("bhd,blhd->bhl", qkv[:, 0, 0], qkv[:, :, 1]) / math.sqrt(width // heads)
        rows.append(scores.softmax(dim=-1).mean(dim=0)[:, 1:])
        x = block(x)
    return torch.stack(rows)


@torch.no_grad()
def test_every_head_of_the_cls_token_looks_at_a_place_of_its_own() -> None:
    backbone, (images, _) = network(), pictures(32, seed=3)
    calibrate(backbone, images)
    attention_LHN = attention_of_cls(backbone, images)
    assert attention_LHN.max(dim=-1).values.min() > 0.5
    assert sorted(attention_LHN.argmax(dim=-1).flatten().tolist()) == list(range(16))


@torch.no_grad()
def test_calibration_centres_patches_and_features_of_its_images() -> None:
    backbone, (images, _) = network(), pictures(100, seed=4)
    calibrate(backbone, 5 * images + 2)
    content_MC = backbone.patch_embed(5 * images + 2).flatten(0, 1)[:, :48]
    torch.testing.assert_close(content_MC.mean(dim=0), torch.zeros(48), atol=1e-5, rtol=0)
    assert content_MC.std().item() == pytest.approx(CONTENT_STD, rel=1e-3)
    torch.testing.assert_close(backbone(5 * images + 2).mean(dim=0), torch.zeros(64), atol=1e-5, rtol=0)


def test_the_seed_decides_and_the_result_is_repeatable() -> None:
    first, again, other = network().state_dict(), network().state_dict(), network(seed=1).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["blocks.0.attn.proj.weight"], other["blocks.0.attn.proj.weight"])


def test_images_without_any_detail_leave_finite_weights() -> None:
    backbone = network()
    calibrate(backbone, torch.ones(2, 3, 32, 32))
    assert all(value.isfinite().all() for value in backbone.state_dict().values())
