"""How the starter weights learn: a backbone tells what was drawn, from augmented crops of the drawings."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sltdino.core.rng import generator
from sltdino.core.settings import AugmentationSettings
from sltdino.core.settings_network import VitSettings
from sltdino.data.crops import draw_crops, draw_uniforms
from sltdino.data.kernels import apply_crops
from sltdino.data.synthetic_starter import Drawings
from sltdino.models.layout import calibrate
from sltdino.models.vit import VisionTransformer, patches

_MATRIX_RATE, _OTHER_RATE, _DECAY = 0.02, 1e-3, 0.05
"""Peak learning rates of Muon and AdamW, and the weight decay of matrices."""
_WARMUP, _COOLDOWN = 0.05, 0.4
"""Shares of the training in which the rate rises, and falls to nothing."""
_BETA = 0.5
"""Below it, in standard deviations, the error counts squared."""
_BEYOND = 0.2
"""Parts farther outside a crop, in sides of it, are all as far."""
_MEAN_WEIGHT = 0.5


class Views(NamedTuple):
    """Crops of drawings as a run would see them, and what is to be told of each."""

    images: Tensor
    """`[B, 3, S, S]`, normalised."""
    plain: Tensor
    """The plain drawings in the same crops, `[B, 3, S / 2, S / 2]` in -1..1."""
    targets: Tensor
    """Values, then the places within the crop, `[B, targets]`."""


class Told(NamedTuple):
    """How far off is what a network tells of drawings; zero is perfect."""

    cls: Tensor
    """Of each of the standardised targets, from the CLS feature, `[targets]`."""
    mean: Tensor
    """Of them all, from the mean of the patch features."""
    plain: Tensor
    """Of the plain drawing, each patch from its own feature."""


class Scale(NamedTuple):
    """What targets are standardised with, `[targets]` each."""

    center: Tensor
    spread: Tensor


def views(
    drawings: Drawings, rows: NDArray[np.int64], augmentation: AugmentationSettings, rng: np.random.Generator
) -> Views:
    """One augmented crop of each of some drawings."""
    side = drawings.images.shape[1]
    uniforms = np.stack([draw_uniforms(rng, 1) for _ in rows])
    params = draw_crops(uniforms, np.full((len(rows), 2), side), augmentation).global_crops.at(0)
    images = apply_crops(
        [drawings.images[row] for row in rows], params,
        size=augmentation.image_size, mean=augmentation.mean, std=augmentation.std,
    )  # fmt: skip
    left_top, size = params.boxes[:, None, 1::-1], params.boxes[:, None, :1:-1]
    places = np.clip((drawings.places[rows] * side - left_top) / size, -_BEYOND, 1 + _BEYOND)
    targets = np.concatenate((drawings.values[rows], places.reshape(len(rows), -1)), axis=1)
    plain = _cut(torch.from_numpy(drawings.plain[rows]), torch.from_numpy(params.boxes) / side, images.shape[-1] // 2)
    return Views(images, plain, torch.from_numpy(targets.astype(np.float32)))


def _cut(pictures_BHW3: Tensor, boxes_B4: Tensor, size: int) -> Tensor:
    """Boxes (top, left, height, width as shares of the side) of pictures, `[B, 3, size, size]` in -1..1."""
    top, left, height, width = boxes_B4.float().unbind(1)
    zero = torch.zeros_like(top)
    across = torch.stack((width, zero, 2 * left + width - 1), dim=1)
    down = torch.stack((zero, height, 2 * top + height - 1), dim=1)
    grid = F.affine_grid(torch.stack((across, down), dim=1), [len(top), 3, size, size], align_corners=False)
    pictures = pictures_BHW3.permute(0, 3, 1, 2).float() / 127.5 - 1
    return F.grid_sample(pictures, grid, align_corners=False, padding_mode="border")


class Teller(nn.Module):
    """A backbone with three linear layers for each subject.

    From the CLS feature and from the patches' mean they tell values and places, from each patch its plain drawing.
    """

    def __init__(self, backbone: VisionTransformer, scales: Mapping[str, Scale]) -> None:
        super().__init__()
        self.backbone, self.scales = backbone, scales
        self.plain_patch = backbone.patch_embed.patch_size // 2
        self.heads = nn.ModuleDict()
        for subject, scale in scales.items():
            self.heads[f"{subject}_cls"] = nn.Linear(backbone.embed_dim, len(scale.center))
            self.heads[f"{subject}_mean"] = nn.Linear(backbone.embed_dim, len(scale.center))
            self.heads[f"{subject}_plain"] = nn.Linear(backbone.embed_dim, 3 * self.plain_patch**2)

    def forward(self, batch: Mapping[str, Views]) -> dict[str, Told]:
        """How far off is what it tells of each subject."""
        features = self.backbone.forward_features(torch.cat([view.images for view in batch.values()]))
        sizes = [len(view.images) for view in batch.values()]
        of_cls, of_patches = torch.split(features.cls_BD, sizes), torch.split(features.patches_BND, sizes)
        return {
            subject: self._told(subject, view, cls_BD, patches_BND)
            for (subject, view), cls_BD, patches_BND in zip(batch.items(), of_cls, of_patches, strict=True)
        }

    def _told(self, subject: str, view: Views, cls_BD: Tensor, patches_BND: Tensor) -> Told:
        scale = self.scales[subject]
        wanted = (view.targets - scale.center) / scale.spread
        from_cls, from_mean = self.heads[f"{subject}_cls"](cls_BD), self.heads[f"{subject}_mean"](patches_BND.mean(1))
        drawn_BNC = self.heads[f"{subject}_plain"](patches_BND)
        return Told(
            F.smooth_l1_loss(from_cls, wanted, reduction="none", beta=_BETA).mean(0),
            F.smooth_l1_loss(from_mean, wanted, beta=_BETA),
            F.mse_loss(drawn_BNC, patches(view.plain, self.plain_patch)),
        )


def fresh(
    vit: VitSettings, augmentation: AugmentationSettings, drawings: Mapping[str, Drawings], *, seed: int
) -> Teller:
    """The network before training, with the layout start fitted to drawings."""
    torch.manual_seed(seed)
    backbone = VisionTransformer(vit, image_size=augmentation.image_size)
    scales, seen = dict[str, Scale](), list[Tensor]()
    for subject, found in drawings.items():
        rows = np.arange(min(512, len(found.images)))
        view = views(found, rows, augmentation, generator(seed, "scales", subject))
        scales[subject] = Scale(view.targets.mean(0), view.targets.std(0) + 1e-3)
        seen.append(view.images)
    calibrate(backbone.eval(), torch.cat(seen))
    return Teller(backbone, scales)


def train(
    teller: Teller, drawings: Mapping[str, Drawings], augmentation: AugmentationSettings, *, num_steps: int,
    batch_size: int, seed: int,
) -> float:  # fmt: skip
    """Train in place; what is left in the network is the moving average of its weights.

    Returns:
        The loss, a moving mean over the last 100 steps or so.
    """
    optimizers = _optimizers(teller)
    weights: list[Tensor] = list(teller.parameters())
    averages = [weight.detach().clone() for weight in weights]
    recent = 0.0
    batches = _endless(drawings, augmentation, batch_size=batch_size, seed=seed)
    for step, batch in enumerate(islice(batches, num_steps), start=1):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * _rate((step - 1) / num_steps)
            optimizer.zero_grad(set_to_none=True)
        told = teller(batch).values()
        loss = torch.stack([error.cls.mean() + _MEAN_WEIGHT * error.mean + error.plain for error in told]).mean()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        with torch.no_grad():  # over the last twentieth of the steps so far, 1,000 at most
            torch._foreach_lerp_(averages, weights, 1 - min(0.999, 1 - 1 / (0.05 * step + 1)))
        recent += (loss.item() - recent) / min(step, 100)
        if step % 100 == 0:
            print(f"step {step:,} of {num_steps:,}: loss {recent:.4f}", flush=True)
    with torch.no_grad():
        torch._foreach_copy_(weights, averages)
    return recent


def _optimizers(teller: Teller) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the blocks' matrices, which learn in half the steps with it; AdamW for the rest."""
    matrices = [value for value in teller.backbone.blocks.parameters() if value.ndim == 2]
    of_muon = {id(value) for value in matrices}
    others = [value for value in teller.parameters() if id(value) not in of_muon]
    muon = torch.optim.Muon(matrices, lr=_MATRIX_RATE, weight_decay=_DECAY)
    adamw = torch.optim.AdamW(others, lr=_OTHER_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    for optimizer, peak in ((muon, _MATRIX_RATE), (adamw, _OTHER_RATE)):
        for group in optimizer.param_groups:
            group["peak"] = peak
    return [muon, adamw]


def _rate(share: float) -> float:
    """Of the peak learning rate: up, level, down to nothing."""
    return min(1.0, share / _WARMUP + 1e-3, (1 - share) / _COOLDOWN)


def _endless(
    drawings: Mapping[str, Drawings], augmentation: AugmentationSettings, *, batch_size: int, seed: int
) -> Iterator[dict[str, Views]]:
    """Batches of all subjects, in which each drawing is as likely as any other."""
    total = sum(len(found.images) for found in drawings.values())
    counts = {subject: max(1, round(batch_size * len(found.images) / total)) for subject, found in drawings.items()}
    number = 0
    while True:
        rng = generator(seed, "batch", number)
        yield {
            subject: views(found, rng.integers(0, len(found.images), counts[subject]), augmentation, rng)
            for subject, found in drawings.items()
        }
        number += 1


@torch.no_grad()
def errors_on(teller: Teller, drawings: Mapping[str, Drawings], augmentation: AugmentationSettings) -> dict[str, Told]:
    """How far off the network is on one crop of each drawing."""
    teller.eval()
    batch = {
        subject: views(found, np.arange(len(found.images)), augmentation, generator(0, "held out", subject))
        for subject, found in drawings.items()
    }
    told: dict[str, Told] = teller(batch)
    return told
