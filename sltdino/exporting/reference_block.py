"""The transformer block that timm and DINOv2 have in common, written from their papers and apart from models/vit.py.

Attention is spelt out (softmax of scaled products, each of q, k and v by its own rows of the matrix), so that a mistake
in our fused one shows. timm and DINOv2 agree in names and in LayerNorm's epsilon of 1e-6.
"""

import torch
from torch import Tensor, nn

REFERENCE_EPS = 1e-6


class ReferenceAttention(nn.Module):
    """`qkv.*` and `proj.*`: the rows of qkv are those of q, k and v, each head by head."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """`[B, L, D]` to `[B, L, D]`."""
        q_BLD, k_BLD, v_BLD = self.qkv(x_BLD).chunk(3, dim=-1)
        heads = []
        pieces = (t.chunk(self.num_heads, dim=-1) for t in (q_BLD, k_BLD, v_BLD))
        for q_BLd, k_BLd, v_BLd in zip(*pieces, strict=True):
            scores_BLL = torch.einsum("bld,bmd->blm", q_BLd, k_BLd) / q_BLd.shape[-1] ** 0.5
            heads.append(torch.einsum("blm,bmd->bld", scores_BLL.softmax(dim=-1), v_BLd))
        out: Tensor = self.proj(torch.cat(heads, dim=-1))
        return out


class ReferenceMlp(nn.Module):
    """`fc1.*` and `fc2.*` around the exact GELU."""

    def __init__(self, embed_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, embed_dim)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """`[B, L, D]` to `[B, L, D]`."""
        h_BLH = self.fc1(x_BLD)
        out: Tensor = self.fc2(0.5 * h_BLH * (1 + torch.erf(h_BLH / 2**0.5)))
        return out


class ReferenceScale(nn.Module):
    """`gamma [D]`."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(embed_dim))

    def forward(self, x_BLD: Tensor) -> Tensor:
        """`[B, L, D]` to `[B, L, D]`."""
        return x_BLD * self.gamma


class ReferenceBlock(nn.Module):
    """`norm1 attn.{qkv,proj} ls1 norm2 mlp.{fc1,fc2} ls2`, pre-norm; ls1 and ls2 only where there is LayerScale."""

    def __init__(self, embed_dim: int, num_heads: int, hidden_dim: int, *, layer_scale: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim, eps=REFERENCE_EPS)
        self.attn = ReferenceAttention(embed_dim, num_heads)
        self.norm2 = nn.LayerNorm(embed_dim, eps=REFERENCE_EPS)
        self.mlp = ReferenceMlp(embed_dim, hidden_dim)
        self.ls1 = ReferenceScale(embed_dim) if layer_scale else nn.Identity()
        self.ls2 = ReferenceScale(embed_dim) if layer_scale else nn.Identity()

    def forward(self, x_BLD: Tensor) -> Tensor:
        """`[B, L, D]` to `[B, L, D]`."""
        x_BLD = x_BLD + self.ls1(self.attn(self.norm1(x_BLD)))
        out: Tensor = x_BLD + self.ls2(self.mlp(self.norm2(x_BLD)))
        return out
