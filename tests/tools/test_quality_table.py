"""The numbers of a study's tables and curves, against numpy and by hand."""

import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from quality_curves import mean_curve, picture
from quality_table import mean_of, paired, safety, sections, table

MADE_BY = {"sltdino": "1.0", "git_revision": "0123456789abcdef-dirty", "torch": "2.6", "cpu_count": 2}
DINO = {(0, "1/2"): 0.30, (0, "2/2"): 0.50, (1, "1/2"): 0.40, (1, "2/2"): 0.44}
LAPTOP = {(0, "1/2"): 0.42, (0, "2/2"): 0.61, (1, "1/2"): 0.47, (1, "2/2"): 0.52}


def record(recipe: str, knn: float, place: tuple[int, str] = (0, "1/2"), **more: Any) -> dict[str, Any]:
    return {
        "data": "crops", "recipe": recipe, "seed": place[0], "fold": place[1], "budget": "2 min x 1 thread",
        "status": "done", "val_read": False, "knn": knn, "knn_balanced": knn - 0.01, "probe": knn + 0.1,
        "probe_balanced": knn + 0.05, "rankme": 40.0, "knn_untrained": 0.35, "collapse_found": False,
        "ended_by_collapse": False, "images_seen": 6400, "train_seconds": 90.0, "environment": MADE_BY, "threads": 1,
        "workers": 0, "jobs": 2, "processor": "Z80",
        "curve": [
            {"minutes": 0.0, "knn": 0.2}, {"minutes": 1.0, "knn": knn - 0.05}, {"minutes": 2.0, "knn": knn},
        ],
        **more,
    }  # fmt: skip


def results() -> list[dict[str, Any]]:
    found = [record("laptop", knn, place) for place, knn in LAPTOP.items()]
    found += [record("dino", knn, place, collapse_found=knn < 0.35) for place, knn in DINO.items()]
    found.append(record("untrained", 0.35, budget="none", rankme=12.0, curve=[]))
    return [*found, {**record("broken", 0, (0, "1/2")), "status": "failed", "error": "no"}]


def rows_of(text: str) -> dict[str, dict[str, str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]}


def test_mean_deviation_and_paired_difference_are_those_of_numpy() -> None:
    rows = rows_of(table(sections(results(), reference="laptop"), reference="laptop"))
    dino, laptop = 100 * np.array([*DINO.values()]), 100 * np.array([*LAPTOP.values()])
    assert rows["dino"]["20-NN"] == f"{dino.mean():.1f} ± {np.sqrt(((dino - dino.mean()) ** 2).sum() / 3):.1f}"
    difference = dino - laptop
    error = np.sqrt(((difference - difference.mean()) ** 2).sum() / 3 / 4)
    assert rows["dino"]["20-NN less laptop"] == f"{difference.mean():+.1f} ± {error:.1f} (4)"
    assert rows["laptop"]["20-NN less laptop"] == "–"


def test_a_difference_is_of_the_same_seed_and_fold_only() -> None:
    mine = [record("dino", 0.5, (0, "1/2")), record("dino", 0.9, (7, "1/2"))]
    found = paired(mine, [record("laptop", 0.2, (0, "1/2")), record("laptop", 0.8, (0, "2/2"))])
    assert found is not None
    assert (found.number, found.mean) == (1, pytest.approx(0.3))
    assert paired(mine, [record("laptop", 0.2, (3, "1/2"))]) is None


def test_one_value_has_no_deviation() -> None:
    assert np.isnan(mean_of([0.4]).deviation)
    rows = rows_of(table(sections(results(), reference="laptop"), reference="laptop"))
    assert rows["untrained"]["20-NN"] == "35.0"


def test_the_table_counts_collapses_runs_below_their_start_and_failures() -> None:
    rows = rows_of(table(sections(results(), reference="laptop"), reference="laptop"))
    counted = {name: [row[key] for key in ("runs", "collapsed", "below start", "failed")] for name, row in rows.items()}
    assert counted == {
        "laptop": ["4", "0", "0", "0"],
        "dino": ["4", "1", "1", "0"],
        "untrained": ["1", "–", "–", "0"],
        "broken": ["0", "–", "–", "1"],
    }
    assert rows["dino"]["minutes"] == "1.5 ± 0.0"
    assert rows["dino"]["images seen"] == "6,400"


def test_a_baseline_stands_with_every_budget_of_its_data() -> None:
    more = [*results(), record("laptop", 0.5, budget="500 steps"), record("laptop", 0.1, data="others")]
    found = {section.title: [row.recipe for row in section.rows] for section in sections(more, reference="laptop")}
    assert found == {
        "crops, 2 min x 1 thread, folds inside train": ["laptop", "dino", "untrained", "broken"],
        "crops, 500 steps, folds inside train": ["untrained", "laptop"],
        "others, 2 min x 1 thread, folds inside train": ["laptop"],
    }


def test_a_final_result_never_mixes_with_those_of_folds() -> None:
    final = record("laptop", 0.9, (0, "final"), val_read=True)
    found = sections([*results(), final], reference="laptop")
    assert [section.is_final for section in found] == [False, True]
    assert "judged on val" in found[1].title
    assert [row.done for row in found[1].rows] == [[final]]


def test_safety_says_what_harm_was_done() -> None:
    lines = safety(sections(results(), reference="laptop")).splitlines()
    assert lines[1] == (
        "crops, 2 min x 1 thread, dino: 4 runs, 1 collapsed (0 of them ended by it), 1 below their start, 0 failed"
    )
    assert len(lines) == 3  # none for the baseline


def test_the_table_says_what_made_the_numbers() -> None:
    text = table(sections(results(), reference="laptop"), reference="laptop")
    assert text.splitlines()[-1] == (
        "- sltdino 1.0 0123456789-dirty, torch 2.6, 1 thread and 0 workers a run, 2 at once, on 2 x Z80"
    )


def test_the_mean_curve_ends_where_the_shortest_run_does() -> None:
    curves = [[(0.0, 10.0), (2.0, 30.0)], [(0.0, 20.0), (1.0, 20.0)]]
    assert mean_curve(curves, points=3) == [(0.0, 15.0), (0.5, 17.5), (1.0, 20.0)]


def test_curves_are_a_picture_with_a_line_for_each_run_and_recipe() -> None:
    drawn = picture(sections(results(), reference="laptop"))
    root = ET.fromstring(drawn)
    kinds = [path.get("class") for path in root.iter("{http://www.w3.org/2000/svg}path")]
    assert kinds.count("run") == 8
    assert kinds.count("mean") == 4  # a line and its piece in the legend, of two recipes
    assert re.findall(r">(\w+ \(\d\))<", drawn) == ["laptop (4)", "dino (4)"]
    assert picture(sections([record("untrained", 0.3, curve=[])], reference="laptop")) == ""
