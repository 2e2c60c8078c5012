"""Vision transformer in timm's and DINO's key names, with what self-distillation needs: mask token, any input size."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sltdino.core.settings_base import known
from sltdino.core.settings_network import VitSettings
from sltdino.models.layout import layout_weights


class Features(NamedTuple):
    """Normalised output tokens."""

    cls_BD: Tensor
    patches_BND: Tensor


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens: a convolution's weights, applied as a matrix product (1.5-1.9 x faster)."""

    def __init__(self, patch_size: int, embed_dim: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(3, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """`[B, 3, H, W]` to `[B, N, D]`, row by row."""
        return F.linear(patches(images, self.patch_size), self.proj.weight.flatten(1), self.proj.bias)


def patches(images: Tensor, patch_size: int) -> Tensor:
    """Non-overlapping patches of `[B, 3, H, W]`: `[B, N, 3·P·P]`, row by row, each in the order of a convolution."""
    batch, channels, height, width = images.shape
    p = patch_size
    tiles = images.view(batch, channels, height // p, p, width // p, p).permute(0, 2, 4, 1, 3, 5)
    return tiles.reshape(batch, -1, channels * p * p)


class Attention(nn.Module):
    """Multi-head self-attention with a fused qkv projection."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """`[B, L, D]` to `[B, L, D]`."""
        batch, length, width = x_BLD.shape
        shape = (batch, length, 3, self.num_heads, width // self.num_heads)
        q, k, v = self.qkv(x_BLD).view(shape).permute(2, 0, 3, 1, 4)
        attended_BHLd = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(attended_BHLd.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    """Two layers with exact GELU."""

    def __init__(self, embed_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, embed_dim)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """`[B, L, D]` to `[B, L, D]`."""
        out: Tensor = self.fc2(self.act(self.fc1(x_BLD)))
        return out


class LayerScale(nn.Module):
    """A learned factor per channel (Touvron et al. 2021, "Going deeper with image transformers")."""

    def __init__(self, embed_dim: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((embed_dim,), initial))

    def forward(self, x_BLD: Tensor) -> Tensor:
        """`[B, L, D]` to `[B, L, D]`."""
        return x_BLD * self.gamma


class DropPath(nn.Module):
    """Drop a residual branch for whole samples (Huang et al. 2016), drawing from torch's global generator."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x_BLD: Tensor) -> Tensor:
        """`[B, L, D]`, each sample either zeroed or divided by the keep probability; unchanged in evaluation."""
        if not self.training:
            return x_BLD
        keep = 1.0 - self.probability
        mask_B11 = torch.rand(x_BLD.shape[0], 1, 1, device=x_BLD.device) < keep
        return x_BLD * (mask_B11 / keep).to(x_BLD.dtype)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, vit: VitSettings, *, drop_path: float) -> None:
        super().__init__()
        width, layer_scale = known(vit.embed_dim), known(vit.layer_scale)
        self.norm1 = nn.LayerNorm(width, eps=known(vit.layer_norm_eps))
        self.attn = Attention(width, known(vit.num_heads))
        self.ls1 = LayerScale(width, layer_scale) if layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps=known(vit.layer_norm_eps))
        self.mlp = Mlp(width, int(width * known(vit.mlp_ratio)))
        self.ls2 = LayerScale(width, layer_scale) if layer_scale else nn.Identity()
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x_BLD: Tensor) -> Tensor:
        """`[B, L, D]` to `[B, L, D]`."""
        x_BLD = x_BLD + self.drop_path(self.ls1(self.attn(self.norm1(x_BLD))))
        out: Tensor = x_BLD + self.drop_path(self.ls2(self.mlp(self.norm2(x_BLD))))
        return out


