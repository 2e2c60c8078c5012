"""The spelling of the old scripts."""

import pytest

from sltdino.cli.legacy import _OLD_FLAGS, _lengths, translate
from sltdino.errors import SettingsError


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--train-dir a b c", "--train-dir a --train-dir b --train-dir c"),
        ("--train-dir a b --epochs 3", "--train-dir a --train-dir b --epochs 3"),
        ("--train-dir a --train-dir b", "--train-dir a --train-dir b"),
        ("--train a b", "--train-dir a --train-dir b"),
        ("--train=a", "--train-dir=a"),
        ("--epoch 3 --learn 1e-3", "--epochs 3 --learning-rate 1e-3"),
        ("--aug-mean .1 .2 .3 --no-data", "--aug-mean .1 .2 .3 --no-dataset-shuffle"),
        ("--use-sink --seed 1", "--use-sinkhorn --seed 1"),
        ("--weight-d 0.1 --teacher-t 0.04", "--weight-decay 0.1 --teacher-temp 0.04"),
        ("--patch-mask 0.4", "--patch-mask-ratio 0.4"),
        ("--experiment-notes --train", "--experiment-notes --train"),
        ("--learning-rate -1", "--learning-rate -1"),
        ("--nonsense 3", "--nonsense 3"),
        ("--min-l 0", "--min-learning-rate 0"),
        ("--train-dir", "--train-dir"),
        ("--head-hidden 3 -h", "--head-hidden-dim 3 -h"),
    ],
)
def test_old_spelling_becomes_the_new_one(old: str, new: str) -> None:
    assert translate(old.split()) == new.split()


def test_a_prefix_of_several_flags_is_refused_with_their_names() -> None:
    with pytest.raises(SettingsError, match="--out: could be --output-dir, --out-dim, --output-path"):
        translate(["--out", "x"])


def test_every_old_flag_still_exists() -> None:
    assert set(_OLD_FLAGS) <= set(_lengths())
