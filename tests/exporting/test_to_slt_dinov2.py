"""SLT's contract B (COMPAT.md 2.2), against DINOv2's ViT-S/14 written here from that page, in float64."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sltdino.errors import SettingsError
from sltdino.exporting.formats import write_backbone
from sltdino.exporting.to_slt_dinov2 import dinov2_state_dict, lift_positions

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SEED_MEAN, SEED_STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
SMALL14 = {"patch_size": 14, "embed_dim": 384, "depth": 12, "num_heads": 6}


def sampled(grid_1D37: Tensor, rows: int, columns: int) -> Tensor:
    """DINOv2's `interpolate_pos_encoding`, with `interpolate_offset` 0.1."""
    scale = ((rows + 0.1) / 37, (columns + 0.1) / 37)
    return F.interpolate(grid_1D37, scale_factor=scale, mode="bicubic", antialias=False)


@pytest.fixture
def in_dinov2(blocks_of: Any) -> Any:
    def in_dinov2(weights: dict[str, Tensor], pictures: Tensor) -> tuple[Tensor, Tensor]:
        p = {key: value.double() for key, value in weights.items()}
        mean, std = (torch.tensor(v).double().view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        x = F.conv2d((pictures - mean) / std, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=14)
        rows, columns = x.shape[-2:]
        positions = p["pos_embed"][:, 1:].mT.unflatten(2, (37, 37))
        if (rows, columns) != (37, 37):
            positions = sampled(positions, rows, columns)
        x = x.flatten(2).mT + positions.flatten(2).mT
        x = torch.cat([(p["cls_token"] + p["pos_embed"][:, :1]).expand(len(x), -1, -1), x], dim=1)
        x = blocks_of(x, p, depth=12, heads=6, eps=1e-6)
        return x[:, 0], x[:, 1:]

    return in_dinov2


def test_every_grid_is_sampled_back_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    for grid in range(1, 37):
        positions = torch.randn(1, 1 + grid**2, 3, generator=generator)
        lifted = lift_positions(positions, grid)
        assert (lifted.shape, lifted.dtype) == ((1, 1370, 3), torch.float32)
        back = sampled(lifted[:, 1:].mT.unflatten(2, (37, 37)).double(), grid, grid).flatten(2).mT
        assert (back - positions[:, 1:]).abs().max() < 1e-5, grid
        assert torch.equal(lifted[:, 0], positions[:, 0])


def test_a_grid_of_37_is_copied() -> None:
    positions = torch.randn(1, 1370, 2)
    assert torch.equal(lift_positions(positions, 37), positions)


def test_a_smooth_grid_stays_smooth_where_the_bare_pseudo_inverse_does_not() -> None:
    """0.015 off a smooth grid at 18 x 18, where the pseudo-inverse is off by 0.94 (COMPAT.md)."""

    def smooth(n: int) -> Tensor:
        at = (torch.arange(n).double() + 0.5) / n
        return torch.sin(3 * at)[:, None] * torch.cos(2 * at)[None]

    lifted = lift_positions(torch.cat([torch.zeros(1, 1, 1), smooth(16).reshape(1, -1, 1)], 1), 16)
    away = sampled(lifted[:, 1:].mT.unflatten(2, (37, 37)).double(), 18, 18)[0, 0]
    assert (away - smooth(18)).abs().max() < 0.03


@pytest.fixture(scope="module")
def exported(make_backbone: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A ViT-S/14 of 98 px, trained under another normalisation."""
    backbone = make_backbone(
        image_size=98, moved=0.02, vit=SMALL14,
        augmentation={"mean": SEED_MEAN, "std": SEED_STD},
    )  # fmt: skip
    path = tmp_path_factory.mktemp("dinov2") / "b.pt"
    report = write_backbone(backbone, format="slt-dinov2", out=path)
    return backbone, report, torch.load(path, weights_only=True)


def test_dinov2_computes_our_features(exported: Any, ours: Any, in_dinov2: Any, relative: Any) -> None:
    backbone, report, content = exported
    pictures, features = ours(backbone, 98, eps=1e-6)
    assert relative(in_dinov2(content["model"], pictures), features) < 1e-5
    assert report.max_relative_error < 1e-5


def test_layer_scale_is_written_where_it_was_trained(make_backbone: Any) -> None:
    backbone = make_backbone(image_size=14, vit={**SMALL14, "layer_scale": 0.1})
    model, trained = dinov2_state_dict(backbone), backbone.network.state_dict()
    assert all(torch.equal(model[key], value) for key, value in trained.items() if key.endswith("gamma"))
    assert len(model) == 175


def test_its_difference_at_other_sizes_is_reported(exported: Any, ours: Any, in_dinov2: Any, relative: Any) -> None:
    backbone, report, content = exported
    assert list(report.other_sizes) == ["42x42", "154x154", "98x154"]
    pictures, features = ours(backbone, 98, 154, eps=1e-6)
    found = relative(in_dinov2(content["model"], pictures), features)
    assert 0.2 * found < report.other_sizes["98x154"] < 5 * found


def test_it_has_dinov2s_175_keys_and_shapes(exported: Any, block_shapes: Any) -> None:
    table = {
        "norm1": (384,), "attn.qkv": (1152, 384), "attn.proj": (384, 384), "ls1.gamma": (384,),
        "norm2": (384,), "mlp.fc1": (1536, 384), "mlp.fc2": (384, 1536), "ls2.gamma": (384,),
    }  # fmt: skip
    shapes = {
        "cls_token": (1, 1, 384), "pos_embed": (1, 1370, 384), "mask_token": (1, 384), "norm.weight": (384,),
        "patch_embed.proj.weight": (384, 3, 14, 14), "patch_embed.proj.bias": (384,), "norm.bias": (384,),
        **block_shapes(12, table, "blocks."),
    }  # fmt: skip
    assert len(shapes) == 175
    model = exported[2]["model"]
    assert {key: tuple(value.shape) for key, value in model.items()} == shapes
    assert all(value.dtype == torch.float32 and value.is_contiguous() for value in model.values())
    assert all((value == 1).all() for key, value in model.items() if key.endswith("gamma"))


def test_the_metadata_and_its_sidecar_are_those_of_slts_other_format(exported: Any) -> None:
    _, report, content = exported
    assert content.keys() == {"model", "metadata"}
    assert content["metadata"]["backbone"]["image_size"] == 98
    sidecar = json.loads(report.path.with_suffix(".json").read_text())
    assert sidecar.items() >= content["metadata"].items()
    assert sidecar["input"]["mean"] == list(IMAGENET_MEAN)
    assert f"file::{report.path}:dinov2_vits14" in report.load


def test_another_shape_is_refused_with_everything_that_differs(make_backbone: Any, tmp_path: Path) -> None:
    vit = {"patch_size": 7, "embed_dim": 16, "depth": 3, "num_heads": 4, "mlp_ratio": 2.5, "registers": 1}
    with pytest.raises(SettingsError) as caught:
        write_backbone(make_backbone(image_size=14, vit=vit), format="slt-dinov2", out=tmp_path / "b.pt")
    assert str(caught.value) == (
        "--format slt-dinov2: builds DINOv2's ViT-S/14, and this backbone has --patch-size 7, not 14, "
        "--vit-embed-dim 16, not 384, --vit-depth 3, not 12, --vit-num-heads 4, not 6, --vit-mlp-ratio 2.5, not 4, "
        "--vit-registers 1, not 0; "
        "export it with --format slt, or train one of that shape"
    )
    assert list(tmp_path.iterdir()) == []


def test_more_positions_than_dinov2_holds_are_refused(make_backbone: Any, tmp_path: Path) -> None:
    backbone = make_backbone(image_size=532, moved=False, vit=SMALL14)
    with pytest.raises(SettingsError, match="has 38 a side; give --image-size 518 or less"):
        write_backbone(backbone, format="slt-dinov2", out=tmp_path / "b.pt")
