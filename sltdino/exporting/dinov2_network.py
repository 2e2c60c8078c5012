"""An independent forward of DINOv2's ViT-S/14: what `torch.hub`'s `dinov2_vits14` would compute from an exported file.

Written from what DINOv2 does: positions of 518 px, resampled by the scale factor (n + 0.1) / 37 rather than by size,
LayerScale in every block, LayerNorm eps 1e-6.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sltdino.exporting.reference_block import REFERENCE_EPS, ReferenceBlock
from sltdino.models.vit import Features

PATCH_SIZE, WIDTH, DEPTH, NUM_HEADS, MLP_RATIO = 14, 384, 12, 6, 4
GRID_SIZE = 37
OFFSET = 0.1


class Dinov2Network(nn.Module):
    """DINOv2's `dinov2_vits14`, in its key names."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + GRID_SIZE**2, WIDTH))
        self.mask_token = nn.Parameter(torch.zeros(1, WIDTH))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, WIDTH, PATCH_SIZE, PATCH_SIZE)})
        blocks = [ReferenceBlock(WIDTH, NUM_HEADS, MLP_RATIO * WIDTH, layer_scale=True) for _ in range(DEPTH)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(WIDTH, eps=REFERENCE_EPS)

    def forward_features(self, images: Tensor) -> Features:
        """CLS `[B, D]` and patches `[B, N, D]` of images `[B, 3, H, W]` under ImageNet's mean and std."""
        maps_BDRC = self.patch_embed["proj"](images)
        rows, columns = maps_BDRC.shape[-2:]
        x_BLD = torch.cat([self.cls_token.expand(images.shape[0], -1, -1), maps_BDRC.flatten(2).transpose(1, 2)], dim=1)
        x_BLD = x_BLD + self._positions(rows, columns)
        for block in self.blocks:
            x_BLD = block(x_BLD)
        x_BLD = self.norm(x_BLD)
        return Features(x_BLD[:, 0], x_BLD[:, 1:])

    def _positions(self, rows: int, columns: int) -> Tensor:
        if rows == columns == GRID_SIZE:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].transpose(1, 2).reshape(1, -1, GRID_SIZE, GRID_SIZE)
        resized = sample_positions(grid, rows, columns)
        return torch.cat([self.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


def sample_positions(grid_BDRC: Tensor, rows: int, columns: int) -> Tensor:
    """DINOv2's sampling of its 37 x 37 positions: bicubic, by a scale factor a little larger than the sizes' ratio."""
    factors = ((rows + OFFSET) / GRID_SIZE, (columns + OFFSET) / GRID_SIZE)
    return F.interpolate(grid_BDRC, scale_factor=factors, mode="bicubic")
