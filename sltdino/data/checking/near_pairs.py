"""Find every pair of 64-bit hashes that differ in few bits, without comparing all with all."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sltdino.data.checking.perceptual_hash import NUM_BITS, num_different_bits

MAX_BITS = 8
"""Bits in which the hashes of near-duplicates differ at most."""

_BLOCKS = 11
_AGREEING = _BLOCKS - MAX_BITS
_PAIRS_AT_ONCE = 1 << 21
_MOST_PAIRS = 30_000_000  # compared for one choice of blocks; 165 times that is a minute


class Close(NamedTuple):
    """Some pairs of hashes."""

    pairs_M2: NDArray[np.int64]
    """Places in the list of hashes, the first of a pair being of the smaller group."""
    left_out: int
    """Pairs of the same blocks that were not compared, because there were too many."""


def close_pairs(
    hashes_N: NDArray[np.uint64],
    group_of_N: NDArray[np.int64],
    *,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> Iterator[Close]:
    """Every pair of hashes of two groups that differ in at most 8 bits, each once, in portions.

    The 64 bits are dealt out to 11 blocks. Eight differing bits touch at most eight blocks, so that three agree: the
    pairs that agree in one of the 165 choices of three blocks are all there can be (the pigeonhole principle, as in
    M. Norouzi et al., "Fast Search in Hamming Space with Multi-Index Hashing", CVPR 2012). For each choice the hashes
    are sorted by these blocks, and those of a run compared. A pair comes from the first choice in which it agrees.

    The work grows with the pairs that agree by chance, about 4 a hash for 10,000 hashes and 400 for a million, and with
    alike hashes. A choice that gives more than 30 million pairs is cut there, and `left_out` says by how many: it takes
    thousands of images of one look in different groups.

    Args:
        on_progress: called with the choices done, and all of them.
    """
    by_group = np.argsort(group_of_N, kind="stable")
    hashes, groups = hashes_N[by_group], group_of_N[by_group]
    masks = [np.uint64(sum(1 << bit for bit in range(block, NUM_BITS, _BLOCKS))) for block in range(_BLOCKS)]
    choices = list(itertools.combinations(range(_BLOCKS), _AGREEING))
    for number, choice in enumerate(choices):
        mask = np.bitwise_or.reduce([masks[block] for block in choice])
        for pairs, left_out in _agreeing(hashes & mask, groups):
            near = pairs[num_different_bits(hashes[pairs[:, 0]], hashes[pairs[:, 1]]) <= MAX_BITS]
            first = near[_is_first_choice(hashes[near[:, 0]] ^ hashes[near[:, 1]], masks, choice)]
            yield Close(by_group[first], left_out)
        on_progress(number + 1, len(choices))


def _agreeing(keys: NDArray[np.uint64], groups: NDArray[np.int64]) -> Iterator[Close]:
    """Pairs of places with equal keys and unequal groups, in portions; the first says how many are left out in all.

    `groups` ascends, so that a stable sort by key leaves it ascending within every run of equal keys.
    """
    order = np.argsort(keys, kind="stable")
    sorted_keys, sorted_groups = keys[order], groups[order]
    new_key = np.flatnonzero(sorted_keys[1:] != sorted_keys[:-1]) + 1
    new_group = np.flatnonzero((sorted_keys[1:] != sorted_keys[:-1]) | (sorted_groups[1:] != sorted_groups[:-1])) + 1
    run_end, group_end = _ends(new_key, len(keys)), _ends(new_group, len(keys))
    partners = run_end - group_end  # of each place: those behind it in its run that are of another group
    places = np.flatnonzero(partners)
    ends = partners[places].cumsum()
    total = int(ends[-1]) if len(ends) else 0
    allowed = int(np.searchsorted(ends, _MOST_PAIRS, side="right")) if total > _MOST_PAIRS else len(places)
    left_out = total - (int(ends[allowed - 1]) if allowed else 0)
    start = 0
    while start < allowed:
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends[:allowed], before + _PAIRS_AT_ONCE, side="right")))
        part = places[start:stop]
        count = partners[part]
        one = np.repeat(part, count)
        first_of_part = np.repeat(count.cumsum() - count, count)
        other = np.repeat(group_end[part], count) + np.arange(len(one)) - first_of_part
        yield Close(order[np.stack([one, other], axis=1)], 0 if start else left_out)
        start = stop


def _ends(starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """For every place the end of its stretch, where stretches begin at 0 and at `starts`."""
    edges = np.concatenate([[0], starts, [length]])
    return np.repeat(edges[1:], np.diff(edges))


def _is_first_choice(
    differences: NDArray[np.uint64], masks: list[np.uint64], choice: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Whether `choice` is made of the first blocks in which each pair agrees."""
    is_first = np.ones(len(differences), dtype=np.bool_)
    for block in range(choice[-1]):
        if block not in choice:
            is_first &= (differences & masks[block]) != 0
    return is_first
