"""An independent forward of SLT's `ViTSmallPatch16`: what the real loader would compute from an exported file.

Written from the contract (keys, order of operations, epsilon 1e-5), on torch's own MultiheadAttention and LayerNorm.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sltdino.models.vit import Features


class SltBlock(nn.Module):
    """A pre-norm block in SLT's names: `norm1 attn.{in_proj_*,out_proj.*} norm2 mlp.{0,3}`."""

    def __init__(self, embed_dim: int, num_heads: int, hidden_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim)
        self.attn = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.mlp = nn.Sequential(
            nn.Linear(embed_dim, hidden_dim),
            nn.GELU(),
            nn.Dropout(0.0),
            nn.Linear(hidden_dim, embed_dim),
            nn.Dropout(0.0),
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        """`[B, L, D]` to `[B, L, D]`."""
        y_BLD = self.norm1(x_BLD)
        x_BLD = x_BLD + self.attn(y_BLD, y_BLD, y_BLD, need_weights=False)[0]
        out: Tensor = x_BLD + self.mlp(self.norm2(x_BLD))
        return out


class SltNetwork(nn.Module):
    """SLT's ViT, built from an export's `metadata["backbone"]`."""

    def __init__(self, backbone: dict[str, Any]) -> None:
        super().__init__()
        width, patch = backbone["embed_dim"], backbone["patch_size"]
        self.grid_size = backbone["image_size"] // patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid_size**2 + 1, width))
        self.patch_size = patch
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        hidden = int(width * backbone["mlp_ratio"])
        self.blocks = nn.ModuleList([SltBlock(width, backbone["num_heads"], hidden) for _ in range(backbone["depth"])])
        self.norm = nn.LayerNorm(width)

    def forward_features(self, images: Tensor) -> Features:
        """CLS `[B, D]` and patches `[B, N, D]` of images `[B, 3, S, S]` under ImageNet's mean and std."""
        patches_BND = self.patch_embed["proj"](images).flatten(2).transpose(1, 2)
        x_BLD = torch.cat([self.cls_token.expand(len(images), -1, -1), patches_BND], dim=1)
        x_BLD = x_BLD + self._positions(images.shape[-1] // self.patch_size)
        for block in self.blocks:
            x_BLD = block(x_BLD)
        x_BLD = self.norm(x_BLD)
        return Features(x_BLD[:, 0], x_BLD[:, 1:])

    def _positions(self, grid: int) -> Tensor:
        if grid == self.grid_size:
            return self.pos_embed
        stored = self.pos_embed[:, 1:].transpose(1, 2).reshape(1, -1, self.grid_size, self.grid_size)
        resized = F.interpolate(stored, size=(grid, grid), mode="bicubic", align_corners=False)
        return torch.cat([self.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)
