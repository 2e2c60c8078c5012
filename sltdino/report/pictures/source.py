"""What the pictures of a run's features are made from: its backbone, and a fixed sample of its own images."""

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sltdino.core.run_files import has_checkpoint, read_names
from sltdino.core.settings import PretrainSettings
from sltdino.data.image_folder import ImageFolder, scan
from sltdino.errors import MissingInputError, SltDinoError
from sltdino.evaluation.features import Pixels
from sltdino.evaluation.image_sample import ImageGroups, ImageSample, groups_of, read_sample, spread_sample
from sltdino.exporting.backbone import load_trained_backbone
from sltdino.models.cost import forward_flops, step_shape
from sltdino.models.vit import VisionTransformer
from sltdino.report.pictures.raster import RGB, denormalized
from sltdino.report.text.page import short

_MOST_IMAGES, _FEWEST_IMAGES = 600, 48
_FLOPS = 1.6e12  # 174 images for a ViT-S/16 at 224 px: about 20 s on one core
_NAME_WIDTH = 36


class Source(NamedTuple):
    """A network and images it is shown."""

    network: VisionTransformer
    network_name: str
    """Which one: `the teacher's backbone of checkpoint_best.pt (best, step 1,520)`."""
    pixels: Pixels
    sample: ImageSample
    sample_name: str
    """Which images: `300 of 316 validation images (/data/crops/val)`."""
    groups: ImageGroups

    def inputs(self, count: int) -> Tensor:
        """The first images of the sample as the network takes them, `[n, 3, S, S]`."""
        return torch.stack([self.pixels.load(path) for path in self.sample.paths[:count]])

    def shown(self, inputs: Tensor) -> list[RGB]:
        """Inputs as pictures."""
        return list(denormalized(inputs, mean=self.pixels.mean, std=self.pixels.std))

    def name(self, index: int) -> str:
        """An image in words: its file name, and its label where it has one."""
        label = self.sample.labels[index]
        return short(self.sample.paths[index].name, _NAME_WIDTH) + (f" ({short(label, _NAME_WIDTH)})" if label else "")


def load_source(
    run: Path,
    settings: PretrainSettings,
    *,
    training_images: Callable[[], ImageFolder],
    pattern: re.Pattern[str] | None = None,
) -> Source:
    """Load the best checkpoint of a run (the last where it has no best), and embed a sample of its images.

    The sample is of the validation images where the run has some, else of the training images; as many as one core
    embeds in about 20 s, at most 600.

    Args:
        training_images: lists those of the run; not called where it has validation images.
        pattern: of signers or videos in the files' names, as for `groups_of`.

    Raises:
        MissingInputError, DataError: no checkpoint yet, or no images where the run had them. CheckpointError: a damaged
            checkpoint.
    """
    names = read_names(run)
    if not has_checkpoint(run) and not (run / names.best_name).exists():
        raise MissingInputError(
            f"{run}: has no checkpoint yet, so there are no features to show; make the report again after its first"
        )
    best = (run / names.best_name).exists()
    backbone = load_trained_backbone(run, which="best" if best else "last")
    kind, where, gone, images = _images(run, settings, training_images)
    pixels = Pixels(backbone.network.image_size, backbone.mean, backbone.std)
    a_forward = forward_flops(step_shape(settings.vit, settings.head, settings.augmentation), pixels.size)
    wanted = min(_MOST_IMAGES, max(_FEWEST_IMAGES, int(_FLOPS / a_forward)))
    sample = read_sample(backbone.network, images, spread_sample(images, wanted), pixels)
    left_out = f"; {sample.unreadable} cannot be read and are left out" if sample.unreadable else ""
    rank, step = "best" if best else "last, there is no best", backbone.metadata["global_step"]
    return Source(
        backbone.network,
        f"the teacher's backbone of {backbone.metadata['checkpoint']} ({rank}; step {step:,})",
        pixels,
        sample,
        f"{_counted(len(sample.paths), len(images))} {kind} images ({', '.join(map(str, where))}){gone}{left_out}",
        groups_of(sample.paths, where, pattern=pattern),
    )


def _counted(some: int, whole: int) -> str:
    return f"all {whole:,}" if some == whole else f"{some:,} of {whole:,}"


class _Images(NamedTuple):
    kind: str
    where: Sequence[Path]
    gone: str
    """What is said of the images that should have been taken and are not there; empty without such."""
    images: ImageFolder


def _images(run: Path, settings: PretrainSettings, training_images: Callable[[], ImageFolder]) -> _Images:
    """Validation images where there are some, else training images."""
    val_dir = settings.evaluation.val_dir
    if val_dir is not None and val_dir.exists():
        return _Images("validation", [val_dir], "", scan([val_dir]))
    gone = "" if val_dir is None else f"; the validation images are not in {val_dir} any more"
    try:
        return _Images("training", settings.train_dir, gone, training_images())
    except SltDinoError as error:
        again = f"put the images back and run sltdino inspect {shlex.quote(str(run))} again"
        raise MissingInputError(f"{error}{gone}; {again}") from error
