"""A start whose CLS token already knows what is where: features worth having before the first step.

A random transformer averages its patches, so its CLS token holds hardly more than the light, and a small run spends
its minutes on unlearning that. Here every head of the CLS token looks at a place of its own, in the manner of mimetic
initialisation (Trockman and Kolter 2023), and orthogonal matrices carry over what it sees there: distances between
images start as distances between small pictures of them (Johnson and Lindenstrauss 1984), and training bends them.
"""

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from sltdino.models.vit import Block, VisionTransformer

CONTENT_STD = 0.5
"""Of the embedded patches, beside positions of 1."""
_POSITION_SHARE, _LEAST_POSITION = 4, 3
"""One channel in so many of an embedded patch holds the position and nothing of the picture; and a constant, the row
and the column at least."""
_FALL = 4.0
"""Nats by which a head's attention score has fallen halfway to the place below: fields that hardly overlap."""
_ATTENTION_SCALE, _MLP_SCALE = 0.5, 0.25
"""Of what a branch adds: enough to be heard, little enough that the picture is not drowned by random features of it."""
CHUNK = 32
"""Images that are embedded at once."""
_FEATURE_IMAGES = 128
"""Whose features are averaged: a mean to a tenth of their spread, for the whole network's forward pass of each."""


@torch.no_grad()
def layout_weights(network: "VisionTransformer") -> None:
    """Set the weights, but not norms, registers and mask token, for images of which nothing is known: see `calibrate`.

    Draws from torch's global generator. A network narrower than `LEAST_LAYOUT_WIDTH` is refused in its settings.
    """
    width = network.embed_dim
    num_content = _num_content(width)
    codes_ND = torch.zeros(network.grid_size**2, width)
    steps = (torch.arange(network.grid_size) + 0.5) / network.grid_size
    codes_ND[:, num_content:] = position_codes(torch.cartesian_prod(steps, steps), width - num_content)
    network.pos_embed.zero_()
    network.pos_embed[0, 1:] = codes_ND
    network.cls_token.zero_()
    cls_D = network.cls_token[0, 0]
    cls_D[:num_content] = F.normalize(torch.randn(num_content), dim=0) * math.sqrt(width / 2)

    kernels = network.patch_embed.proj.weight
    kernels.zero_()
    kernels[:num_content] = orthogonal(num_content, kernels[0].numel()).view_as(kernels[:num_content])
    assert network.patch_embed.proj.bias is not None
    nn.init.zeros_(network.patch_embed.proj.bias)
    blocks: list[Block] = list(network.blocks)  # type: ignore[arg-type]  # a ModuleList only knows modules
    places_LH2 = _places(len(blocks), blocks[0].attn.num_heads)
    spacing = 1 / math.sqrt(places_LH2[..., 0].numel())
    for block, places_H2 in zip(blocks, places_LH2, strict=True):
        _look_at(block, places_H2, F.layer_norm(cls_D, (width,)), num_content, spacing=spacing)
        for module in (block.mlp.fc1, block.mlp.fc2):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        block.mlp.fc2.weight.mul_(_MLP_SCALE)


@torch.no_grad()
def calibrate(network: "VisionTransformer", images: Tensor) -> None:
    """Scale the embedded patches of `images` to `CONTENT_STD` about zero, and take the mean out of their CLS features.

    Of the features, the mean of the first `_FEATURE_IMAGES` is taken.

    Args:
        network: with `layout_weights`, in evaluation mode; changed in place.
        images: `[B, 3, H, W]`, normalised as in training.
    """
    embed, norm = network.patch_embed, network.norm
    num_content = _num_content(network.embed_dim)
    sums, squares, count = torch.zeros(network.embed_dim, dtype=torch.float64), 0.0, 0
    for chunk in torch.split(images, CHUNK):
        tokens_MD = embed(chunk).flatten(0, 1).double()
        sums += tokens_MD.sum(dim=0)
        squares += tokens_MD.square().sum().item()
        count += len(tokens_MD)
    mean_D = sums / count
    variance = (squares / count - mean_D.square().sum().item()) / num_content
    scale = CONTENT_STD / math.sqrt(max(variance, 1e-12))
    embed.proj.weight.mul_(scale)
    assert embed.proj.bias is not None
    embed.proj.bias.sub_(mean_D).mul_(scale)
    features_BD = torch.cat([network(chunk) for chunk in torch.split(images[:_FEATURE_IMAGES], CHUNK)])
    norm.bias.sub_(features_BD.mean(dim=0))


