"""Evaluations as tables."""

import re

from sltdino.report.web.evaluation_tables import confusion_matrix, evaluation_tables, most_confused, results_table

LABELS = ["a", "b", "<c>"]
MATRIX = [[8, 2, 0], [1, 9, 0], [5, 0, 5]]


def test_the_matrix_has_every_count_and_colours_shares_of_the_row() -> None:
    page = confusion_matrix(LABELS, MATRIX, method="20-NN")
    cells = re.findall(r'<td class="heat-(\d+)( right)?">(.*?)</td>', page)
    assert [text for _, _, text in cells] == ["8", "2", "·", "1", "9", "·", "5", "·", "5"]
    assert [int(share) for share, _, _ in cells] == [8, 2, 0, 1, 9, 0, 5, 0, 5]
    assert [at for at, (_, right, _) in enumerate(cells) if right] == [0, 4, 8]
    assert "&lt;c&gt;" in page


def test_the_most_frequent_mistakes_come_first() -> None:
    assert most_confused(LABELS, MATRIX) == [["<c>", "a", 5, "50%"], ["a", "b", 2, "20%"], ["b", "a", 1, "10%"]]


def test_a_label_without_images_is_in_the_matrix() -> None:
    assert "heat-0" in confusion_matrix(["a", "b"], [[0, 0], [0, 3]], method="linear probe")


def test_methods_are_rows_and_features_columns() -> None:
    row = {"method": "knn", "k": 20, "accuracy": 0.4626, "accuracy_interval": [0.4, 0.52]}
    probe = {"method": "linear", "accuracy": 0.6, "accuracy_interval": [0.5, 0.7], "features": "trained"}
    results = [row | {"features": "trained"}, row | {"features": "raw pixels", "accuracy": 0.7}, probe]
    gains = [row | {"over": "raw pixels", "accuracy": -0.24, "accuracy_interval": [-0.3, 0.0]}]
    page = results_table({"results": results, "gains": gains}, "accuracy", caption="c")
    assert re.findall(r"<th scope=\"row\">(.*?)</th>", page) == ["20-NN", "linear probe"]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", page)
    assert cells[:4] == ["46.3% [40.0,&nbsp;52.0]", "–", "70.0% [40.0,&nbsp;52.0]", "-24.0% [-30.0,&nbsp;+0.0]"]
    assert cells[4] == "60.0% [50.0,&nbsp;70.0]"


def test_older_evaluations_are_folded_under_what_came_out() -> None:
    row = {"method": "knn", "k": 20, "features": "trained", "accuracy": 0.4626, "accuracy_interval": [0.4, 0.52],
           "balanced_accuracy": 0.4, "balanced_accuracy_interval": [0.3, 0.5]}  # fmt: skip
    record = {
        "timestamp": "2026-01-01T10:00:00.000+00:00", "backbone": "/runs/a", "checkpoint": "checkpoint_last.pt",
        "step": 1900, "labels": LABELS, "confusion": {}, "per_class": [], "protocol": "p", "groups": None,
        "train_dirs": [], "val_dirs": [], "train_counts": [1], "val_counts": [1], "results": [row],
    }  # fmt: skip
    newest, older = evaluation_tables([record, record | {"timestamp": "2026-01-02T10:00:00.000+00:00", "step": None}])
    assert newest.startswith("<h3>Evaluation of checkpoint_last.pt (2026-01-02 10:00)</h3>")
    assert "<summary>Evaluation of checkpoint_last.pt, step 1,900 (2026-01-01 10:00): 20-NN 46.3%</summary>" in older
