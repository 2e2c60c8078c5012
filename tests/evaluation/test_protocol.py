"""What is said beside the figures."""

from pathlib import Path

import numpy as np
import pytest

from sltdino.evaluation.labelled import LabelledImages, Side
from sltdino.evaluation.predictions import Method
from sltdino.evaluation.protocol import afterthoughts, warnings
from sltdino.evaluation.scores import Score


def data_of(number: int, groups: int = 0) -> LabelledImages:
    labels, paths = np.arange(number) % 2, tuple(Path(f"{row}.png") for row in range(number))
    side = Side(paths, labels, np.arange(number) % groups if groups else None)
    return LabelledImages(("a", "b"), side, side, 0, ())


def score(accuracy: float) -> Score:
    ends = (accuracy, accuracy)
    return Score("trained", Method("knn", k=1), accuracy, ends, accuracy, ends, None)


@pytest.mark.parametrize(("groups", "said"), [(0, []), (1, ["by image"]), (2, ["2 groups are few"]), (12, [])])
def test_intervals_of_few_groups_are_said_to_be_too_narrow(groups: int, said: list[str]) -> None:
    notes = list(warnings(data_of(40, groups), ks=[5]))
    assert len(notes) == len(said)
    assert all(part in note and "too narrow" in note for part, note in zip(said, notes, strict=True))


@pytest.mark.parametrize(("groups", "most"), [(0, "7.2% of others"), (4, "52.7% of others")])
def test_an_interval_of_no_width_is_not_left_alone(groups: int, most: str) -> None:
    """40 images of which none is mistaken, where 7.2 % are: seen once in 20 times."""
    assert pytest.approx(0.05, abs=0.001) == (1 - 0.072) ** 40
    [note] = afterthoughts(data_of(40, groups), [score(1.0), score(0.5)], spread=0.5)
    assert f"up to {most}" in note
    assert list(afterthoughts(data_of(40), [score(0.9)], spread=0.5)) == []


def test_collapsed_features_are_called_what_they_are() -> None:
    [note] = afterthoughts(data_of(40), [score(0.5)], spread=0.0004)
    assert note == "the trained features are nearly the same for every image (feature std 0.0004 of 1)"
