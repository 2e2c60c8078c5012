"""Derived randomness."""

from sltdino.core.rng import fold_in, generator


def test_every_place_has_its_own_seed() -> None:
    places = [(seed, name, i) for seed in range(4) for name in ("crops", "order") for i in range(50)]
    seeds = [fold_in(*place) for place in places]
    assert len(set(seeds)) == len(places)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_numbers_and_texts_are_different_places() -> None:
    assert fold_in(1, 2, 3) != fold_in(1, 23)
    assert fold_in(1, "2") != fold_in(1, 2)


def test_a_place_always_draws_the_same() -> None:
    assert fold_in(42, "crops", 1) == 5596452352408839693
    assert generator(42, "crops", 1).random() == generator(42, "crops", 1).random()
