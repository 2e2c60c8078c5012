"""Both sides of an evaluation: labels, groups, and what may not stand on both."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sltdino.data.groups import group_pattern
from sltdino.errors import DataError, SettingsError
from sltdino.evaluation.labelled import check_classes, labelled_images


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """`make("train", "yes/anna-1 no/anna-2")` makes files that are not decoded here, each with content of its own."""

    def make(side: str, names: str) -> Path:
        for name in names.split():
            file = tmp_path / side / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{side} {name}")
        return tmp_path / side

    return make


def test_the_labels_are_those_of_the_validation_images_in_natural_order(make: Callable[..., Path]) -> None:
    train, val = make("train", "10/a 9/b 2/c"), make("val", "10/d 9/e 2/f 9/deeper/g")
    data = labelled_images([train], [val])
    assert data.labels == ("2", "9", "10")
    assert data.val.labels_N.tolist() == [data.labels.index(path.relative_to(val).parts[0]) for path in data.val.paths]
    assert len(data.val.paths) == 4
    assert data.notes == ()


def test_training_images_of_other_labels_or_none_are_left_out_and_said(make: Callable[..., Path]) -> None:
    train = make("train", "yes/a no/b maybe/c maybe/d loose")
    data = labelled_images([train], [make("val", "yes/e no/f")])
    assert [path.stem for path in data.train.paths] == ["b", "a"]
    assert data.notes == (
        "left out 1 training images that lie in no sub-folder, so they have no label",
        "left out 2 training images of maybe: no validation image has such a label",
    )


def test_a_label_without_training_images_stays_and_is_said_to_count_as_mistakes(make: Callable[..., Path]) -> None:
    data = labelled_images([make("train", "yes/a no/b")], [make("val", "yes/e no/f never/g never/h")])
    assert len(data.val.paths) == 4
    [note] = check_classes(data)
    assert note == "2 validation images of never, of which there are no training images, count as mistakes"


def test_one_label_with_training_images_is_too_few(make: Callable[..., Path]) -> None:
    data = labelled_images([make("train", "yes/a other/b")], [make("val", "yes/e no/f")])
    with pytest.raises(DataError, match=r"--train-dir: has images of yes alone; at least two labels"):
        check_classes(data)


@pytest.mark.parametrize(
    ("train", "val", "said"),
    [
        ("a b", "yes/c no/d", r"--train-dir: needs a sub-folder for each of at least two labels; .*train has none"),
        ("yes/a no/b", "c d", r"--val-dir: needs a sub-folder for each of at least two labels; .*val has none with"),
        ("yes/a no/b", "yes/c", r"--val-dir: needs a sub-folder .* has yes"),
        ("one/a two/b", "yes/c no/d", r"--train-dir: has none of the labels of --val-dir \(no, yes\), but one, two"),
    ],
)
def test_folders_without_labels_in_common_are_refused(
    train: str, val: str, said: str, make: Callable[..., Path]
) -> None:
    with pytest.raises(SettingsError, match=said):
        labelled_images([make("train", train)], [make("val", val)])


def test_a_copy_of_a_training_image_is_refused(make: Callable[..., Path]) -> None:
    train, val = make("train", "yes/a no/b"), make("val", "yes/c no/d")
    shutil.copy(train / "yes/a.png", val / "no/other.png")
    with pytest.raises(SettingsError, match=r"1 of 3 validation images are copies of training images: .*other\.png"):
        labelled_images([train], [val])


def test_training_images_of_a_group_that_is_judged_are_left_out_and_counted(make: Callable[..., Path]) -> None:
    train = make("train", "yes/anna-1 no/anna-2 yes/ben-1 no/ben-2 no/eva-1")
    data = labelled_images([train], [make("val", "yes/anna-3 no/anna-4 no/zoe-1")], group_regex=r"^(\w+)-")
    assert sorted(path.stem for path in data.train.paths) == ["ben-1", "ben-2", "eva-1"]
    assert data.dropped == 2
    assert (data.train.num_groups, data.val.num_groups) == (2, 2)
    assert data.val.groups_N is not None
    groups = dict(zip((path.stem for path in data.val.paths), data.val.groups_N.tolist(), strict=True))
    assert groups["anna-3"] == groups["anna-4"] != groups["zoe-1"]


def test_taking_images_leaves_no_gap_in_the_group_numbers(make: Callable[..., Path]) -> None:
    val = make("val", "yes/anna-1 no/ben-1 no/eva-1")
    data = labelled_images([make("train", "yes/zoe-1 no/zoe-2")], [val], group_regex="^([a-z]+)")
    taken = data.val.take([1, 2])
    assert taken.groups_N is not None
    assert taken.groups_N.tolist() == [1, 0] or taken.groups_N.tolist() == [0, 1]


def test_names_without_a_group_are_an_error_with_examples(make: Callable[..., Path]) -> None:
    train, val = make("train", "yes/anna-1 no/b no/c"), make("val", "yes/anna-2 no/anna-3")
    with pytest.raises(DataError, match=r"does not match the names of 2 of 3 images, such as 'b.png', 'c.png'"):
        labelled_images([train], [val], group_regex=r"^(\w+)-")


def test_an_optional_group_that_is_not_there_is_no_group(make: Callable[..., Path]) -> None:
    train, val = make("train", "yes/anna-1 no/b"), make("val", "yes/zoe-2 no/zoe-3")
    with pytest.raises(DataError, match=r"1 of 2 images, such as 'b.png'"):
        labelled_images([train], [val], group_regex=r"^(\w+-)?\w")


def test_when_every_group_is_judged_there_is_nothing_to_learn_from(make: Callable[..., Path]) -> None:
    train, val = make("train", "yes/anna-1 no/anna-2"), make("val", "yes/anna-3 no/anna-4")
    with pytest.raises(DataError, match=r"every training image is of a group that --val-dir has too, such as 'anna'"):
        labelled_images([train], [val], group_regex=r"^(\w+)-")


@pytest.mark.parametrize(
    ("regex", "said"), [("(", "is no regular expression"), ("x", "has 0 capture groups"), ("(a)(b)", "has 2 capture")]
)
def test_a_pattern_has_one_capture_group(regex: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        group_pattern(regex)


def test_an_empty_group_is_none_and_does_not_join_strangers(make: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"does not match the names of 1 of 2 images, such as 'anna\.png'"):
        labelled_images([make("train", "yes/anna no/s1")], [make("val", "yes/s2 no/s3")], group_regex="^s?([0-9]*)")
