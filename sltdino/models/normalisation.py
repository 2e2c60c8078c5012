"""The mean and std that pictures are normalised with, folded into a network."""

from collections.abc import Sequence

import torch

from sltdino.models.vit import VisionTransformer

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@torch.no_grad()
def take_imagenet(network: VisionTransformer, mean: Sequence[float], std: Sequence[float]) -> VisionTransformer:
    """Change the patch embedding so that input under ImageNet's mean and std gives what `mean` and `std` gave.

    With u = (x - m) / s fed and v = (x - m') / s' expected by the weights, v = u·s/s' + (m - m')/s' per channel.
    """
    if (tuple(mean), tuple(std)) == (IMAGENET_MEAN, IMAGENET_STD):
        return network
    weight, bias = network.patch_embed.proj.weight, network.patch_embed.proj.bias
    assert bias is not None
    fed_mean, fed_std = torch.tensor((IMAGENET_MEAN, IMAGENET_STD), dtype=torch.float64)
    own_mean, own_std = torch.tensor((tuple(mean), tuple(std)), dtype=torch.float64)
    exact = weight.double()
    bias += torch.einsum("dcij,c->d", exact, (fed_mean - own_mean) / own_std).to(bias)
    weight.copy_(exact * (fed_std / own_std)[:, None, None])
    return network
