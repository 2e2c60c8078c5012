"""What follows a run without labels: a fixed sample of images, embedded whole, in two views, and by clips."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sltdino.core.rng import generator
from sltdino.core.settings import AugmentationSettings
from sltdino.data.crops import draw_crops, draw_uniforms
from sltdino.data.decode import BadImage, decode
from sltdino.data.image_folder import ImageFolder
from sltdino.data.kernels import apply_crops
from sltdino.errors import DataError, DivergedError
from sltdino.evaluation.clip_sample import ClipSample, sample_clips
from sltdino.evaluation.features import Pixels, raw_pixels
from sltdino.evaluation.label_free import alignment, clip_retrieval, feature_std, rankme, uniformity
from sltdino.models.vit import VisionTransformer

MAX_IMAGES, MAX_PAIRS = 2_000, 500
"""Images that a probe looks at whole and in two views, at most. Ranks of features as wide as ViT-B's need the first."""
_BATCH = 128  # images that go through the network together

_Embed = Callable[[Tensor], Tensor]


class _Inputs(NamedTuple):
    """What an image becomes for a network."""

    row: int
    """Its place in the sample."""
    inputs: tuple[Tensor, ...]
    """`[3, S, S]` each: the whole image, and perhaps its two views."""


class LabelFreeProbe:
    """Measures of a backbone's CLS features on a fixed sample, the same one whatever the run's seed.

    Args:
        augmentation: the run's own; its global crops are the two views of an image, cut and coloured alike every time.
        use: what the images are for.
        on_bad: called with the path and reason of an image that cannot be read, at every evaluation that leaves it out.
    """

    def __init__(
        self,
        images: ImageFolder,
        augmentation: AugmentationSettings,
        *,
        use: Literal["training", "validation"],
        on_bad: Callable[[Path, str], None],
    ) -> None:
        self.augmentation, self.use, self.on_bad = augmentation, use, on_bad
        self.pixels = Pixels(augmentation.image_size, augmentation.mean, augmentation.std)
        chosen = generator(0, "label-free").permutation(len(images))[:MAX_IMAGES].tolist()
        self.paths = tuple(images.path(index) for index in chosen)
        self.num_pairs = min(MAX_PAIRS, len(chosen))
        self.clips: ClipSample = sample_clips(images)

    @property
    def num_inputs(self) -> int:
        """Images that go through the network at every evaluation; each view counts."""
        return len(self.paths) + 2 * self.num_pairs + len(self.clips.paths)

    @property
    def sample(self) -> str:
        """In words, for the record."""
        clips = f", {len(self.clips.paths):,} frames of {self.clips.num_clips} clips" if self.clips.paths else ""
        return f"{len(self.paths):,} {self.use} images, {self.num_pairs:,} of them in two views{clips}"

    def measure(self, backbone: VisionTransformer, device: str) -> dict[str, float]:
        """`rankme`, `rankme_max`, `feature_std`, `alignment`, `uniformity`, and `clip_retrieval` where there are clips.

        What no two images can be read for is left out: all, of training images.

        Raises:
            DataError: hardly any of the validation images can be read. DivergedError: features are not finite.
        """
        was_training = backbone.training
        backbone.eval()
        try:
            return self._measure(lambda images: backbone(images.to(device)).float().cpu())
        finally:
            backbone.train(was_training)

    def pixel_retrieval(self) -> float | None:
        """The baseline of `clip_retrieval`: the same on raw pixels; None where there are no clips."""
        return self._retrieval(raw_pixels)

    def _measure(self, embed: _Embed) -> dict[str, float]:
        rows, features = self._embed(self.paths, self._whole_and_views, embed)
        if len(rows) < 2 and self.use == "validation":
            raise DataError(f"{len(rows)} of {len(self.paths)} validation images can be read; look at {self.paths[0]}")
        if len(rows) < 2:
            return {}
        views = [number for number, row in enumerate(rows) if row < self.num_pairs]
        whole = torch.stack([of_image[0] for of_image in features])
        found = {
            "rankme": rankme(whole), "rankme_max": min(whole.shape), "feature_std": feature_std(whole)
        }  # fmt: skip
        if views:
            one, other = (torch.stack([features[number][view] for number in views]) for view in (1, 2))
            found["alignment"] = alignment(one, other)
        found["uniformity"] = uniformity(whole)
        retrieval = self._retrieval(embed)
        return found if retrieval is None else found | {"clip_retrieval": retrieval}

    def _retrieval(self, embed: _Embed) -> float | None:
        rows, features = self._embed(self.clips.paths, lambda _, image: (self.pixels.prepare(image),), embed)
        clips_N = self.clips.clips_N[rows]
        if len(set(clips_N.tolist())) < 2:
            return None
        return clip_retrieval(torch.cat(features), clips_N)

    def _whole_and_views(self, row: int, image: NDArray[np.uint8]) -> tuple[Tensor, ...]:
        whole = self.pixels.prepare(image)
        return (whole, *self._views(row, image)) if row < self.num_pairs else (whole,)

    def _views(self, row: int, image: NDArray[np.uint8]) -> Tensor:
        """The two global crops of an image, `[2, 3, S, S]`: a function of its place in the sample alone."""
        crops = self.augmentation
        uniforms_1CK = draw_uniforms(generator(0, "views", row), crops.num_global_crops)[None]
        drawn = draw_crops(uniforms_1CK, np.array([image.shape[:2]]), crops).global_crops.at((slice(None), 0))
        return apply_crops([image] * len(drawn.hue), drawn, size=crops.image_size, mean=crops.mean, std=crops.std)

    def _embed(
        self, paths: Sequence[Path], inputs: Callable[[int, NDArray[np.uint8]], tuple[Tensor, ...]], embed: _Embed
    ) -> tuple[list[int], list[Tensor]]:
        """The rows of the images that can be read, and of each the features of all its inputs, `[inputs, D]`."""
        rows, features = list[int](), list[Tensor]()
        with torch.no_grad():
            for batch in self._batches(paths, inputs):
                found = embed(torch.stack([image for item in batch for image in item.inputs]))
                if not torch.isfinite(found).all():
                    raise DivergedError(f"features of {self.use} images are not finite, such as {paths[batch[0].row]}")
                features += torch.split(found, [len(item.inputs) for item in batch])
                rows += [item.row for item in batch]
        return rows, features

    def _batches(
        self, paths: Sequence[Path], inputs: Callable[[int, NDArray[np.uint8]], tuple[Tensor, ...]]
    ) -> Iterator[list[_Inputs]]:
        batch, number = list[_Inputs](), 0
        for row, path in enumerate(paths):
            try:
                item = _Inputs(row, inputs(row, decode(path)))
            except BadImage as bad:
                self.on_bad(path, bad.reason)
                continue
            if number + len(item.inputs) > _BATCH:
                yield batch
                batch, number = [], 0
            batch.append(item)
            number += len(item.inputs)
        if batch:
            yield batch
