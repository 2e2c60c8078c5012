"""Hugging Face's transformers, the real one: what it loads from the folder, and what that computes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from sltdino.errors import CheckpointError, SettingsError
from sltdino.exporting import to_hf
from sltdino.exporting.formats import write_backbone

SEED_MEAN, SEED_STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
VARIANTS: list[dict[str, Any]] = [{}, {"registers": 3}, {"layer_scale": 0.1}, {"registers": 1, "layer_scale": 0.2}]


@pytest.fixture(scope="module")
def transformers() -> Iterator[Any]:
    """Silent, as a warning would be an error."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    yield transformers
    transformers.utils.logging.enable_progress_bar()


@pytest.mark.parametrize("vit", VARIANTS)
def test_the_model_computes_our_features_with_no_key_missing_or_left_over(
    transformers: Any, make_backbone: Any, ours: Any, relative: Any, tmp_path: Path, vit: dict[str, Any]
) -> None:
    backbone = make_backbone(vit=vit, augmentation={"mean": SEED_MEAN, "std": SEED_STD})
    report = write_backbone(backbone, format="hf", out=tmp_path / "b")
    model, info = transformers.AutoModel.from_pretrained(tmp_path / "b", output_loading_info=True)
    assert not any(info.values())
    registers = vit.get("registers", 0)
    assert type(model).__name__ == ("Dinov2WithRegistersModel" if registers else "Dinov2Model")
    pictures, features = ours(backbone, 16)
    mean, std = (torch.tensor(v).double().view(3, 1, 1) for v in (SEED_MEAN, SEED_STD))
    with torch.no_grad():
        found = model.double()(pixel_values=(pictures - mean) / std)
    tokens = found.last_hidden_state
    assert relative((tokens[:, 0], tokens[:, 1 + registers :]), features) < 1e-6
    assert torch.equal(found.pooler_output, tokens[:, 0])  # no layer that was never trained
    assert report.max_relative_error < 1e-5
    assert report.verified_in == f"transformers {transformers.__version__}"


def test_any_epsilon_is_the_models_own(make_backbone: Any, tmp_path: Path) -> None:
    report = write_backbone(make_backbone(vit={"layer_norm_eps": 1e-2}), format="hf", out=tmp_path / "b")
    assert (report.layer_norm_eps, report.layer_norm_eps_effect) == (1e-2, 0)
    assert report.max_relative_error < 1e-5


def test_the_difference_at_other_sizes_is_reported(make_backbone: Any, tmp_path: Path) -> None:
    """DINOv2 with registers resamples positions with antialias, the plain one as we do."""
    plain = write_backbone(make_backbone(image_size=32), format="hf", out=tmp_path / "a").other_sizes
    with_registers = make_backbone(image_size=32, vit={"registers": 2})
    registers = write_backbone(with_registers, format="hf", out=tmp_path / "b").other_sizes
    assert list(plain) == list(registers) == ["16x16", "48x48", "32x48"]
    assert max(plain.values()) < 1e-5
    assert min(registers.values()) > 1e-3


@pytest.mark.parametrize("size", [(16, 16), (40, 24), (9, 50)])
def test_the_image_processor_prepares_a_picture_as_our_evaluation_does(
    transformers: Any, make_backbone: Any, tmp_path: Path, size: tuple[int, int]
) -> None:
    backbone = make_backbone(augmentation={"mean": SEED_MEAN, "std": SEED_STD})
    write_backbone(backbone, format="hf", out=tmp_path / "b")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "b")
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    [made] = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    resized = F.interpolate(torch.from_numpy(pixels).permute(2, 0, 1)[None], (16, 16), mode="bicubic", antialias=True)
    mean, std = torch.tensor(SEED_MEAN).view(3, 1, 1), torch.tensor(SEED_STD).view(3, 1, 1)
    assert (made - (resized[0] / 255 - mean) / std).abs().max() * std.max() < 2.01 / 255 * std.max() / std.min()


