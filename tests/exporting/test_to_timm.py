"""timm's VisionTransformer, against its forward as timm's documentation has it, in float64 and from the keys alone."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from sltdino.errors import SettingsError
from sltdino.exporting import to_timm
from sltdino.exporting.backbone import load_trained_backbone
from sltdino.exporting.formats import write_backbone
from sltdino.exporting.timm_network import TimmNetwork

SEED_MEAN, SEED_STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)


@pytest.fixture
def in_timm(blocks_of: Any) -> Any:
    """What timm computes: with `no_embed_class` positions are the patches' alone, else prefix tokens have some."""

    def in_timm(
        weights: dict[str, Tensor], arguments: dict[str, Any], images: Tensor, *, eps: float = 1e-6
    ) -> tuple[Tensor, Tensor]:
        p = {key: value.double() for key, value in weights.items()}
        assert arguments["num_classes"] == 0
        patch, heads, depth = (arguments[key] for key in ("patch_size", "num_heads", "depth"))
        x = F.conv2d(images, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=patch)
        rows, columns = x.shape[-2:]
        x = x.flatten(2).mT
        prefix = torch.cat([p["cls_token"], *([p["reg_token"]] if "reg_token" in p else [])], dim=1)
        count = prefix.shape[1]
        assert count == 1 + arguments.get("reg_tokens", 0)
        own = 0 if arguments.get("no_embed_class") else count
        grid = arguments["img_size"] // patch
        assert p["pos_embed"].shape[1] == own + grid**2
        positions = p["pos_embed"][:, own:]
        if (rows, columns) != (grid, grid):
            positions = positions.mT.unflatten(2, (grid, grid))
            positions = F.interpolate(positions, size=(rows, columns), mode="bicubic", antialias=True).flatten(2).mT
        x = torch.cat([(prefix + p["pos_embed"][:, :own] if own else prefix).expand(len(x), -1, -1), x + positions], 1)
        x = blocks_of(x, p, depth=depth, heads=heads, eps=eps)
        return x[:, 0], x[:, count:]

    return in_timm


def normalised(pictures: Tensor, arguments: dict[str, Any]) -> Tensor:
    given = arguments["pretrained_cfg_overlay"]
    mean, std = (torch.tensor(given[key]).double().view(3, 1, 1) for key in ("mean", "std"))
    return (pictures - mean) / std


