"""The attention that is shown is the attention that the network computes with."""

import pytest
import torch

from sltdino.core.settings_network import VitSettings
from sltdino.evaluation.attention import ClsAttention, cls_attention, cls_row
from sltdino.models.vit import VisionTransformer


@pytest.fixture(params=[0, 3], ids=["no registers", "3 registers"])
def network(request: pytest.FixtureRequest) -> VisionTransformer:
    torch.manual_seed(0)
    vit = VitSettings(
        patch_size=4, embed_dim=24, depth=3, num_heads=3, mlp_ratio=2.0, registers=request.param, layer_scale=0.0,
        layer_norm_eps=1e-5, drop_path=0.5,
    )  # fmt: skip
    network = VisionTransformer(vit, image_size=16).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.4)  # attention far from even
    return network


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_values_weighted_by_it_are_the_block_s_own_attention_output(
    network: VisionTransformer, images: torch.Tensor
) -> None:
    attention = network.blocks[-1].attn
    x_BLD = torch.randn(2, 17 + network.num_registers, 24)
    row_BHL = cls_row(attention, x_BLD)
    values_BHLd = attention.qkv(x_BLD)[..., 48:].unflatten(-1, (3, 8)).transpose(1, 2)
    mixed_BD = (row_BHL[..., None] * values_BHLd).sum(dim=2).flatten(1)
    torch.testing.assert_close(attention.proj(mixed_BD), attention(x_BLD)[:, 0])
    assert row_BHL.max() > 0.3


def test_it_is_that_of_the_last_block_in_the_forward_pass(network: VisionTransformer, images: torch.Tensor) -> None:
    """What a hook sees go into the last block's attention gives the same row, cut and brought to a sum of 1."""
    seen: list[torch.Tensor] = []
    handle = network.blocks[-1].attn.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        features = network(images)
    handle.remove()
    shown = cls_attention(network, images)
    whole_BHL = cls_row(network.blocks[-1].attn, seen[0])
    on_patches = whole_BHL[..., 1 + network.num_registers :]
    torch.testing.assert_close(shown.patches_BHN * shown.on_patches_BH[..., None], on_patches)
    torch.testing.assert_close(shown.patches_BHN.sum(dim=-1), torch.ones(2, 3))
    assert torch.all(shown.on_patches_BH < 1)
    with torch.no_grad():
        assert torch.equal(network(images), features)


def test_a_head_sees_one_patch_or_all_or_as_many_as_it_shares_evenly() -> None:
    patches = torch.tensor([[[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0, 0.5, 0]]])
    seen = ClsAttention(patches, torch.ones(1, 3)).num_seen()
    torch.testing.assert_close(seen, torch.tensor([[1.0, 4.0, 2.0]]))
