"""The page of an evaluation, from its record alone."""

from typing import Any

import pytest

from sltdino.report.text.evaluation_page import render


def record(labels: list[str], **changes: Any) -> dict[str, Any]:
    number = len(labels)
    row = {"method": "knn", "k": 20, "shots": None, "temp": 0.07, "accuracy": 0.5, "accuracy_interval": [0.4, 0.6]}
    balanced = {"balanced_accuracy": 0.25, "balanced_accuracy_interval": [0.2, 0.3]}
    return {
        "backbone": "/runs/hands", "checkpoint": "checkpoint_last.pt", "step": 1900, "untrained": "random weights",
        "train_dirs": ["/train"], "val_dirs": ["/val"], "labels": labels, "train_counts": [10] * number,
        "val_counts": [4] * number, "groups": None, "protocol": "20-NN",
        "results": [{"features": name, **row, **balanced} for name in ("trained", "untrained", "raw pixels")],
        "gains": [{"over": name, **row, "accuracy": -0.0001} for name in ("untrained", "raw pixels")],
        "confusion": {"method": "20-NN", "matrix": [[4 * (a == b) for b in range(number)] for a in range(number)]},
        "per_class": [{"label": label, "count": 4, "precision": 1.0, "recall": 0.5, "f1": at / number}
                      for at, label in enumerate(labels)],
        "notes": [], "bad_images": [], **changes,
    }  # fmt: skip


def test_figures_are_percentages_with_their_intervals_and_never_minus_nothing() -> None:
    page = render(record(["a", "b"]))
    assert page.count("50.0 [40.0, 60.0]") == 3
    assert page.count("25.0 [20.0, 30.0]") == 3
    assert page.count("+0.0 [+40.0, +60.0]") == 2


@pytest.mark.parametrize("number", [2, 10, 20, 21, 300])
def test_it_is_80_columns_wide_however_many_labels_there_are(number: int) -> None:
    page = render(record([f"a label with a long name {n}" for n in range(number)]))
    assert [line for line in page.split("\n") if len(line) > 80] == []
    assert ("confusion by 20-NN" in page) == (number <= 20)


def test_of_many_labels_the_worst_are_shown() -> None:
    page = render(record([f"sign{n}" for n in range(30)]))
    assert "sign19 " in page
    assert "sign20 " not in page
    assert "worst 20, in %" in page


def test_names_cannot_drive_a_terminal() -> None:
    hostile = "\x1b[2Jgone\n"
    page = render(record([hostile, "b"], train_dirs=[hostile], notes=[hostile], untrained=hostile, protocol=hostile))
    assert "\x1b" not in page
    assert "gone\\n" in page


def test_groups_and_what_was_left_out_for_them_are_said() -> None:
    groups = {"regex": "^(signer[0-9]+)", "train": 30, "val": 1, "dropped": 12}
    page = " ".join(render(record(["a", "b"], groups=groups)).split())
    assert "20 images of 2 labels of 30 groups: /train" in page
    assert "8 images of 2 labels of 1 group: /val" in page
    assert "by ^(signer[0-9]+); 12 training images left out, whose groups val has" in page


def test_images_that_are_judged_by_each_other_are_said_to_be() -> None:
    groups = {"regex": "^(signer[0-9]+)", "train": 5, "val": 5, "dropped": 0}
    page = " ".join(render(record(["a", "b"], groups=groups, train_dirs=[])).split())
    assert "train the validation images of other groups: they are judged by each other" in page
    assert "by ^(signer[0-9]+); no image is judged by its own group" in page