def _num_content(width: int) -> int:
    return width - max(_LEAST_POSITION, width // _POSITION_SHARE)


def position_codes(places_N2: Tensor, num_channels: int) -> Tensor:
    """`[N, C]` of mean square 1, for places in 0..1: products of cosines in row and column, low frequencies first.

    Smooth, so that other image sizes can interpolate them, and most alike where places are near each other.
    """
    frequencies = torch.arange(math.isqrt(num_channels) + 2)
    row_NF, column_NF = (torch.cos(math.pi * places_N2[:, axis, None] * frequencies) for axis in (0, 1))
    products_NFF = row_NF[:, :, None] * column_NF[:, None]
    weight_F = torch.where(frequencies > 0, math.sqrt(2.0), 1.0)
    products_NFF = products_NFF * weight_F[:, None] * weight_F
    order = (frequencies[:, None] ** 2 + frequencies**2).flatten().sort(stable=True).indices[:num_channels]
    return F.normalize(products_NFF.flatten(1)[:, order], dim=1) * math.sqrt(num_channels)


def orthogonal(rows: int, columns: int) -> Tensor:
    """A random matrix `[rows, columns]` with orthonormal rows, or columns where there are fewer."""
    tall = torch.randn(max(rows, columns), min(rows, columns), dtype=torch.float64)
    columns_orthonormal, triangle = torch.linalg.qr(tall.float())
    columns_orthonormal = columns_orthonormal * triangle.diagonal().sign()  # libraries choose them otherwise
    matrix: Tensor = columns_orthonormal if rows >= columns else columns_orthonormal.T
    return matrix


def _places(num_blocks: int, num_heads: int) -> Tensor:
    """`[L, H, 2]`: the centres of as many fields as there are heads, in rows as even as can be, in random order."""
    number = num_blocks * num_heads
    rows = math.isqrt(number)
    columns = [number // rows + (row < number % rows) for row in range(rows)]
    places = [((row + 0.5) / rows, (column + 0.5) / n) for row, n in enumerate(columns) for column in range(n)]
    return torch.tensor(places)[torch.randperm(number)].view(num_blocks, num_heads, 2)


def _look_at(block: "Block", places_H2: Tensor, cls_D: Tensor, num_content: int, *, spacing: float) -> None:
    """Let each head of the CLS token, `cls_D` after the norm, attend to its place, and carry the picture from there.

    Keys read the position alone, along random directions and first along the place's own code, and the CLS token's
    query lies along that one, so scores fall with the cosine of the codes. Values read the content alone; they and the
    output are orthogonal. Of deep networks the last blocks look less sharply, as what the CLS token has seen turns it
    away from `cls_D`.
    """
    attn, width = block.attn, len(cls_D)
    head_width, num_positions = width // attn.num_heads, width - num_content
    # of a token with content and position: what the norm divides by
    token_std = math.sqrt((num_content * CONTENT_STD**2 + num_positions) / width)
    nn.init.zeros_(attn.qkv.weight)
    nn.init.zeros_(attn.qkv.bias)
    nn.init.zeros_(attn.proj.bias)
    query_HdD, key_HdD = attn.qkv.weight[: 2 * width].view(2, attn.num_heads, head_width, width)
    beside = position_codes(places_H2 + torch.tensor([spacing / 2, 0.0]), num_positions)
    codes = position_codes(places_H2, num_positions)
    falls_H = 1 - F.cosine_similarity(codes, beside, dim=1)
    for head, code_C in enumerate(codes):
        rank = min(head_width, num_positions)
        basis_dC = orthogonal(rank, num_positions)
        direction_C = F.normalize(code_C, dim=0)
        basis_dC[0] = direction_C
        key_HdD[head, :rank, num_content:] = basis_dC
        # along it a patch's key is cosine · |code| / token_std, and scores are over the root of the head's width
        strength = _FALL / falls_H[head] * math.sqrt(head_width) * token_std / math.sqrt(num_positions)
        query_HdD[head, 0] = strength * cls_D / cls_D.square().sum()
    value_DD = orthogonal(width, width)
    value_DD[:, num_content:] = 0
    attn.qkv.weight[2 * width :] = value_DD
    attn.proj.weight.copy_(orthogonal(width, width) * _ATTENTION_SCALE)
