"""What a dry run warns of: settings that a run would accept and its user regret, each with the remedy."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sltdino.core.auto import FEW_IMAGES, Plan
from sltdino.core.auto_papers import PAPERS
from sltdino.core.distributed import World
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_base import known
from sltdino.core.starter import comes_with_preset
from sltdino.data.image_folder import ImageFolder
from sltdino.pretraining.finish import export_warning
from sltdino.pretraining.initial import start_warning
from sltdino.pretraining.measured import Load
from sltdino.pretraining.sample import Sample

ROWS_PER_PROTOTYPE = 1 / 32
"""Of the teacher's rows in one batch, below which Sinkhorn-Knopp is warned of.

Sinkhorn-Knopp gives every prototype the same share of a batch. With fewer rows than prototypes each row is spread over
several, which soft targets bear up to a point. SwAV (Caron et al. 2020) adds a queue where a batch of
256 meets 3,000 prototypes (1/12), because the assignment of a small batch is imprecise; DINOv2 (Oquab et al. 2023) has
no queue and 2 · 2,048 rows on 65,536 prototypes (1/16), or 2 · 3,072 on 131,072 (1/21). What is well below both is
warned of, whatever the number of images.
"""
TOO_FEW = 200
"""Images below which a run is warned of: even `--preset laptop` was made for hundreds."""
_SMALL_BATCH = 1 / 4
"""Of a paper's batch, below which a run is told: DINO loses under a point of k-NN with a quarter (table 9)."""
_STEPS_PER_EPOCH = 10  # at least, with as many accumulated batches as are advised
_DAY = 86_400.0
_SMALLEST_BATCH = 2  # that batch norm takes
_FULL = 0.9  # of the free memory; the estimate is known to be a tenth too low


class Advice(NamedTuple):
    """A warning."""

    topic: str
    """One word or two: `time`, `memory`, …"""
    text: str
    remedy: str


def advise_settings(settings: PretrainSettings, world: World) -> Iterator[Advice]:
    """What follows from settled settings alone."""
    if settings.stream.startswith("hand") and settings.augmentation.hflip_prob > 0:
        share = settings.augmentation.hflip_prob
        yield Advice(
            "flip",
            f"{share:.0%} of the crops are mirrored, and in signing left and right mean something",
            "--aug-hflip-prob 0",
        )
    rows, prototypes = 2 * settings.dataset.batch_size * world.size, known(settings.head.out_dim)
    if known(settings.loss.use_sinkhorn) and rows < ROWS_PER_PROTOTYPE * prototypes:
        batch = int(ROWS_PER_PROTOTYPE * prototypes / 2 / world.size)
        yield Advice(
            "prototypes",
            f"Sinkhorn-Knopp spreads the {rows:,} teacher crops of a batch over {prototypes:,} prototypes, fewer than "
            "one for 32 of them; SwAV and DINOv2 have more (accumulated batches do not count together)",
            f"--batch-size {batch} or more, --out-dim {int(rows / ROWS_PER_PROTOTYPE)} or less, or --no-use-sinkhorn",
        )
    if warning := export_warning(settings):
        yield Advice("export", warning, "--vit-registers 0")
    if warning := start_warning(settings):
        yield Advice("start", warning, "--init-from dinov2_vits14_reg4_pretrain.pth")


def advise_folder(out: Path, others: Sequence[str]) -> Iterator[Advice]:
    """What follows from files of others in the run folder."""
    if others:
        yield Advice("folder", others_text(out, others), "another --output-dir")


def others_text(out: Path, names: Sequence[str]) -> str:
    """Files of others, and what they mean for a run beside them."""
    what = f"{len(names):,} other files or folders, such as" if len(names) > 1 else "another file or folder,"
    return f"{out}: holds {what} {names[0]!r}; a run is easier to keep in a folder of its own"


def advise_bad_images(settings: PretrainSettings, sample: Sample) -> Iterator[Advice]:
    """What follows from how many images can be read, where it is not certain that a run stops at them."""
    allowed = settings.dataset.max_bad_fraction
    if sample.num_bad > allowed * sample.tried:
        yield Advice(
            "bad images",
            f"{sample.num_bad} of {sample.tried} tried cannot be read, such as {sample.bad_files[0].path}; a run stops "
            f"above {allowed:.0%}",
            "look at these files, or a higher --dataset-max-bad-fraction",
        )


