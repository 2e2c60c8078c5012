"""A 64-bit hash of what a picture looks like: near-copies differ in few bits."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

SIDE = 32
"""Side of the grey thumbnails that are hashed."""
NUM_BITS = 64


def perceptual_hash(thumbs_NHW: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The hashes `[N]` of grey thumbnails `[N, 32, 32]`: the signs of their lowest frequencies about the median.

    The discrete cosine transform (DCT-II, orthonormal) of the thumbnail; of its coefficients the 64 of the lowest
    u + v, the mean (0, 0) left out, in order of (u + v, u); bit i is set where coefficient i is above the median of
    the 64. So 32 bits are set in each hash, and distances are even. After C. Zauner, "Implementation and Benchmarking
    of Perceptual Image Hash Functions" (2010), whose square block of frequencies is replaced by a triangle.

    Light and contrast hardly change it; a mirrored picture is another picture. Of a picture without structure it says
    nothing.
    """
    basis = _basis()
    rows, columns = _frequencies()
    pixels = thumbs_NHW.astype(np.float64)
    most = basis[: max(rows.max(), columns.max()) + 1]
    coefficients = np.einsum("ux,nxy,vy->nuv", most, pixels, most, optimize=True)[:, rows, columns]
    bits = np.ascontiguousarray(coefficients > np.median(coefficients, axis=1, keepdims=True))
    return np.packbits(bits, axis=1, bitorder="little").view("<u8")[:, 0].astype(np.uint64)


def num_different_bits(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Hamming distance, elementwise."""
    words = np.ascontiguousarray(one ^ other)[..., None].view(np.uint16)
    counted: NDArray[np.uint8] = _ones()[words].sum(axis=-1, dtype=np.uint8)
    return counted


@cache
def _basis() -> NDArray[np.float64]:
    frequency, place = np.arange(SIDE)[:, None], np.arange(SIDE)[None]
    basis: NDArray[np.float64] = np.sqrt(2 / SIDE) * np.cos(np.pi * (2 * place + 1) * frequency / (2 * SIDE))
    basis[0] /= np.sqrt(2)
    return basis


@cache
def _frequencies() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    pairs = [(row, total - row) for total in range(1, SIDE) for row in range(total + 1)]
    lowest = np.array(pairs[:NUM_BITS], dtype=np.intp)
    return lowest[:, 0], lowest[:, 1]


@cache
def _ones() -> NDArray[np.uint8]:
    """Set bits of every 16-bit number. (numpy.bitwise_count is younger than the numpy that torch needs.)"""
    bits = np.unpackbits(np.arange(1 << 16, dtype="<u2").view(np.uint8)).reshape(-1, 16)
    counted: NDArray[np.uint8] = bits.sum(axis=1, dtype=np.uint8)
    return counted
