"""Exact changes of a state dict, for consumers that lack LayerScale or feed another mean and std."""

import torch
from torch import Tensor

from sltdino.exporting.backbone import TrainedBackbone

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What both networks of SLT are always fed with."""


def float_weights(backbone: TrainedBackbone, *, without: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """A copy of the weights in our names, float32 and contiguous, without the keys named."""
    state = backbone.network.state_dict()
    return {key: value.detach().float().clone().contiguous() for key, value in state.items() if key not in without}


def fold_layer_scale(weights: dict[str, Tensor]) -> None:
    """Multiply each LayerScale, in place, into the last linear layer of its branch, where it is the same map."""
    for key in [key for key in weights if key.endswith(".gamma")]:
        block, branch, _ = key.rsplit(".", 2)
        layer = f"{block}.attn.proj" if branch == "ls1" else f"{block}.mlp.fc2"
        gamma = weights.pop(key)
        weights[f"{layer}.weight"] = weights[f"{layer}.weight"] * gamma[:, None]
        weights[f"{layer}.bias"] = weights[f"{layer}.bias"] * gamma


def fold_normalisation(
    weights: dict[str, Tensor], backbone: TrainedBackbone, *, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    """Change the patch embedding, in place, so that input under `mean` and `std` gives what training's gave.

    With u = (x - m) / s for the consumer and v = (x - m_t) / s_t in training, v = u·s/s_t + (m - m_t)/s_t per channel.
    """
    if backbone.mean == mean and backbone.std == std:
        return
    weight = weights["patch_embed.proj.weight"].double()
    trained_mean, trained_std = torch.tensor(backbone.mean).double(), torch.tensor(backbone.std).double()
    shift_C = (torch.tensor(mean).double() - trained_mean) / trained_std
    scale_C = torch.tensor(std).double() / trained_std
    bias = weights["patch_embed.proj.bias"].double() + torch.einsum("dcij,c->d", weight, shift_C)
    weights["patch_embed.proj.weight"] = (weight * scale_C[:, None, None]).float()
    weights["patch_embed.proj.bias"] = bias.float()
