"""The weighted k-NN that follows a run: how good the backbone's features are on labelled folders."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sltdino.core.rng import generator
from sltdino.data.image_folder import ImageFolder
from sltdino.errors import DataError, SettingsError
from sltdino.evaluation.features import Pixels, raw_pixels, readable_batches
from sltdino.evaluation.knn import knn_accuracy, leave_one_out_accuracy
from sltdino.models.vit import VisionTransformer

MAX_BANK, MAX_QUERIES = 10_000, 5_000
"""Labelled images a probe looks at, at most; a fixed random sample of larger sets."""
_BATCH = 128  # images that go through the network together


class Labelled(NamedTuple):
    """Images with known labels."""

    paths: tuple[Path, ...]
    labels_M: Tensor


class KnnProbe:
    """Weighted k-NN accuracy of a backbone on held-out images, always the same ones.

    The neighbours come from the training folders where these have the validation labels as sub-folders. Where they have
    none, every validation image is judged by the others (leave one out).

    Args:
        on_bad: called with the path and reason of an image that cannot be read, at every evaluation that leaves it out.
    """

    def __init__(
        self,
        train: ImageFolder,
        val: ImageFolder,
        pixels: Pixels,
        *,
        k: int,
        temp: float,
        on_bad: Callable[[Path, str], None],
    ) -> None:
        labels = sorted(set(val.labels) - {""})
        if len(labels) < 2:
            raise SettingsError(
                f"--val-dir: needs a sub-folder for each of at least two labels (found {', '.join(labels) or 'none'})"
            )
        self.pixels, self.k, self.temp, self.on_bad = pixels, k, temp, on_bad
        self.bank = _sample(train, labels, MAX_BANK)
        self.queries = _sample(val, labels, MAX_QUERIES)
        self.leave_one_out = len(set(self.bank.labels_M.tolist())) < 2

    @property
    def protocol(self) -> str:
        """In words, for the record."""
        source = "the other validation images" if self.leave_one_out else f"{len(self.bank.paths):,} training images"
        return f"weighted {self.k}-NN, {len(self.queries.paths):,} validation images against {source}"

    def accuracy(self, backbone: VisionTransformer, device: str) -> float:
        """Accuracy 0..1 of the backbone's CLS features.

        Raises:
            DataError: hardly any of the images can be read.
        """
        return self._accuracy(lambda images: backbone(images.to(device)).cpu(), backbone)

    def pixel_accuracy(self) -> float:
        """The baseline: the same vote on raw pixels."""
        return self._accuracy(raw_pixels, None)

    def _accuracy(self, embed: Callable[[Tensor], Tensor], network: torch.nn.Module | None) -> float:
        was_training = network is not None and network.training
        if network is not None:
            network.eval()
        queries, labels = self._features(self.queries, embed)
        if self.leave_one_out:
            result = leave_one_out_accuracy(queries, labels, k=self.k, temp=self.temp)
        else:
            bank, bank_labels = self._features(self.bank, embed)
            result = knn_accuracy(bank, bank_labels, queries, labels, k=self.k, temp=self.temp)
        if network is not None:
            network.train(was_training)
        return result

    def _features(self, data: Labelled, embed: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        features, kept = [], []
        with torch.no_grad():
            for rows, images in readable_batches(data.paths, self.pixels, size=_BATCH, on_bad=self.on_bad):
                features.append(embed(images))
                kept += rows
        if len(kept) < 2:
            raise DataError(f"{len(kept)} of {len(data.paths)} labelled images can be read; look at {data.paths[0]}")
        return torch.cat(features), data.labels_M[kept]


def _sample(images: ImageFolder, labels: list[str], limit: int) -> Labelled:
    numbers = {label: number for number, label in enumerate(labels)}
    found = [i for i in range(len(images)) if images.label(i) in numbers]
    if len(found) > limit:
        # the same sample in every run over these images, whatever the run's seed
        found = sorted(generator(0, "probe").choice(np.array(found), limit, replace=False).tolist())
    numbered = torch.tensor([numbers[images.label(i)] for i in found], dtype=torch.long)
    return Labelled(tuple(images.path(i) for i in found), numbered)
