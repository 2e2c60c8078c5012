"""All randomness is derived, never stored: a draw depends on (seed, where it is used), not on history."""

import hashlib

import numpy as np


def fold_in(seed: int, *where: int | str) -> int:
    """A 63-bit seed for one place of the run, for instance `fold_in(seed, "crops", epoch, image)`."""
    digest = hashlib.blake2b(repr((seed, *where)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, *where: int | str) -> np.random.Generator:
    """A numpy generator for one place of the run. Philox: cheap to create, the same on every machine."""
    return np.random.Generator(np.random.Philox(fold_in(seed, *where)))
