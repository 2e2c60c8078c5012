"""An independent forward of timm's `VisionTransformer`: what timm would compute from an exported file.

Written from the parameters that timm documents: prefix tokens, `no_embed_class`, `init_values`, `dynamic_img_size`
(bicubic resampling with antialias), LayerNorm eps 1e-6.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sltdino.exporting.reference_block import REFERENCE_EPS, ReferenceBlock
from sltdino.models.vit import Features


class TimmNetwork(nn.Module):
    """timm's ViT with its CLS token and no classifier, built from the arguments of `timm.create_model`."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__()
        width, self.patch_size = arguments["embed_dim"], arguments["patch_size"]
        self.grid_size = arguments["img_size"] // self.patch_size
        self.no_embed_class = arguments.get("no_embed_class", False)
        registers = arguments.get("reg_tokens", 0)
        self.num_prefix_tokens = 1 + registers
        length = self.grid_size**2 + (0 if self.no_embed_class else self.num_prefix_tokens)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.reg_token = nn.Parameter(torch.zeros(1, registers, width)) if registers else None
        self.pos_embed = nn.Parameter(torch.zeros(1, length, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, self.patch_size, self.patch_size)})
        hidden, scale = int(width * arguments["mlp_ratio"]), arguments.get("init_values") is not None
        heads = arguments["num_heads"]
        blocks = [ReferenceBlock(width, heads, hidden, layer_scale=scale) for _ in range(arguments["depth"])]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, eps=REFERENCE_EPS)

    def forward_features(self, images: Tensor) -> Features:
        """CLS `[B, D]` and patches `[B, N, D]` of normalised images `[B, 3, H, W]`."""
        maps_BDRC = self.patch_embed["proj"](images)
        positions_1LD = self._positions(maps_BDRC.shape[-2], maps_BDRC.shape[-1])
        x_BLD = maps_BDRC.flatten(2).transpose(1, 2)
        prefix_1PD = self.cls_token if self.reg_token is None else torch.cat([self.cls_token, self.reg_token], dim=1)
        prefix_BPD = prefix_1PD.expand(images.shape[0], -1, -1)
        if self.no_embed_class:  # the positions are those of the patches alone
            x_BLD = torch.cat([prefix_BPD, x_BLD + positions_1LD], dim=1)
        else:
            x_BLD = torch.cat([prefix_BPD, x_BLD], dim=1) + positions_1LD
        for block in self.blocks:
            x_BLD = block(x_BLD)
        x_BLD = self.norm(x_BLD)
        return Features(x_BLD[:, 0], x_BLD[:, self.num_prefix_tokens :])

    def _positions(self, rows: int, columns: int) -> Tensor:
        if rows == columns == self.grid_size:
            return self.pos_embed
        count = 0 if self.no_embed_class else self.num_prefix_tokens
        grid = self.pos_embed[:, count:].transpose(1, 2).reshape(1, -1, self.grid_size, self.grid_size)
        resized = F.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=True)
        return torch.cat([self.pos_embed[:, :count], resized.flatten(2).transpose(1, 2)], dim=1)
