"""Make the starter weights: draw hands and faces, and train the laptop preset's backbone to tell what was drawn.

    python tools/make_starter.py

Nothing but drawings of our own is seen. They are kept for the next call, in folders named after the code that drew
them. Needs torch 2.9 or later, which has Muon.
"""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import PIL
import torch
import typer
from _starter_training import Told, errors_on, fresh, train

import sltdino
from sltdino.core import files
from sltdino.core.auto import settle
from sltdino.core.environment import git_revision
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_base import known
from sltdino.core.settings_files import load_settings
from sltdino.data import synthetic_starter
from sltdino.data.synthetic_starter import SUBJECTS, Drawings, draw_many
from sltdino.exporting import to_slt
from sltdino.exporting.backbone import TrainedBackbone, network_shape
from sltdino.exporting.outputs import ExportReport
from sltdino.models.vit import VisionTransformer

SHARD = 500
"""Drawings in a file."""
FACES = 1 / 3
"""Of the drawings."""
MOST_BYTES = 8_000_000
"""Of the file: it comes with every installation."""


def main(
    images: Annotated[int, typer.Option(min=10, help="Drawings to learn from.")] = 60_000,
    held_out: Annotated[int, typer.Option(min=1, help="More of hands and of faces, which are only judged.")] = 1000,
    steps: Annotated[int, typer.Option(min=1, help="How long to train.")] = 10_000,
    batch_size: Annotated[int, typer.Option(min=2, help="Drawings in a step.")] = 64,
    threads: Annotated[int, typer.Option(min=1, help="Threads that train, and processes that draw.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the drawings, their crops and the network.")] = 0,
    drawings: Annotated[Path, typer.Option(help="Where the drawings are kept.")] = Path("work_dirs/drawings"),
    output: Annotated[Path, typer.Option(help="The file to write.")] = Path("sltdino/starter/starter.pt"),
) -> None:
    """Make the starter weights."""
    if not hasattr(torch.optim, "Muon"):
        raise SystemExit(f"torch {torch.__version__} has no Muon optimizer: install torch 2.9 or later")
    torch.set_num_threads(threads)
    settings, faces = laptop(), round(images * FACES)
    learnt, judged = dict[str, Drawings](), dict[str, Drawings]()
    for subject, count in (("hand", images - faces), ("face", faces)):
        drawn = draw_all(subject, drawings, count=held_out + count, seed=seed, workers=threads)
        judged[subject], learnt[subject] = drawn.at(slice(held_out)), drawn.at(slice(held_out, None))
        print(f"{count:,} {subject}s to learn from, {held_out:,} held out", flush=True)
    crops = settings.augmentation
    teller = fresh(settings.vit, crops, learnt, seed=seed)
    num_bytes = 2 * sum(value.numel() for value in teller.backbone.parameters())
    if num_bytes > MOST_BYTES:
        raise SystemExit(f"{num_bytes:,} bytes of weights, and more than {MOST_BYTES:,} are too many for a package")
    loss = train(teller, learnt, crops, num_steps=steps, batch_size=batch_size, seed=seed)
    errors = shown(errors_on(teller, judged, crops))
    options = {
        "--images": images, "--held-out": held_out, "--steps": steps, "--batch-size": batch_size,
        "--threads": threads, "--seed": seed,
    }  # fmt: skip
    facts = {
        "command": " ".join(["python tools/make_starter.py", *(f"{name} {value}" for name, value in options.items())]),
        "seed": seed, "drawings": images, "steps": steps, "loss": loss, "held_out": errors,
        "sltdino": sltdino.__version__, "git_revision": git_revision(),
        "made_with": {"torch": str(torch.__version__), "numpy": np.__version__, "pillow": PIL.__version__},
    }  # fmt: skip
    report = write(teller.backbone, settings, output, facts)
    print(f"{output}: {report.num_bytes:,} bytes, sha256 {report.sha256}")


def laptop() -> PretrainSettings:
    """The settings of the laptop preset for a start without weights, with one crop of each image and nothing `auto`.

    Crops are not turned: the drawings are, and what is known of their places is of upright crops.
    """
    flags = {"train_dir": ".", "preset": "laptop", "init_from": "none"}
    settings = settle(load_settings("hands", flags=flags).settings, num_images=1000).settings
    crops = settings.augmentation.model_copy(update={"num_global_crops": 1, "num_local_crops": 0, "rotation": 0.0})
    return settings.model_copy(update={"augmentation": crops})


def draw_all(subject: str, folder: Path, *, count: int, seed: int, workers: int) -> Drawings:
    """The first `count` drawings of a subject: from the files that are there, the rest drawn by `workers` processes."""
    code = sorted(Path(synthetic_starter.__file__).parent.glob("synthetic*.py"))
    drawn_by = hashlib.sha256(b"".join(path.read_bytes() for path in code)).hexdigest()[:12]
    place = folder / f"{subject}-seed{seed}-{drawn_by}"
    place.mkdir(parents=True, exist_ok=True)
    files = _mapped(partial(_shard, subject, place, seed), range(0, count, SHARD), workers)
    shards = []
    for file in files:
        with np.load(file) as found:
            shards.append(Drawings(*(found[name] for name in Drawings._fields)))
        print(f"\r{subject}s: {min(count, SHARD * len(shards)):,} of {count:,}", end="", flush=True)
    print()
    return Drawings(*(np.concatenate(parts) for parts in zip(*shards, strict=True))).at(slice(count))


def _shard(subject: str, place: Path, seed: int, first: int) -> Path:
    path = place / f"{first:08d}.npz"
    if not path.exists():
        drawings = draw_many(subject, first=first, count=SHARD, seed=seed)
        with files.new_file(path) as file:
            np.savez(file, **drawings._asdict())
    return path


def _mapped(work: Callable[[int], Path], firsts: Iterable[int], workers: int) -> Iterable[Path]:
    if workers == 1:
        yield from map(work, firsts)
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:  # spawned: torch may have threads already
        yield from pool.map(work, firsts)


def shown(errors: dict[str, Told]) -> dict[str, float]:
    """Print the error of each target, and return the means."""
    means: dict[str, float] = {}
    for subject, error in errors.items():
        places = [f"{part} {axis}" for part in SUBJECTS[subject].places for axis in ("from the left", "from the top")]
        for name, value in zip((*SUBJECTS[subject].values, *places), error.cls.tolist(), strict=True):
            print(f"  {subject}, {name:<26} {value:.3f}")
        means |= {f"{subject}_{name}": round(value.mean().item(), 4) for name, value in error._asdict().items()}
    print("on held-out drawings:", ", ".join(f"{name} {value:.3f}" for name, value in means.items()))
    return means


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
    return to_slt.write(backbone, path, dtype=torch.float16)


if __name__ == "__main__":
    typer.run(main)
