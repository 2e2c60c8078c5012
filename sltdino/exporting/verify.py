"""Prove an export: the consumer's features on the same pictures, against ours."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sltdino.errors import CheckpointError
from sltdino.exporting.backbone import TrainedBackbone
from sltdino.models.vit import Features

TOLERANCE = 1e-4
"""Largest difference allowed, relative to the largest feature; float32 rounding stays far below it."""


class Proof(NamedTuple):
    """How closely a consumer's features follow ours, at the training size."""

    max_relative_error: float
    """Largest difference over largest feature, of CLS and patch tokens."""
    layer_norm_eps_effect: float
    """The same measure for our network at the consumer's LayerNorm epsilon against its own; 0 where they agree."""


def compare_features(
    backbone: TrainedBackbone,
    consumer: Callable[[Tensor], Features],
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    consumer_eps: float,
) -> Proof:
    """Feed the same random pictures to both, each under its own normalisation.

    Raises:
        CheckpointError: the features differ by more than TOLERANCE, or are not finite.
    """
    network = backbone.network
    pictures = torch.rand(4, 3, network.image_size, network.image_size, generator=torch.Generator().manual_seed(0))
    trained_with = _normalised(pictures, backbone.mean, backbone.std)
    with torch.no_grad():
        theirs = consumer(_normalised(pictures, mean, std))
        as_trained = network.forward_features(trained_with)
        ours = _at_eps(network, consumer_eps, trained_with)
    error = max(_relative(a, b) for a, b in zip(theirs, ours, strict=True))
    if not error <= TOLERANCE:
        raise CheckpointError(
            f"the export's features differ from the network's by {error:.2e} (at most {TOLERANCE:.0e} is allowed); "
            "nothing was written",
            code="E-EXPORT",
        )
    return Proof(error, max(_relative(a, b) for a, b in zip(ours, as_trained, strict=True)))


def _normalised(pictures: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return (pictures - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def _at_eps(network: torch.nn.Module, eps: float, images: Tensor) -> Features:
    norms = [module for module in network.modules() if isinstance(module, torch.nn.LayerNorm)]
    trained = [norm.eps for norm in norms]
    for norm in norms:
        norm.eps = eps
    try:
        features: Features = network.forward_features(images)  # type: ignore[operator]
        return features
    finally:
        for norm, before in zip(norms, trained, strict=True):
            norm.eps = before


def _relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()
