"""A start for the patch embedding that hears shape as loudly as light."""

from collections.abc import Iterator

import torch
from torch import Tensor

from sltdino.models.vit import PatchEmbed, patches

OUTPUT_STD = 0.5
"""Standard deviation of the embedded patches: beside sine-cosine positions of about 0.7."""
_FLOOR = 0.01
"""Share of the mean variance added to every direction, so that those with nothing but noise stay quiet."""
_CHUNK = 16
"""Images whose patches are held in double precision at once: of 512 at 224 pixels they would take 2 GB."""


@torch.no_grad()
def whiten_patch_embedding(patch_embed: PatchEmbed, images: Tensor) -> None:
    """Set the weights so that the embedded patches of `images` have zero mean and nearly white covariance.

    A patch of a photograph varies most in its mean colour: behind random weights all else is drowned, and a network
    that sees few images learns the light before it learns the hand. The weights become `R (C + f)^(-1/2)`, with C the
    patches' covariance, f a floor and R the random weights made orthonormal, so they still depend on the seed; the bias
    takes the mean out. The idea is that of whitened first layers in small-data training (Coates, Ng and Lee 2011).

    Args:
        patch_embed: changed in place.
        images: `[B, 3, H, W]`, normalised as in training.

    Raises:
        torch.linalg.LinAlgError: the images hold values that are not finite.
    """
    weight = patch_embed.proj.weight
    mean_C, covariance_CC = _moments(images, patch_embed.patch_size)
    variances_C, directions_CC = torch.linalg.eigh(covariance_CC)
    floor = _FLOOR * variances_C.mean().clamp(min=1e-12)
    # symmetric, so the signs that eigh is free to choose cancel
    inverse_root_CC = directions_CC * (variances_C.clamp(min=0) + floor).rsqrt() @ directions_CC.T
    whitening_DC = _orthonormal(weight.flatten(1).double()) @ inverse_root_CC
    variance = (whitening_DC @ covariance_CC * whitening_DC).sum(dim=1).mean().clamp(min=1e-12)
    whitening_DC = whitening_DC * (OUTPUT_STD / variance.sqrt())
    weight.copy_(whitening_DC.view_as(weight))
    assert patch_embed.proj.bias is not None
    patch_embed.proj.bias.copy_(-whitening_DC @ mean_C)


def _moments(images: Tensor, patch_size: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of all patches, in double precision."""

    def chunks() -> Iterator[Tensor]:
        for first in range(0, len(images), _CHUNK):
            yield patches(images[first : first + _CHUNK], patch_size).flatten(0, 1).double()

    num_patches = len(images) * (images.shape[2] // patch_size) * (images.shape[3] // patch_size)
    mean_C = torch.stack([patches_MC.sum(dim=0) for patches_MC in chunks()]).sum(dim=0) / num_patches
    covariance_CC = torch.zeros(len(mean_C), len(mean_C), dtype=torch.float64)
    for patches_MC in chunks():
        centered_MC = patches_MC - mean_C
        covariance_CC += centered_MC.T @ centered_MC
    return mean_C, covariance_CC / num_patches


def _orthonormal(matrix_DC: Tensor) -> Tensor:
    """The nearest matrix with orthonormal rows, or columns where there are fewer: unique, unlike QR's signs."""
    left, _, right = torch.linalg.svd(matrix_DC, full_matrices=False)
    nearest: Tensor = left @ right
    return nearest
