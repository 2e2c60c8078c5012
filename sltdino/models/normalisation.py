"""The mean and std that pictures are normalised with, folded into a network."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sltdino.models.vit import VisionTransformer

Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
"""What both networks of SLT are always fed with, and most public weights expect."""


def fold_normalisation(
    weights: dict[str, Tensor],
    *,
    fed: tuple[Sequence[float], Sequence[float]],
    expected: tuple[Sequence[float], Sequence[float]],
) -> bool:
    """Change the patch embedding, in place, to compute from one mean and std what it computed from another, exactly.

    With u = (x - m) / s fed and v = (x - m') / s' expected, v = u·s/s' + (m - m')/s' per channel.

    Args:
        weights: in our names, float32.

    Returns:
        Whether there was anything to change.
    """
    (fed_mean, fed_std), (mean, std) = (
        torch.tensor(list(map(tuple, pair)), dtype=torch.float64) for pair in (fed, expected)
    )
    if torch.equal(fed_mean, mean) and torch.equal(fed_std, std):
        return False
    weight, bias = (weights[f"patch_embed.proj.{name}"].double() for name in ("weight", "bias"))
    weights["patch_embed.proj.bias"] = (bias + torch.einsum("dcij,c->d", weight, (fed_mean - mean) / std)).float()
    weights["patch_embed.proj.weight"] = (weight * (fed_std / std)[:, None, None]).float()
    return True


def take_imagenet(network: VisionTransformer, mean: Sequence[float], std: Sequence[float]) -> VisionTransformer:
    """Change the network so that input under ImageNet's mean and std gives what `mean` and `std` gave."""
    weights = network.state_dict()
    if fold_normalisation(weights, fed=(IMAGENET_MEAN, IMAGENET_STD), expected=(mean, std)):
        network.load_state_dict(weights)
    return network
