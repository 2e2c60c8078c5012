"""Colours that colour-blind readers can tell apart and that print in grey in the same order."""

import numpy as np
from numpy.typing import NDArray

_STOPS = np.array(((20, 12, 70), (62, 45, 132), (44, 105, 148), (38, 156, 138), (120, 198, 96), (248, 230, 90)))
"""Night blue to yellow: lightness rises by about the same from each to the next, and hue never turns back to red and
green of one lightness."""


def heat(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Values 0..1 of any shape as RGB: 0 dark blue, 1 yellow, linear in between."""
    places = np.clip(values, 0, 1) * (len(_STOPS) - 1)
    channels = [np.interp(places, np.arange(len(_STOPS)), _STOPS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)