def advise_data(settings: PretrainSettings, images: ImageFolder, steps: Plan) -> Iterator[Advice]:
    """What follows from the images, and from how often they are seen."""
    number, local = len(images), known(settings.augmentation.num_local_crops)
    if number < TOO_FEW:
        yield Advice(
            "images",
            f"{number:,} {'is' if number == 1 else 'are'} too few to learn from, whatever the loss says",
            f"more images: {TOO_FEW} at the least, better thousands",
        )
    if local and number < FEW_IMAGES:
        yield Advice(
            "local crops",
            f"{local} local crops of {number:,} images: under {FEW_IMAGES:,} images they teach light and colour",
            "--num-local-crops 0",
        )
    if settings.preset in PAPERS:
        yield from _advise_paper(settings, number, steps)
    horizon = ema_horizon(settings)
    if steps.total_steps and horizon > steps.total_steps:
        fitting = max(0.5, 1 - 15 / steps.total_steps)
        yield Advice(
            "teacher",
            f"it averages over the last {horizon:,.0f} steps and the run has {steps.total_steps:,}: it stays near its "
            "random start",
            f"--teacher-momentum-base {fitting:.4g} or less, or more --epochs",
        )


def _advise_paper(settings: PretrainSettings, number: int, steps: Plan) -> Iterator[Advice]:
    """What follows from how far a run is from that of the paper."""
    name, paper, passes = settings.preset, PAPERS[settings.preset], settings.optimizer.accumulate_steps
    if number < FEW_IMAGES:
        yield Advice(
            "preset",
            f"{name} is a recipe for over a million images, and there are {number:,}: under {FEW_IMAGES:,} its loss is "
            "prone to stay at that of guessing",
            f"--preset none{' or laptop' * (settings.init_from is None)}, with automatic values measured on few images",
        )
    most = min(paper.images_per_step, number // _STEPS_PER_EPOCH) // (steps.images_per_step // passes)
    if steps.images_per_step < _SMALL_BATCH * paper.images_per_step and most > passes:
        yield Advice(
            "batch",
            f"a step has {steps.images_per_step:,} images, and the recipe of preset {name} is for "
            f"{paper.images_per_step:,}: the learning rate follows, no other value does",
            f"a larger --batch-size, or --accumulate-steps {most}",
        )
    seen = steps.total_steps * steps.images_per_step
    if paper.images_seen and seen > 2 * paper.images_seen:
        yield Advice(
            "length",
            f"{known(settings.epochs):g} epochs show {seen:,} images, and {paper.images_seen:,} in the paper behind "
            f"preset {name}: its epochs were no passes over the data",
            f"--epochs {max(1, round(known(settings.epochs) * paper.images_seen / seen))}",
        )


def advise_load(load: Load) -> Iterator[Advice]:
    """What follows from other programs on the same cores."""
    if load.is_busy:
        yield Advice("load", load_text(load), "the dry run again when they are idle")


def load_text(load: Load) -> str:
    """Other programs, and what they mean for what is timed."""
    return f"other programs use these cores (load {load.average:.1f} on {load.cores} cores): the time is an upper bound"


def advise_resources(
    settings: PretrainSettings, origins: Mapping[str, str], world: World, *, seconds: float, memory: int,
    free_memory: int, disk: int, free_disk: int,
) -> Iterator[Advice]:  # fmt: skip
    """What follows from estimates, in seconds and bytes, and from what is there. Nothing that is set is advised."""
    if seconds > _DAY:
        yield Advice(
            "time",
            f"this machine would need {seconds / _DAY:.1f} days by this estimate",
            ", ".join(_quicker(settings, origins)) + (", or a GPU" if world.device == "cpu" else ", or fewer --epochs"),
        )
    if memory > _FULL * free_memory:
        yield Advice(
            "memory",
            f"the run needs about {memory / 1e9:.1f} GB and {free_memory / 1e9:.1f} GB are free",
            (
                "a smaller --batch-size with --accumulate-steps, or "
                if settings.dataset.batch_size > _SMALLEST_BATCH
                else ""
            )
            + "a smaller --image-size",
        )
    if disk > free_disk:
        yield Advice(
            "disk",
            f"the run writes up to {disk / 1e9:.2f} GB and {free_disk / 1e9:.2f} GB are free",
            "free some space or choose another --output-dir",
        )


def ema_horizon(settings: PretrainSettings) -> float:
    """Steps that the teacher averages over at the start, 1 / (1 - m); infinite for a momentum of 1."""
    momentum = known(settings.optimizer.teacher_momentum_base)
    return 1 / (1 - momentum) if momentum < 1 else float("inf")


def _quicker(settings: PretrainSettings, origins: Mapping[str, str]) -> Iterator[str]:
    if settings.preset != "laptop" and settings.init_from is None:  # its network is another one than the weights'
        yield "--preset laptop"
    if settings.init_from is None or comes_with_preset(settings, origins):  # which gives way to another size
        yield "a smaller --vit-embed-dim or --vit-depth"
    if known(settings.augmentation.num_local_crops):
        yield "fewer --num-local-crops"
    yield "a smaller --image-size"
