"""AdamW over groups of parameters that share their weight decay and their share of the learning rate."""

import re

import torch
from torch import nn

from sltdino.models.student_teacher import Network

_EMBEDDING = re.compile(r"backbone\.(cls_token|pos_embed|reg_token|mask_token)")
_INPUT = re.compile(rf"{_EMBEDDING.pattern}|backbone\.patch_embed\.")
_BLOCK = re.compile(r"backbone\.blocks\.(\d+)\.")


def build_optimizer(
    student: Network,
    *,
    layer_decay: float = 1.0,
    patch_embed_lr_scale: float = 1.0,
    decay_embeddings: bool = False,
) -> torch.optim.AdamW:
    """Fused AdamW; learning rate and weight decay are set by the schedules at each step.

    Biases, norms and other parameters of at most one dimension larger than one are not decayed.

    Args:
        layer_decay: factor of the learning rate from each block to the one below it, see `lr_scale`.
        patch_embed_lr_scale: factor of the patch embedding's learning rate, beside that.
        decay_embeddings: whether positions and tokens are decayed, as DINO, iBOT and DINOv2 do: there, what has one
            dimension is not, and these are stored with three.
    """
    depth = len(student.backbone.blocks)
    # two groups are always there, the decayed one first: the order that checkpoints of earlier versions have
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {(True, 1.0): [], (False, 1.0): []}
    for name, parameter in student.named_parameters():
        is_matrix = sum(size > 1 for size in parameter.shape) > 1
        decays = decay_embeddings if _EMBEDDING.fullmatch(name) else is_matrix
        scale = lr_scale(name, depth=depth, layer_decay=layer_decay, patch_embed_lr_scale=patch_embed_lr_scale)
        groups.setdefault((decays, scale), []).append(parameter)
    rows = [{"params": params, "decays": decays, "lr_scale": scale} for (decays, scale), params in groups.items()]
    return torch.optim.AdamW(rows, lr=0.0, fused=True)


def lr_scale(name: str, *, depth: int, layer_decay: float, patch_embed_lr_scale: float) -> float:
    """A parameter's share of the learning rate: `layer_decay ** (depth + 1 - layer)`.

    The layer is 0 for the input, `i + 1` for block i, and depth + 1 for the last norm and the heads, as in BEiT (Bao et
    al. 2021) and DINOv2.
    """
    block = _BLOCK.match(name)
    layer = 0 if _INPUT.match(name) else int(block[1]) + 1 if block else depth + 1
    scale = layer_decay ** (depth + 1 - layer)
    return scale * patch_embed_lr_scale if name.startswith("backbone.patch_embed.") else scale
