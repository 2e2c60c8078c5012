"""Make the starter weights: draw hands and faces, and train the laptop preset's backbone to tell what was drawn.

    python tools/make_starter.py --images 40000 --minutes 30 --threads 2 --output sltdino/starter/starter.pt

Only drawings of our own are seen. Drawings are kept in a folder, named after the code that drew them, for the next call.
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from sltdino.core.auto import settle
from sltdino.core.rng import fold_in, generator
from sltdino.core.settings import AugmentationSettings, PretrainSettings
from sltdino.core.settings_base import known
from sltdino.core.settings_files import load_settings
from sltdino.data import synthetic_starter
from sltdino.data.crops import draw_crops, draw_uniforms
from sltdino.data.kernels import apply_crops
from sltdino.data.synthetic_starter import SUBJECTS, Drawings, draw_many
from sltdino.models.vit import VisionTransformer

SHARD = 1000
"""Drawings in a file."""
HELD_OUT = 1000
"""Drawings of each subject that are only looked at."""


def draw_all(subject: str, folder: Path, *, count: int, seed: int, workers: int) -> Drawings:
    """The first `count` drawings, from the files that are there and for the rest from `workers` processes."""
    code = sorted(Path(synthetic_starter.__file__).parent.glob("synthetic*.py"))
    version = hashlib.sha256(b"".join(path.read_bytes() for path in code)).hexdigest()[:12]
    place = folder / f"{subject}-seed{seed}-{version}"
    place.mkdir(parents=True, exist_ok=True)
    firsts = range(0, count, SHARD)
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        files = list(pool.map(partial(_shard, subject, place, seed), firsts))
    shards = [np.load(file) for file in files]
    return Drawings(*(np.concatenate([shard[name] for shard in shards])[:count] for name in Drawings._fields))


def _shard(subject: str, place: Path, seed: int, first: int) -> Path:
    path = place / f"{first:08d}.npz"
    if not path.exists():
        whole_later = path.with_suffix(".tmp.npz")
        np.savez(whole_later, **draw_many(subject, first=first, count=SHARD, seed=seed)._asdict())
        whole_later.replace(path)
    return path


class Views(NamedTuple):
    """Crops of drawings as training sees them, and what is to be told of each."""

    images: Tensor
    targets: Tensor


def views(drawings: Drawings, rows: np.ndarray, augmentation: AugmentationSettings, rng: np.random.Generator) -> Views:
    """One augmented crop of each of the drawings; places are those within the crop."""
    side = drawings.images.shape[1]
    sizes = np.full((len(rows), 2), side)
    uniforms = np.stack([draw_uniforms(rng, 1) for _ in rows])
    params = draw_crops(uniforms, sizes, augmentation).global_crops.at(0)
    images = apply_crops(
        [drawings.images[row] for row in rows], params,
        size=augmentation.image_size, mean=augmentation.mean, std=augmentation.std,
    )  # fmt: skip
    top_left, size = params.boxes[:, None, 1::-1], params.boxes[:, None, :1:-1]
    places = np.clip((drawings.places[rows] * side - top_left) / size, -0.2, 1.2)
    targets = np.concatenate((drawings.values[rows], places.reshape(len(rows), -1)), axis=1)
    return Views(images, torch.from_numpy(targets.astype(np.float32)))


class Teller(nn.Module):
    """A backbone, and for each subject a linear layer from the CLS feature and one from the patches' mean."""

    def __init__(self, backbone: VisionTransformer, scales: dict[str, tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict()
        for subject, (mean, _) in scales.items():
            self.heads[f"{subject}_cls"] = nn.Linear(backbone.embed_dim, len(mean))
            self.heads[f"{subject}_mean"] = nn.Linear(backbone.embed_dim, len(mean))
        self.scales = scales

    def forward(self, batch: dict[str, Views]) -> dict[str, Tensor]:
        """Mean squared error of each subject's standardised targets, from CLS and from the patches, `[2, targets]`."""
        features = self.backbone.forward_features(torch.cat([view.images for view in batch.values()]))
        sizes = [len(view.images) for view in batch.values()]
        cls, mean = features.cls_BD.split(sizes), features.patches_BND.mean(1).split(sizes)
        errors = {}
        for number, (subject, view) in enumerate(batch.items()):
            center, spread = self.scales[subject]
            wanted = (view.targets - center) / spread
            told = torch.stack([self.heads[f"{subject}_cls"](cls[number]), self.heads[f"{subject}_mean"](mean[number])])
            errors[subject] = F.smooth_l1_loss(told, wanted.expand_as(told), reduction="none", beta=0.5).mean(1)
        return errors


class Progress(NamedTuple):
    """How far a training is: steps, or minutes, whichever it was given."""

    steps: int
    minutes: float
    started: float

    def share(self, step: int) -> float:
        """From 0 at the start to 1 at the end."""
        return step / self.steps if self.steps else (time.monotonic() - self.started) / 60 / self.minutes


def learning_rate(share: float, *, peak: float) -> float:
    """Up over the first 5 %, then half a cosine down to nothing."""
    return peak * min(1.0, share / 0.05 + 1e-3) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def train(
    teller: Teller,
    drawings: dict[str, Drawings],
    augmentation: AugmentationSettings,
    *,
    progress: Progress,
    batch_size: int,
    seed: int,
    peak: float,
) -> tuple[VisionTransformer, int, float]:
    """The moving average of the backbone over the training's last part, the steps, and the last losses' mean."""
    decayed = [p for p in teller.parameters() if p.ndim > 1]
    others = [p for p in teller.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}], lr=peak, fused=True
    )
    weights = list(teller.parameters())
    averages = [weight.detach().clone() for weight in weights]
    step, recent, batches = 0, 0.0, endless(drawings, augmentation, batch_size=batch_size, seed=seed)
    while (share := progress.share(step)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(share, peak=peak)
        errors = teller(next(batches))
        loss = torch.stack([error.mean() for error in errors.values()]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(averages, weights, 1 - min(0.999, 1 - 1 / (0.05 * step + 1)))
        recent = recent * 0.98 + 0.02 * loss.item() if step > 1 else loss.item()
        if step % 100 == 0:
            print(f"step {step:,}  {100 * share:.0f} %  loss {recent:.4f}", flush=True)
    with torch.no_grad():
        torch._foreach_copy_(weights, averages)
    return teller.backbone, step, recent


def endless(
    drawings: dict[str, Drawings], augmentation: AugmentationSettings, *, batch_size: int, seed: int
) -> Iterator[dict[str, Views]]:
    """Batches of all subjects, each drawing as often as the others."""
    total = sum(len(found.images) for found in drawings.values())
    shares = {subject: round(batch_size * len(found.images) / total) for subject, found in drawings.items()}
    for number in range(2**40):
        rng = generator(seed, "batch", number)
        yield {
            subject: views(found, rng.integers(0, len(found.images), shares[subject]), augmentation, rng)
            for subject, found in drawings.items()
        }


def laptop() -> PretrainSettings:
    """The settings of the laptop preset, all decided, for a start at random."""
    flags = {"train_dir": ".", "output_dir": ".", "preset": "laptop", "init_from": "none"}
    settings = settle(load_settings("hands", flags=flags).settings, num_images=1000).settings
    crops = settings.augmentation.model_copy(update={"num_global_crops": 1, "num_local_crops": 0})
    return settings.model_copy(update={"augmentation": crops})
