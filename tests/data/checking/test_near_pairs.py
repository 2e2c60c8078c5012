"""Close hashes: exactly the pairs that comparing all with all finds."""

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from sltdino.data.checking import near_pairs
from sltdino.data.checking.near_pairs import MAX_BITS, close_pairs


def hashes_with_copies(number: int, copies: int, *, seed: int) -> NDArray[np.uint64]:
    """Random hashes, some of them others with 0 to 12 bits flipped."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 1 << 63, number, dtype=np.uint64) * np.uint64(2) + rng.integers(
        0, 2, number, dtype=np.uint64
    )
    for place in range(number - copies, number):
        value = int(hashes[rng.integers(0, 20)])
        for bit in rng.choice(64, rng.integers(0, 13), replace=False).tolist():
            value ^= 1 << bit
        hashes[place] = value
    return hashes


def by_comparing_all(hashes: NDArray[np.uint64], groups: NDArray[np.int64]) -> list[tuple[int, int]]:
    values = hashes.tolist()
    return sorted(
        (one, other)
        for one in range(len(values))
        for other in range(len(values))
        if groups[one] < groups[other] and (values[one] ^ values[other]).bit_count() <= MAX_BITS
    )


@pytest.mark.parametrize("portion", [1 << 21, 7])
def test_every_close_pair_of_two_groups_comes_once(portion: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_pairs, "_PAIRS_AT_ONCE", portion)
    hashes = hashes_with_copies(600, 300, seed=0)
    groups = np.random.default_rng(1).integers(0, 150, len(hashes))
    found = np.concatenate([close.pairs_M2 for close in close_pairs(hashes, groups)])
    expected = by_comparing_all(hashes, groups)
    assert len(expected) > 500
    assert sorted(map(tuple, found.tolist())) == expected


def test_differences_wherever_they_lie_are_found() -> None:
    """Every choice of eight bits out of a sample: the pigeonhole has no gap."""
    rng = np.random.default_rng(2)
    base = int(rng.integers(0, 1 << 63))
    for _ in range(60):
        changed = base
        for bit in rng.choice(64, MAX_BITS, replace=False).tolist():
            changed ^= 1 << bit
        pair = np.array([base, changed], dtype=np.uint64)
        assert sum(len(close.pairs_M2) for close in close_pairs(pair, np.arange(2))) == 1


def test_what_is_too_much_to_compare_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_pairs, "_MOST_PAIRS", 30)
    same = np.zeros(20, dtype=np.uint64)  # 190 pairs, in each of the 165 choices
    found = list(close_pairs(same, np.arange(20)))
    assert sum(len(close.pairs_M2) for close in found) <= 30
    assert sum(close.left_out for close in found) == 165 * (190 - sum(len(close.pairs_M2) for close in found))


def test_memory_is_that_of_a_portion_and_not_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = np.random.default_rng(3).integers(0, 1 << 10, 600, dtype=np.uint64)  # 180,000 pairs, 3 MB
    monkeypatch.setattr(near_pairs, "_PAIRS_AT_ONCE", 1 << 12)
    tracemalloc.start()
    for _ in close_pairs(hashes, np.arange(len(hashes))):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