def test_the_lines_to_load_it_load_it(
    transformers: Any, make_backbone: Any, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = make_backbone(vit={"registers": 2})
    report = write_backbone(backbone, format="hf", out=tmp_path / "it's a b")
    monkeypatch.chdir(photo.parent)
    names: dict[str, Any] = {}
    exec(report.load, names)
    assert names["tokens"].shape == (1, 1 + 2 + 4, 16)
    assert "# CLS, 2 registers, patches" in report.load


def hub_shapes(block_shapes: Any, registers: int) -> dict[str, tuple[int, ...]]:
    """What the files of facebook/dinov2-small and facebook/dinov2-with-registers-small hold."""
    table = {
        "norm1": (384,), "norm2": (384,), "mlp.fc1": (1536, 384), "mlp.fc2": (384, 1536),
        "layer_scale1.lambda1": (384,), "layer_scale2.lambda1": (384,), "attention.output.dense": (384, 384),
        **{f"attention.attention.{name}": (384, 384) for name in ("query", "key", "value")},
    }  # fmt: skip
    return {
        "embeddings.cls_token": (1, 1, 384),
        "embeddings.mask_token": (1, 384),
        "embeddings.position_embeddings": (1, 26, 384),
        "embeddings.patch_embeddings.projection.weight": (384, 3, 14, 14),
        "embeddings.patch_embeddings.projection.bias": (384,),
        "layernorm.weight": (384,),
        "layernorm.bias": (384,),
        **block_shapes(12, table, "encoder.layer."),
        **({"embeddings.register_tokens": (1, registers, 384)} if registers else {}),
    }


@pytest.mark.parametrize("registers", [0, 4])
def test_the_file_has_the_names_of_the_hub(make_backbone: Any, block_shapes: Any, registers: int) -> None:
    vit = {"patch_size": 14, "embed_dim": 384, "depth": 12, "num_heads": 6, "registers": registers}
    shapes = hub_shapes(block_shapes, registers)
    assert len(shapes) == 223 + bool(registers)
    weights = to_hf.hf_state_dict(make_backbone(image_size=70, moved=False, vit=vit))
    assert {key: tuple(value.shape) for key, value in weights.items()} == shapes


def test_the_folder_holds_what_the_hub_wants_and_our_metadata(make_backbone: Any, tmp_path: Path) -> None:
    report = write_backbone(make_backbone(), format="hf", out=tmp_path / "b")
    assert report.num_tensors == len(load_file(tmp_path / "b" / "model.safetensors"))
    assert {path.name for path in (tmp_path / "b").iterdir()} == {
        "config.json", "model.safetensors", "preprocessor_config.json", "sltdino.json",
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    sidecar = json.loads((tmp_path / "b" / "sltdino.json").read_text())
    assert sidecar["sha256"] == report.sha256
    assert sidecar["verification"]["versions"].keys() >= {"transformers", "safetensors", "torch", "sltdino"}


def test_nothing_of_transformers_reaches_the_terminal(
    make_backbone: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import transformers

    transformers.utils.logging.set_verbosity_info()
    transformers.utils.logging.enable_progress_bar()
    write_backbone(make_backbone(), format="hf", out=tmp_path / "b")
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.get_verbosity() == transformers.logging.INFO
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_a_ratio_that_transformers_cannot_hold_is_refused(make_backbone: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"whole number for mlp_ratio, and this backbone has 2\.5"):
        write_backbone(make_backbone(vit={"mlp_ratio": 2.5}), format="hf", out=tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("function", "change", "reason"),
    [
        ("hf_state_dict", lambda d: {k: v for k, v in d.items() if k != "layernorm.bias"}, "missing_keys layernorm.b"),
        ("hf_state_dict", lambda d: {**d, "pooler.weight": torch.ones(2)}, "unexpected_keys pooler.weight"),
        ("hf_state_dict", lambda d: {**d, "layernorm.bias": torch.ones(3)}, r"mismatched_keys .*layernorm\.bias"),
        ("hf_state_dict", lambda d: {**d, "layernorm.bias": torch.ones(16)}, "features differ"),
        ("hf_config", lambda d: {**d, "layer_norm_eps": 0.1}, "features differ"),
        ("hf_preprocessor", lambda d: {**d, "image_mean": [0.0, 0.0, 0.0]}, "image processor normalises differently"),
        ("hf_preprocessor", lambda d: {**d, "do_resize": False}, "image processor makes images of"),
    ],
)
def test_a_folder_that_is_not_right_never_appears(
    make_backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, change: Any, reason: str
) -> None:
    right = getattr(to_hf, function)
    monkeypatch.setattr(to_hf, function, lambda backbone: change(right(backbone)))
    with pytest.raises(CheckpointError, match=reason) as caught:
        write_backbone(make_backbone(), format="hf", out=tmp_path / "b")
    assert caught.value.code == "E-EXPORT"
    assert list(tmp_path.iterdir()) == []