def written(backbone: Any, path: Path) -> tuple[Any, dict[str, Tensor], dict[str, Any]]:
    report = write_backbone(backbone, format="timm", out=path)
    weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    return report, weights, json.loads(Path(f"{path}.json").read_text())["timm"]["create_model"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize(
    "vit", [{}, {"registers": 3}, {"layer_scale": 0.1}, {"registers": 1, "layer_scale": 0.2, "mlp_ratio": 2.5}]
)
def test_timm_computes_our_features(
    make_backbone: Any, ours: Any, in_timm: Any, relative: Any, tmp_path: Path, vit: dict[str, Any], suffix: str
) -> None:
    backbone = make_backbone(vit=vit, augmentation={"mean": SEED_MEAN, "std": SEED_STD})
    report, weights, arguments = written(backbone, tmp_path / f"b{suffix}")
    pictures, features = ours(backbone, 16, eps=1e-6)
    assert relative(in_timm(weights, arguments, normalised(pictures, arguments)), features) < 1e-6
    assert report.max_relative_error < 1e-5
    assert ("reg_token" in weights, "init_values" in arguments) == ("registers" in vit, "layer_scale" in vit)


@pytest.mark.parametrize("vit", [{}, {"registers": 2}])
def test_its_difference_at_other_sizes_is_the_one_reported(
    make_backbone: Any, ours: Any, in_timm: Any, relative: Any, tmp_path: Path, vit: dict[str, Any]
) -> None:
    backbone = make_backbone(image_size=32, vit=vit)
    report, weights, arguments = written(backbone, tmp_path / "b.safetensors")
    assert list(report.other_sizes) == ["16x16", "48x48", "32x48"]
    for (height, width), said in zip(((16, 16), (48, 48), (32, 48)), report.other_sizes.values(), strict=True):
        pictures, features = ours(backbone, height, width, eps=1e-6)
        found = relative(in_timm(weights, arguments, normalised(pictures, arguments)), features)
        assert found > 1e-3  # timm resamples with antialias
        assert 0.2 * found < said < 5 * found  # the report's are other pictures


def test_the_difference_of_epsilon_is_reported_and_the_lines_to_load_it_undo_it(
    make_backbone: Any, ours: Any, in_timm: Any, relative: Any, tmp_path: Path
) -> None:
    same = write_backbone(make_backbone(vit={"layer_norm_eps": 1e-6}), format="timm", out=tmp_path / "a.pt")
    assert (same.layer_norm_eps, same.layer_norm_eps_effect, same.notes) == (1e-6, 0, ())
    assert "norm_layer" not in same.load
    backbone = make_backbone(vit={"layer_norm_eps": 1e-2})
    other, weights, arguments = written(backbone, tmp_path / "b.pt")
    assert other.layer_norm_eps_effect > 1e-3
    assert "norm_layer'] = functools.partial(torch.nn.LayerNorm, eps=0.01)" in other.load
    pictures, features = ours(backbone, 16)
    assert relative(in_timm(weights, arguments, normalised(pictures, arguments), eps=1e-2), features) < 1e-6


def test_the_lines_to_load_it_are_python_about_these_files(make_backbone: Any, tmp_path: Path) -> None:
    for name in ("a.pt", "b.safetensors"):
        path = tmp_path / name
        report = write_backbone(make_backbone(), format="timm", out=path)
        compile(report.load, name, "exec")
        assert repr(str(path)) in report.load
        assert repr(f"{path}.json") in report.load


def test_the_lines_to_load_it_give_the_features_of_a_picture(
    make_backbone: Any, photo: Path, features_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With our own forward of timm's network under timm's name, since timm is never installed here."""

    class Network(TimmNetwork):
        def forward(self, images: Tensor) -> Tensor:
            return self.forward_features(images).cls_BD

    timm = SimpleNamespace(create_model=lambda **arguments: Network(arguments))
    monkeypatch.setitem(sys.modules, "timm", timm)  # type: ignore[arg-type]
    monkeypatch.chdir(photo.parent)
    backbone = make_backbone(vit={"layer_norm_eps": 1e-6})
    wanted = features_of(backbone, photo)
    for name in ("a.pt", "b.safetensors"):
        names: dict[str, Any] = {}
        exec(write_backbone(backbone, format="timm", out=tmp_path / name).load, names)
        assert (names["cls"] - wanted).abs().max() < 0.02 * wanted.abs().max()


def test_vit_small_has_timms_150_keys_and_shapes(make_backbone: Any, block_shapes: Any) -> None:
    vit = {"patch_size": 16, "embed_dim": 384, "depth": 12, "num_heads": 6}
    backbone = make_backbone(image_size=224, moved=False, vit=vit)
    weights = to_timm.timm_state_dict(backbone)
    table = {
        "norm1": (384,), "attn.qkv": (1152, 384), "attn.proj": (384, 384),
        "norm2": (384,), "mlp.fc1": (1536, 384), "mlp.fc2": (384, 1536),
    }  # fmt: skip
    shapes = {
        "cls_token": (1, 1, 384), "pos_embed": (1, 197, 384), "norm.weight": (384,), "norm.bias": (384,),
        "patch_embed.proj.weight": (384, 3, 16, 16), "patch_embed.proj.bias": (384,),
        **block_shapes(12, table, "blocks."),
    }  # fmt: skip
    assert len(shapes) == 150
    assert {key: tuple(value.shape) for key, value in weights.items()} == shapes


@pytest.mark.parametrize(
    ("shape", "patch_size", "mlp_ratio", "name"),
    [
        ((384, 12, 6), 16, 4.0, "vit_small_patch16_224"),
        ((192, 12, 3), 16, 4.0, "vit_tiny_patch16_224"),
        ((768, 12, 12), 32, 4.0, "vit_base_patch32_224"),
        ((384, 12, 6), 8, 4.0, "vit_small_patch8_224"),
        ((192, 12, 3), 8, 4.0, "vit_base_patch16_224"),
        ((384, 12, 6), 14, 4.0, "vit_base_patch16_224"),
        ((384, 12, 6), 16, 3.0, "vit_base_patch16_224"),
        ((384, 12, 12), 16, 4.0, "vit_base_patch16_224"),
    ],
)
def test_an_architecture_is_named_only_where_timm_has_it(
    shape: tuple[int, int, int], patch_size: int, mlp_ratio: float, name: str
) -> None:
    assert to_timm._architecture(shape, patch_size, mlp_ratio) == name


def test_whatever_the_name_every_argument_is_spelt_out(make_backbone: Any) -> None:
    vit = {"embed_dim": 32, "depth": 3, "num_heads": 4, "patch_size": 4, "mlp_ratio": 2.5}
    arguments = to_timm.create_model_arguments(
        make_backbone(
            vit={**vit, "registers": 2, "layer_scale": 0.1}, augmentation={"mean": SEED_MEAN, "std": SEED_STD}
        )
    )
    assert arguments == {
        "model_name": "vit_base_patch16_224", "img_size": 16, **vit, "num_classes": 0, "dynamic_img_size": True,
        "init_values": 0.1, "reg_tokens": 2, "no_embed_class": True,
        "pretrained_cfg_overlay": {
            "mean": list(SEED_MEAN), "std": list(SEED_STD), "input_size": [3, 16, 16], "interpolation": "bicubic",
            "crop_pct": 1.0, "crop_mode": "squash",
        },
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
@pytest.mark.parametrize("registers", [0, 2])
def test_read_again_it_computes_the_same_which_its_sidecar_alone_can_tell(
    make_backbone: Any, tmp_path: Path, name: str, registers: int
) -> None:
    crops = {"mean": SEED_MEAN, "std": SEED_STD}
    backbone = make_backbone(vit={"registers": registers, "layer_norm_eps": 1e-2}, augmentation=crops)
    write_backbone(backbone, format="timm", out=tmp_path / name)
    again = load_trained_backbone(tmp_path / name)
    assert (again.mean, again.std, again.metadata["stream"]) == (SEED_MEAN, SEED_STD, "hand")
    images = torch.randn(2, 3, 16, 16)
    for ours, theirs in zip(
        backbone.network.forward_features(images), again.network.forward_features(images), strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_sidecar_of_other_weights_is_not_believed(make_backbone: Any, tmp_path: Path) -> None:
    write_backbone(make_backbone(), format="timm", out=tmp_path / "a.pt")
    write_backbone(make_backbone(moved=0.1), format="timm", out=tmp_path / "b.pt")
    (tmp_path / "b.pt").replace(tmp_path / "a.pt")
    assert "stream" not in load_trained_backbone(tmp_path / "a.pt").metadata


def test_another_suffix_is_refused(make_backbone: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"for timm ends in \.safetensors or \.pt or \.pth"):
        write_backbone(make_backbone(), format="timm", out=tmp_path / "b.bin")
