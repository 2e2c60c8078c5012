"""Make the starter weights: draw hands and faces, and train the laptop preset's backbone to tell what was drawn.

    python tools/make_starter.py --images 40000 --minutes 30 --threads 2 --output sltdino/starter/starter.pt

Nothing but drawings of our own is seen. They are kept for the next call, in a
folder named after the code that drew them.
"""

import hashlib
import math
import shlex
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from sltdino.core import json_files
from sltdino.core.auto import settle
from sltdino.core.environment import git_revision, version
from sltdino.core.rng import generator
from sltdino.core.settings import AugmentationSettings, PretrainSettings
from sltdino.core.settings_base import known
from sltdino.core.settings_files import load_settings
from sltdino.data import synthetic_starter
from sltdino.data.crops import draw_crops, draw_uniforms
from sltdino.data.kernels import apply_crops
from sltdino.data.synthetic_starter import SUBJECTS, Drawings, draw_many
from sltdino.exporting import to_slt
from sltdino.exporting.backbone import TrainedBackbone, network_shape
from sltdino.exporting.outputs import ExportReport
from sltdino.models.vit import VisionTransformer, patches
from sltdino.models.whitening import whiten_patch_embedding

SHARD = 1000
"""Drawings in a file."""
HELD_OUT = 1000
"""Drawings of each subject that are only looked at."""
FACES = 1 / 3
"""Of the drawings."""
MOST_BYTES = 8_000_000
"""Of the file: it comes with every installation."""


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
    plain: Tensor
    """The plain drawings in the same crops, at half the size, in -1..1."""
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
    plain = _cut(torch.from_numpy(drawings.plain[rows]), torch.from_numpy(params.boxes), side, images.shape[-1] // 2)
    return Views(images, plain, torch.from_numpy(targets.astype(np.float32)))


def _cut(plain_BSS3: Tensor, boxes_B4: Tensor, side: int, size: int) -> Tensor:
    """The boxes (top, left, height, width in pixels of `side`) of pictures, `[B, 3, size, size]`."""
    top, left, height, width = (boxes_B4.float() / side).unbind(1)
    zero = torch.zeros_like(top)
    across = torch.stack((width, zero, 2 * left + width - 1), dim=1)
    down = torch.stack((zero, height, 2 * top + height - 1), dim=1)
    grid = F.affine_grid(torch.stack((across, down), dim=1), [len(top), 3, size, size], align_corners=False)
    pictures = plain_BSS3.permute(0, 3, 1, 2).float() / 127.5 - 1
    return F.grid_sample(pictures, grid, align_corners=False, padding_mode="border")


class Told(NamedTuple):
    """How far off is what a network tells of drawings: zero is perfect."""

    cls: Tensor
    """Of each of the standardised targets, from the CLS feature."""
    mean: Tensor
    """Of them all, from the patches' mean."""
    plain: Tensor
    """Of the plain picture."""


class Teller(nn.Module):
    """A backbone, and for each subject a linear layer from the CLS feature and one from the patches' mean.

    A third, from each patch, draws the plain picture of the patch.
    """

    def __init__(self, backbone: VisionTransformer, scales: dict[str, tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.backbone = backbone
        self.patch_size = backbone.patch_embed.patch_size // 2
        self.heads = nn.ModuleDict()
        for subject, (mean, _) in scales.items():
            self.heads[f"{subject}_cls"] = nn.Linear(backbone.embed_dim, len(mean))
            self.heads[f"{subject}_mean"] = nn.Linear(backbone.embed_dim, len(mean))
            self.heads[f"{subject}_plain"] = nn.Linear(backbone.embed_dim, 3 * self.patch_size**2)
        self.scales = scales

    def forward(self, batch: dict[str, Views]) -> dict[str, Told]:
        """How far off is what it tells of each subject."""
        features = self.backbone.forward_features(torch.cat([view.images for view in batch.values()]))
        sizes = [len(view.images) for view in batch.values()]
        split = zip(
            batch.items(), torch.split(features.cls_BD, sizes), torch.split(features.patches_BND, sizes), strict=True
        )
        found = {}
        for (subject, view), cls, tokens in split:
            center, spread = self.scales[subject]
            wanted = (view.targets - center) / spread
            of_cls, of_mean = self.heads[f"{subject}_cls"](cls), self.heads[f"{subject}_mean"](tokens.mean(1))
            drawn = self.heads[f"{subject}_plain"](tokens)
            found[subject] = Told(
                F.smooth_l1_loss(of_cls, wanted, reduction="none", beta=0.5).mean(0),
                F.smooth_l1_loss(of_mean, wanted, beta=0.5),
                F.mse_loss(drawn, patches(view.plain, self.patch_size)),
            )
        return found


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
    weights: list[Tensor] = list(teller.parameters())
    averages = [weight.detach().clone() for weight in weights]
    step, recent, batches = 0, 0.0, endless(drawings, augmentation, batch_size=batch_size, seed=seed)
    while (share := progress.share(step)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(share, peak=peak)
        told = teller(next(batches)).values()
        loss = torch.stack([error.cls.mean() + 0.5 * error.mean + error.plain for error in told]).mean()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
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


def write(network: VisionTransformer, settings: PretrainSettings, path: Path, facts: dict[str, Any]) -> ExportReport:
    """Write the weights as SLT's container in float16, and prove that it computes what the rounded network does."""
    with torch.no_grad():
        for value in network.state_dict().values():
            value.copy_(value.half())
    crops = settings.augmentation
    metadata = {
        "stream": "hand and face",
        "algorithm": "drawings",
        "backbone": network_shape(network),
        "trained_with": {
            "mean": list(crops.mean), "std": list(crops.std), "layer_norm_eps": known(settings.vit.layer_norm_eps),
        },
        **facts,
    }  # fmt: skip
    backbone = TrainedBackbone(network.eval().requires_grad_(False), crops.mean, crops.std, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    report = to_slt.write(backbone, path, dtype=torch.float16)
    if report.num_bytes > MOST_BYTES:
        raise SystemExit(f"{path}: {report.num_bytes:,} bytes, and more than {MOST_BYTES:,} are too many for a package")
    return report


def main(
    images: Annotated[int, typer.Option(min=100, help="Drawings to learn from.")] = 40_000,
    minutes: Annotated[float, typer.Option(min=0, help="How long to train.")] = 30.0,
    steps: Annotated[int, typer.Option(min=0, help="How long to train, instead of --minutes.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads that train, and processes that draw.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the drawings, their crops and the network.")] = 0,
    batch_size: Annotated[int, typer.Option(min=2, help="Drawings in a step.")] = 96,
    learning_rate: Annotated[float, typer.Option(min=0, help="At its highest.")] = 1e-3,
    drawings: Annotated[Path, typer.Option(help="Where the drawings are kept.")] = Path("work_dirs/drawings"),
    output: Annotated[Path, typer.Option(help="The file to write.")] = Path("sltdino/starter/starter.pt"),
) -> None:
    """Make the starter weights."""
    torch.set_num_threads(threads)
    settings = laptop()
    faces = round(images * FACES)
    found = {
        subject: draw_all(subject, drawings, count=count + HELD_OUT, seed=seed, workers=threads)
        for subject, count in (("hand", images - faces), ("face", faces))
    }
    print(f"{images:,} drawings to learn from, {HELD_OUT:,} of hands and of faces held out", flush=True)
    held_out = {subject: drawn.at(slice(HELD_OUT)) for subject, drawn in found.items()}
    learnt = {subject: drawn.at(slice(HELD_OUT, None)) for subject, drawn in found.items()}
    teller = fresh(settings, learnt, seed=seed)
    progress = Progress(steps, minutes, time.monotonic())
    network, done, loss = train(
        teller, learnt, settings.augmentation,
        progress=progress, batch_size=batch_size, seed=seed, peak=learning_rate,
    )  # fmt: skip
    errors = held_out_errors(teller, held_out, settings.augmentation)
    facts = {
        "command": shlex.join(["python", "tools/make_starter.py", *sys.argv[1:]]),
        "seed": seed, "drawings": images, "steps": done, "loss": loss, "held_out": errors,
        "sltdino": version("sltdino"), "git_revision": git_revision(), "date": json_files.now(),
    }  # fmt: skip
    report = write(network, settings, output, facts)
    print(f"{output}: {report.num_bytes:,} bytes, sha256 {report.sha256}")


def fresh(settings: PretrainSettings, drawings: dict[str, Drawings], *, seed: int) -> Teller:
    """The network before training, its patch embedding whitened on drawings."""
    torch.manual_seed(seed)
    backbone = VisionTransformer(settings.vit, image_size=settings.augmentation.image_size)
    scales, seen = {}, []
    for subject, found in drawings.items():
        rows = np.arange(min(512, len(found.images)))
        view = views(found, rows, settings.augmentation, generator(seed, "scales", subject))
        scales[subject] = (view.targets.mean(0), view.targets.std(0) + 1e-3)
        seen.append(view.images)
    whiten_patch_embedding(backbone.patch_embed, torch.cat(seen))
    return Teller(backbone, scales)


@torch.no_grad()
def held_out_errors(
    teller: Teller, drawings: dict[str, Drawings], augmentation: AugmentationSettings
) -> dict[str, float]:
    """The mean error on held-out drawings, from the CLS feature, and each target's on the way."""
    teller.eval()
    rows = np.arange(HELD_OUT)
    batch = {
        subject: views(found, rows, augmentation, generator(0, "held out", subject))
        for subject, found in drawings.items()
    }
    errors = teller(batch)
    for subject, error in errors.items():
        places = [f"{part} {axis}" for part in SUBJECTS[subject].places for axis in ("x", "y")]
        for name, value in zip((*SUBJECTS[subject].values, *places), error.cls.tolist(), strict=True):
            print(f"  {subject:<5} {name:<24} {value:.3f}")
    means = {
        f"{subject} {name}": round(value.mean().item(), 4)
        for subject, error in errors.items()
        for name, value in error._asdict().items()
    }
    print("held out:", ", ".join(f"{name} {value:.3f}" for name, value in means.items()), flush=True)
    return means


if __name__ == "__main__":
    typer.run(main)
