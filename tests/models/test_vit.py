"""The ViT against torch's own transformer layers, and what self-distillation asks of it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sltdino.core.settings_network import VitSettings
from sltdino.models.vit import DropPath, VisionTransformer, sincos_positions

SMALL = VitSettings(
    patch_size=8, embed_dim=32, depth=3, num_heads=4, mlp_ratio=2.0, registers=0, layer_scale=0.0, layer_norm_eps=1e-5
)


def network(image_size: int = 32, **changes: object) -> VisionTransformer:
    torch.manual_seed(0)
    vit = VisionTransformer(SMALL.model_copy(update=changes), image_size=image_size)
    with torch.no_grad():  # tokens and biases start at zero, where mistakes would hide
        for parameter in vit.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return vit.eval()


def torch_forward(vit: VisionTransformer, images: Tensor) -> Tensor:
    """The same weights in `nn.TransformerEncoderLayer` behind an ordinary convolution."""
    w = vit.state_dict()
    width = vit.embed_dim
    patches = F.conv2d(images, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=vit.vit.patch_size)
    x = torch.cat([w["cls_token"].expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
    x = x + w["pos_embed"]
    for i in range(len(vit.blocks)):
        layer = nn.TransformerEncoderLayer(
            width, 4, int(width * 2), dropout=0.0, activation="gelu", norm_first=True, batch_first=True
        ).eval()
        names = {
            "self_attn.in_proj_weight": "attn.qkv.weight", "self_attn.in_proj_bias": "attn.qkv.bias",
            "self_attn.out_proj.weight": "attn.proj.weight", "self_attn.out_proj.bias": "attn.proj.bias",
            "linear1.weight": "mlp.fc1.weight", "linear1.bias": "mlp.fc1.bias",
            "linear2.weight": "mlp.fc2.weight", "linear2.bias": "mlp.fc2.bias",
            "norm1.weight": "norm1.weight", "norm1.bias": "norm1.bias",
            "norm2.weight": "norm2.weight", "norm2.bias": "norm2.bias",
        }  # fmt: skip
        layer.load_state_dict({theirs: w[f"blocks.{i}.{ours}"] for theirs, ours in names.items()})
        x = layer(x)
    return F.layer_norm(x, (width,), w["norm.weight"], w["norm.bias"], eps=1e-5)


def test_equals_torchs_transformer_layers_with_the_same_weights() -> None:
    vit, images = network(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features, expected = vit.forward_features(images), torch_forward(vit, images)
    torch.testing.assert_close(features.cls_BD, expected[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features.patches_BND, expected[:, 1:], rtol=1e-5, atol=1e-5)


def test_state_dict_has_the_names_and_shapes_of_timms_vit_small() -> None:
    size = {"patch_size": 16, "embed_dim": 384, "depth": 12, "num_heads": 6, "mlp_ratio": 4.0}
    vit = VisionTransformer(SMALL.model_copy(update=size), image_size=224)
    shapes = {key: tuple(value.shape) for key, value in vit.state_dict().items()}
    block = {
        "norm1.weight": (384,), "norm1.bias": (384,), "attn.qkv.weight": (1152, 384), "attn.qkv.bias": (1152,),
        "attn.proj.weight": (384, 384), "attn.proj.bias": (384,), "norm2.weight": (384,), "norm2.bias": (384,),
        "mlp.fc1.weight": (1536, 384), "mlp.fc1.bias": (1536,), "mlp.fc2.weight": (384, 1536), "mlp.fc2.bias": (384,),
    }  # fmt: skip
    expected = {
        "cls_token": (1, 1, 384), "pos_embed": (1, 197, 384), "mask_token": (1, 384),
        "patch_embed.proj.weight": (384, 3, 16, 16), "patch_embed.proj.bias": (384,),
        "norm.weight": (384,), "norm.bias": (384,),
        **{f"blocks.{i}.{key}": shape for i in range(12) for key, shape in block.items()},
    }  # fmt: skip
    assert shapes == expected


def test_a_masked_patch_cannot_be_seen() -> None:
    vit, images = network(), torch.randn(1, 3, 32, 32)
    mask = torch.zeros(1, 16, dtype=torch.bool)
    mask[0, 5] = True  # row 1, column 1
    changed = images.clone()
    changed[:, :, 8:16, 8:16] = torch.randn(1, 3, 8, 8)
    assert torch.equal(vit.forward_features(images, mask).cls_BD, vit.forward_features(changed, mask).cls_BD)
    assert not torch.equal(vit.forward_features(images).cls_BD, vit.forward_features(changed).cls_BD)


def test_a_masked_patch_keeps_its_position() -> None:
    vit, images = network(), torch.randn(1, 3, 32, 32)
    tokens = vit.embed(images, torch.ones(1, 16, dtype=torch.bool))
    torch.testing.assert_close(tokens[:, 1:], vit.mask_token + vit.pos_embed[:, 1:])


def test_positions_at_another_size_are_torchs_bicubic_of_the_grid() -> None:
    vit = network()
    grid = vit.pos_embed[0, 1:].T.reshape(1, 32, 4, 4)
    expected = F.interpolate(grid, size=(2, 3), mode="bicubic", align_corners=False)[0].flatten(1).T
    assert torch.equal(vit.positions(2, 3)[0, 1:], expected)
    assert torch.equal(vit.positions(2, 3)[0, 0], vit.pos_embed[0, 0])


def test_registers_join_the_attention_but_not_the_output() -> None:
    vit, images = network(registers=2), torch.randn(2, 3, 32, 32)
    features = vit.forward_features(images)
    assert vit.embed(images).shape == (2, 1 + 2 + 16, 32)
    assert features.patches_BND.shape == (2, 16, 32)
    assert vit.reg_token is not None
    with torch.no_grad():
        vit.reg_token.mul_(5.0)
    assert not torch.equal(vit.forward_features(images).cls_BD, features.cls_BD)


def test_layer_scale_of_zero_leaves_the_input_tokens() -> None:
    vit = VisionTransformer(SMALL.model_copy(update={"layer_scale": 1.0}), image_size=32).eval()
    with torch.no_grad():
        for name, parameter in vit.named_parameters():
            if name.endswith("gamma"):
                parameter.zero_()
    images = torch.randn(1, 3, 32, 32)
    expected = vit.norm(vit.embed(images))
    assert torch.equal(vit.forward_features(images).cls_BD, expected[:, 0])


def test_drop_path_keeps_the_mean_and_drops_whole_samples() -> None:
    torch.manual_seed(0)
    drop, ones = DropPath(0.25).train(), torch.ones(20_000, 2, 3)
    dropped = drop(ones)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.02)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert (dropped.flatten(1).std(dim=1) == 0).all()
    assert torch.equal(drop.eval()(ones), ones)


def test_uniform_drop_path_is_the_same_in_every_block() -> None:
    vit = network(drop_path=0.2, drop_path_uniform=True)
    assert [block.drop_path.probability for block in vit.blocks] == [0.2] * len(vit.blocks)


def test_drop_path_grows_linearly_with_depth() -> None:
    vit = network(drop_path=0.2)
    rates = [getattr(block.drop_path, "probability", 0.0) for block in vit.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2])


def test_sincos_positions_equal_the_formula() -> None:
    positions = sincos_positions(3, 8)
    row, column, frequency = 2, 1, 1
    omega = 10_000 ** (-frequency / 2)
    assert positions[row * 3 + column, frequency].item() == pytest.approx(torch.tensor(row * omega).sin().item())
    assert positions[row * 3 + column, 4 + 2 + frequency].item() == pytest.approx(torch.tensor(omega).cos().item())


def test_slts_name_for_the_features_gives_the_same() -> None:
    vit, images = network(), torch.randn(2, 3, 32, 32)
    for one, other in zip(vit.forward_with_patches(images), vit.forward_features(images), strict=True):
        assert torch.equal(one, other)
