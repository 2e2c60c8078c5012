"""Whether two thumbnails show the same picture, in a data set whose pictures all have something in common."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sltdino.data.checking.near_pairs import MAX_BITS
from sltdino.data.checking.perceptual_hash import SIDE, num_different_bits
from sltdino.data.checking.quality import Measured

SURE = 0.1
"""Thumbnails that differ by less, as `difference` counts, are alike: re-encoding leaves at most 0.07."""
MAX_DIFFERENCE = 0.38
"""Thumbnails that differ by more are not. Other light, contrast or size leave up to 0.2, a shift by 1 % of the width
0.24 to 0.5; of 1.2 million pairs of photographs of hands on plain paper the closest has 0.397."""
MAX_OWN_DIFFERENCE = 0.45
"""In between, this is the most that they may differ in what is their own. Other light or size leave up to 0.3, a cut of
2 % at each edge 0.3 to 0.5. Of 1,799 faces greyed outside eyes and mouth, 105 pairs have close hashes and differ by
less than 0.38; the two that pass this too are neighbours in a film."""

_MOST_COMMON, _IMAGES_FOR_EACH = 3, 50
_SAMPLE, _TRIED = 500, 5000  # images that what is common is taken from, and looked at for them
_PAIRS_AT_ONCE = 4096  # 32 MB of pixels


class Likeness(NamedTuple):
    """What the pictures of a data set have in common, which says nothing about two of them being the same."""

    mean_P: NDArray[np.float32]
    """Mean of the thumbnails at equal mean and contrast, `[1024]`."""
    components_KP: NDArray[np.float32]
    """Their first principal components: the light on a hand, or a grey mask that all faces wear."""

    @classmethod
    def of(cls, measured: Measured, places: NDArray[np.int64]) -> "Likeness":
        """From up to 500 of the images at `places`, spread over all, of which no two have close hashes: else a long
        still clip would be what all have in common. One component for 50 images, three at most."""
        tried = places[np.linspace(0, len(places) - 1, min(_TRIED, len(places))).astype(np.int64)]
        hashes = measured.images["hash"]
        chosen = np.empty(0, dtype=np.int64)
        for place in tried.tolist():
            if len(chosen) < _SAMPLE and (num_different_bits(hashes[chosen], hashes[place]) > MAX_BITS).all():
                chosen = np.append(chosen, place)
        pixels = standardized(measured.thumbs_NHW[chosen])
        mean = pixels.sum(axis=0) / np.float32(max(1, len(pixels)))
        number = min(_MOST_COMMON, len(pixels) // _IMAGES_FOR_EACH)
        components = np.linalg.svd(pixels - mean, full_matrices=False)[2][:number]
        return cls(mean, components)

    def alike(self, thumbs_NHW: NDArray[np.uint8], pairs_M2: NDArray[np.int64]) -> NDArray[np.bool_]:
        """For each pair of images whether they show the same picture."""
        alike = np.zeros(len(pairs_M2), dtype=np.bool_)
        for start in range(0, len(pairs_M2), _PAIRS_AT_ONCE):
            part = pairs_M2[start : start + _PAIRS_AT_ONCE]
            one, other = (standardized(thumbs_NHW[part[:, side]]) for side in (0, 1))
            apart = difference(one, other)
            own_one, own_other = self._own(one), self._own(other)
            size = np.sqrt((_distance(own_one, 0) ** 2 + _distance(own_other, 0) ** 2) / 2)
            own_apart = _distance(own_one, own_other) / np.maximum(size, 1e-6)
            close = (apart <= MAX_DIFFERENCE) & (own_apart <= MAX_OWN_DIFFERENCE)
            alike[start : start + len(part)] = (apart < SURE) | close
        return alike

    def _own(self, pixels_NP: NDArray[np.float32]) -> NDArray[np.float32]:
        rest = pixels_NP - self.mean_P
        return (rest - (rest @ self.components_KP.T) @ self.components_KP).astype(np.float32, copy=False)


def difference(one_NP: NDArray[np.float32], other_NP: NDArray[np.float32]) -> NDArray[np.float32]:
    """Root mean square difference of `standardized` pixels; √(2 - 2 · their correlation)."""
    return _distance(one_NP, other_NP) / np.float32(SIDE)


def _distance(one_NP: NDArray[np.float32], other_NP: NDArray[np.float32] | int) -> NDArray[np.float32]:
    distance: NDArray[np.float32] = np.sqrt(((one_NP - other_NP) ** 2).sum(axis=1))
    return distance


def standardized(thumbs_NHW: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels of grey thumbnails, `[N, 1024]`: each image's have mean 0 and standard deviation 1."""
    pixels = thumbs_NHW.reshape(len(thumbs_NHW), SIDE * SIDE).astype(np.float32)
    pixels -= pixels.mean(axis=1, keepdims=True)
    pixels /= np.maximum(pixels.std(axis=1, keepdims=True), np.float32(1e-6))
    return pixels
