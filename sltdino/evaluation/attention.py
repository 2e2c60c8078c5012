"""Where the CLS token looks: the attention of the last block, computed apart from the forward pass."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sltdino.models.vit import Attention, Block, VisionTransformer


class ClsAttention(NamedTuple):
    """The CLS token's row of the last block's attention, split into patches and the rest."""

    patches_BHN: Tensor
    """How a head shares its attention among the patches: each row sums to 1."""
    on_patches_BH: Tensor
    """The part of a head's whole attention that lies on patches; the rest is on CLS itself and on registers."""

    def num_seen(self) -> Tensor:
        """Patches that a head spreads over, effectively: the exponential of its entropy, 1 to N, `[B, H]`."""
        entropy_BH: Tensor = torch.special.entr(self.patches_BHN).sum(dim=-1)
        return entropy_BH.exp()


def cls_row(attention: Attention, x_BLD: Tensor) -> Tensor:
    """The CLS token's attention to every token, `[B, H, L]`: softmax(q kᵀ / √d) of its row (Vaswani et al. 2017).

    The forward pass runs a fused kernel that never holds these numbers; weighted by them, the values give its output.

    Args:
        x_BLD: what the attention gets, hence after the block's first norm.
    """
    batch, length, width = x_BLD.shape
    head_width = width // attention.num_heads
    shape = (batch, length, 3, attention.num_heads, head_width)
    q, k, _ = attention.qkv(x_BLD).view(shape).permute(2, 0, 3, 1, 4)
    scores_BHL: Tensor = (q[:, :, :1] @ k.transpose(-2, -1))[:, :, 0] / math.sqrt(head_width)
    return scores_BHL.softmax(dim=-1)


@torch.no_grad()
def cls_attention(network: VisionTransformer, images: Tensor) -> ClsAttention:
    """The last block's attention of the CLS token, of normalised `images` `[B, 3, H, W]`.

    Args:
        network: in evaluation mode, else drop path changes what its last block sees.
    """
    *before, last = network.blocks
    assert isinstance(last, Block)
    x_BLD = network.embed(images)
    for block in before:
        x_BLD = block(x_BLD)
    row_BHL = cls_row(last.attn, last.norm1(x_BLD))
    patches_BHN = row_BHL[:, :, 1 + network.num_registers :]
    on_patches_BH = patches_BHN.sum(dim=-1)
    return ClsAttention(patches_BHN / on_patches_BH[..., None], on_patches_BH)