class VisionTransformer(nn.Module):
    """A ViT for square or rectangular inputs whose sides are multiples of the patch size (Dosovitskiy et al. 2021).

    State-dict names are timm's: `cls_token [1,1,D]`, `pos_embed [1,1+N,D]` (CLS first), `patch_embed.proj.*`,
    `blocks.i.{norm1,attn.qkv,attn.proj,norm2,mlp.fc1,mlp.fc2}.*`, `norm.*`, with `reg_token [1,R,D]` and
    `ls1.gamma`, `ls2.gamma` where asked for, and DINOv2's `mask_token [1,D]`.

    Args:
        vit: settled settings of the backbone.
        image_size: side in pixels of the images whose positions are stored; other sizes interpolate them.
    """

    def __init__(self, vit: VitSettings, *, image_size: int) -> None:
        super().__init__()
        width, depth, registers = known(vit.embed_dim), known(vit.depth), known(vit.registers)
        self.vit = vit
        self.image_size = image_size
        self.embed_dim = width
        self.num_registers = registers
        self.grid_size = image_size // known(vit.patch_size)
        self.patch_embed = PatchEmbed(known(vit.patch_size), width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid_size**2, width))
        self.reg_token = nn.Parameter(torch.zeros(1, registers, width)) if registers else None
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        drop_paths = [vit.drop_path * (1 if vit.drop_path_uniform else i / max(1, depth - 1)) for i in range(depth)]
        self.blocks = nn.ModuleList([Block(vit, drop_path=p) for p in drop_paths])
        self.norm = nn.LayerNorm(width, eps=known(vit.layer_norm_eps))
        self._init_weights()

    def _init_weights(self) -> None:
        """Zero biases, tokens of std 0.02, torch's patch weights and matrices as asked for; or all of it by layout."""
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                if self.vit.weight_init == "xavier":
                    nn.init.xavier_uniform_(module.weight)
                else:
                    nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        if self.reg_token is not None:
            nn.init.trunc_normal_(self.reg_token, std=0.02)
        if self.vit.positions == "sincos":
            with torch.no_grad():
                self.pos_embed[0, 1:] = sincos_positions(self.grid_size, self.embed_dim)
        else:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        if self.vit.weight_init == "layout":
            layout_weights(self)

    def positions(self, rows: int, columns: int) -> Tensor:
        """`[1, 1 + rows·columns, D]`: as stored for the training grid, else bicubic without antialias, as SLT does."""
        if rows == columns == self.grid_size:
            return self.pos_embed
        grid_1DRC = self.pos_embed[:, 1:].view(1, self.grid_size, self.grid_size, -1).permute(0, 3, 1, 2)
        grid_1DRC = F.interpolate(grid_1DRC.float(), size=(rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([self.pos_embed[:, :1], grid_1DRC.flatten(2).transpose(1, 2).to(self.pos_embed.dtype)], dim=1)

    def embed(self, images: Tensor, masks_BN: Tensor | None = None) -> Tensor:
        """Input tokens `[B, L, D]` of `[B, 3, H, W]`: CLS, registers, patches; masked patches are the mask token."""
        rows, columns = (side // self.patch_embed.patch_size for side in images.shape[-2:])
        patches_BND = self.patch_embed(images)
        if masks_BN is not None:
            patches_BND = torch.where(masks_BN[..., None], self.mask_token.to(patches_BND.dtype), patches_BND)
        positions_1LD = self.positions(rows, columns)
        batch = images.shape[0]  # len(images) is a plain number, which torch.export would fix in the graph
        cls_B1D = (self.cls_token + positions_1LD[:, :1]).expand(batch, -1, -1)
        registers = () if self.reg_token is None else (self.reg_token.expand(batch, -1, -1),)
        return torch.cat([cls_B1D, *registers, patches_BND + positions_1LD[:, 1:]], dim=1)

    def forward_features(self, images: Tensor, masks_BN: Tensor | None = None) -> Features:
        """CLS `[B, D]` and patch tokens `[B, N, D]` after the last norm, of normalised `images` `[B, 3, H, W]`."""
        x_BLD = self.embed(images, masks_BN)
        for block in self.blocks:
            x_BLD = block(x_BLD)
        x_BLD = self.norm(x_BLD)
        return Features(x_BLD[:, 0], x_BLD[:, 1 + self.num_registers :])

    def forward_with_patches(self, images: Tensor) -> Features:
        """`forward_features`, under the name that SLT also gives it."""
        return self.forward_features(images)

    def forward(self, images: Tensor) -> Tensor:
        """The CLS feature `[B, D]`."""
        return self.forward_features(images).cls_BD


def sincos_positions(grid_size: int, embed_dim: int) -> Tensor:
    """Fixed 2-D sine-cosine positions `[grid², D]`: half the channels for the row, half for the column.

    Formula: Vaswani et al. 2017 with base 10,000, in two dimensions as in MoCo v3 and MAE. Channels beyond the last
    multiple of four stay zero.
    """
    frequencies = embed_dim // 4
    omega = torch.exp(-math.log(10_000.0) * torch.arange(frequencies) / max(1, frequencies))
    angles = torch.arange(grid_size)[:, None] * omega
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = axis.repeat_interleave(grid_size, dim=0), axis.repeat(grid_size, 1)
    return F.pad(torch.cat([rows, columns], dim=1), (0, embed_dim - 4 * frequencies))
