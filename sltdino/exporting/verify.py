"""Prove an export: the consumer's features on the same pictures, against ours."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sltdino.core.environment import version
from sltdino.core.settings_base import known
from sltdino.errors import CheckpointError
from sltdino.exporting.backbone import TrainedBackbone
from sltdino.models.vit import Features, VisionTransformer

TOLERANCE = 1e-4
"""Largest difference allowed, relative to the largest feature; float32 rounding stays far below it."""

Grids = tuple[tuple[int, int], ...]
"""Rows and columns of patches."""


class Consumer(NamedTuple):
    """What an export was read back with."""

    features: Callable[[Tensor], Features]
    name: str
    """Of the program, in words."""
    distributions: tuple[str, ...]
    """Packages whose versions the proof holds for."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of the input it is fed with."""
    layer_norm_eps: float
    grids: Grids = ()
    """Other inputs than the training size that it takes."""


class Proof(NamedTuple):
    """How closely a consumer's features follow ours."""

    verified_in: str
    versions: dict[str, str]
    num_tensors: int
    max_relative_error: float
    """At the training size: largest difference over largest feature, of CLS and patch tokens."""
    layer_norm_eps: float
    """The consumer's."""
    layer_norm_eps_effect: float
    """The same measure for our network at the consumer's LayerNorm epsilon against its own; 0 where they agree."""
    other_sizes: dict[str, float]
    """The same measure at other input sizes, `height x width` in pixels, where consumers resample positions."""


def compare_features(backbone: TrainedBackbone, consumer: Consumer, *, num_tensors: int) -> Proof:
    """Feed the same random pictures to both, each under its own normalisation.

    Raises:
        CheckpointError: the features differ by more than TOLERANCE at the training size, or are not finite.
    """
    network, size = backbone.network, backbone.network.image_size
    ours, theirs = _both(backbone, consumer, size, size, count=4)
    with torch.no_grad():
        as_trained = network.forward_features(_normalised(_pictures(4, size, size), backbone.mean, backbone.std))
    error = _difference(theirs, ours)
    if not error <= TOLERANCE:
        raise CheckpointError(
            f"the export's features differ from the network's by {error:.2e} (at most {TOLERANCE:.0e} is allowed); "
            "nothing was written",
            code="E-EXPORT",
        )
    patch = known(network.vit.patch_size)
    sizes = [(rows * patch, columns * patch) for rows, columns in consumer.grids]
    versions = {name: version(name) for name in ("torch", "sltdino", *consumer.distributions)}
    return Proof(
        verified_in=" ".join((consumer.name, *(versions[name] for name in consumer.distributions[:1]))),
        versions={name: found for name, found in versions.items() if found},
        num_tensors=num_tensors,
        max_relative_error=error,
        layer_norm_eps=consumer.layer_norm_eps,
        layer_norm_eps_effect=_difference(ours, as_trained),
        other_sizes={f"{h}x{w}": _difference(*reversed(_both(backbone, consumer, h, w, count=1))) for h, w in sizes},
    )


def other_grids(network: VisionTransformer, *, square: bool = False) -> Grids:
    """Grids to measure a consumer's resampling on: half of the training's, one and a half, and a rectangle."""
    grid = network.grid_size
    small, large = max(1, grid // 2), (3 * grid + 1) // 2
    return ((small, small), (large, large)) if square else ((small, small), (large, large), (grid, large))


def load_strictly(network: nn.Module, state_dict: dict[str, Any], *, consumer: str) -> None:
    """Load weights into a consumer's network.

    Raises:
        CheckpointError: a key is missing, unexpected or of another shape.
    """
    try:
        network.load_state_dict(state_dict, strict=True)
    except RuntimeError as error:
        raise refused(consumer, str(error)) from error


def refused(consumer: str, reason: str) -> CheckpointError:
    """The error for a file that its consumer would not load as it should."""
    return CheckpointError(f"the export is not what {consumer} loads ({reason}); nothing was written", code="E-EXPORT")


def _both(
    backbone: TrainedBackbone, consumer: Consumer, height: int, width: int, *, count: int
) -> tuple[Features, Features]:
    """Ours at the consumer's epsilon, then theirs."""
    pictures = _pictures(count, height, width)
    with torch.no_grad():
        ours = _at_eps(backbone.network, consumer.layer_norm_eps, _normalised(pictures, backbone.mean, backbone.std))
        return ours, consumer.features(_normalised(pictures, consumer.mean, consumer.std))


def _pictures(count: int, height: int, width: int) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def _normalised(pictures: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return (pictures - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def _at_eps(network: VisionTransformer, eps: float, images: Tensor) -> Features:
    norms = [module for module in network.modules() if isinstance(module, nn.LayerNorm)]
    trained = [norm.eps for norm in norms]
    for norm in norms:
        norm.eps = eps
    try:
        return network.forward_features(images)
    finally:
        for norm, before in zip(norms, trained, strict=True):
            norm.eps = before


def _difference(one: Features, reference: Features) -> float:
    """The larger of both tokens' differences, each relative to the reference's largest value; NaN where one is."""
    pairs = zip(one, reference, strict=True)
    return torch.stack([(a - b).abs().max() / b.abs().max() for a, b in pairs]).max().item()
