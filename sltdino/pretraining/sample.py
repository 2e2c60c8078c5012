"""A sample of the training images, decoded; and what is said of a folder with too many broken ones."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sltdino.core.rng import generator
from sltdino.data.batches import BatchBuilder
from sltdino.data.decode import BadImage, decode
from sltdino.data.image_folder import ImageFolder
from sltdino.errors import DataError

NAMED = 5
"""Bad images named in a message."""
_SMALLEST_SAMPLE, _SAMPLE = 32, 256  # images decoded


class BadFile(NamedTuple):
    """An image that cannot be read."""

    number: int
    """In the list of all images."""
    path: str
    reason: str


class Sample(NamedTuple):
    """A random sample of the images, decoded."""

    tried: int
    bad: dict[str, int]
    """How many images cannot be read, by reason."""
    bad_files: tuple[BadFile, ...]
    sides: tuple[tuple[int, int], ...]
    """Width and height of the image with the fewest pixels, of the middle one and of the one with the most."""
    mean_pixels: float

    @property
    def num_bad(self) -> int:
        """Images that cannot be read."""
        return len(self.bad_files)


def decode_sample(images: ImageFolder, *, seed: int, seconds: float) -> Sample:
    """Decode a random sample of the images in full, for `seconds` at the most."""
    deadline = time.monotonic() + seconds
    sizes, bad_files, tried = list[tuple[int, int]](), list[BadFile](), 0
    for index in generator(seed, "dry run").permutation(len(images))[:_SAMPLE].tolist():
        tried += 1
        try:
            height, width = decode(images.path(index)).shape[:2]
            sizes.append((width, height))
        except BadImage as error:
            bad_files.append(BadFile(index, str(images.path(index)), error.reason))
        if tried >= _SMALLEST_SAMPLE and time.monotonic() > deadline:
            break
    sizes.sort(key=lambda side: side[0] * side[1])
    sides = (sizes[0], sizes[len(sizes) // 2], sizes[-1]) if sizes else ()
    mean = float(np.mean([width * height for width, height in sizes])) if sizes else 0.0
    reasons = Counter(file.reason for file in bad_files)
    return Sample(tried, dict(reasons.most_common()), tuple(bad_files), sides, mean)


def stops_a_run(sample: Sample, batches: BatchBuilder, *, num_images: int, allowed: float, total_steps: int) -> bool:
    """Whether a new run is sure to meet more bad images than it may.

    Which images a step takes follows from the seed; the incomplete last batch of an epoch is never met.

    Args:
        allowed: share of all images, `dataset.max_bad_fraction`.
    """
    bad, met = {file.number for file in sample.bad_files}, set[int]()
    if len(bad) <= allowed * num_images:
        return False
    for step in range(total_steps):
        met |= bad.intersection(place.image for place in batches.samples(step))
        if len(met) > allowed * num_images:
            return True
    return False


def too_many_bad(bad: Sequence[tuple[str, str]], *, num_images: int, allowed: float, then: str) -> DataError:
    """The error of a run that met too many images it cannot read, and of a dry run that knows it would.

    Args:
        bad: path and reason of each.
        allowed: share of all images.
        then: where to look, or what to do.
    """
    named = "; ".join(f"{path!a}: {reason}" for path, reason in bad[:NAMED])
    return DataError(
        f"{len(bad)} of {num_images:,} images cannot be read, more than --dataset-max-bad-fraction {allowed}: {named}; "
        f"{then}"
    )


def other_formats_text(number_by_suffix: Mapping[str, int]) -> str:
    """Files that are no images to us, in words: `3 txt, 1 without suffix (PNG, JPEG, BMP and TIFF are)`."""
    numbers = ", ".join(f"{number:,} {suffix or 'without suffix'}" for suffix, number in number_by_suffix.items())
    return f"{numbers} (PNG, JPEG, BMP and TIFF are)"
