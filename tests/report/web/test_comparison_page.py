"""The page of several runs."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from sltdino.errors import RunFolderError
from sltdino.report.web.comparison_page import comparison_page


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, train_in: Any) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    for name, rate in (("<one>", 1e-3), ("other", 2e-3)):
        train_in(folder / name.strip("<>"), experiment_name=name, learning_rate=rate)
    return folder / "one", folder / "other"


def test_settings_that_differ_stand_side_by_side_and_no_others(runs: tuple[Path, Path]) -> None:
    page = comparison_page(runs)
    [table] = re.findall(r'<section id="settings".*?</section>', page)
    assert re.findall(r"<td[^>]*>(.*?)</td>", table)[:2] == ["0.<wbr>001", "0.<wbr>002"]
    assert "embed" not in table


def test_every_run_has_its_line_its_letter_and_its_dashes_in_a_chart(runs: tuple[Path, Path]) -> None:
    [figure] = re.findall(r'<figure class="plot" id="compared-1-0">.*?</figure>', comparison_page(runs))
    assert "A  &lt;one&gt;" in figure
    assert re.findall(r'class="halo end">(.)<', figure) == ["A", "B"]
    assert re.findall(r'<path d="[^"]*" class="line c(\d) d(\d)"></path><circle', figure) == [("0", "0"), ("1", "1")]


def test_results_have_a_column_for_each_run(runs: tuple[Path, Path]) -> None:
    page = comparison_page(runs)
    [table] = re.findall(r'<section id="results".*?</section>', page)
    assert re.search(r'<th scope="row">state</th><td>done</td><td>done</td>', table)


def compared(folder: Path, run: Path, accuracies: list[float], protocols: list[str]) -> str:
    """The first words of the page about copies of a run in which k-NN was measured so."""
    runs = [shutil.copytree(run, folder / f"r{at}") for at in range(len(accuracies))]
    for copy, accuracy, protocol in zip(runs, accuracies, protocols, strict=True):
        with (copy / "metrics.jsonl").open("a") as file:
            record = {"step": 6, "epoch": 2, "context": "eval", "knn": accuracy, "protocol": protocol}
            file.write(json.dumps(record) + "\n")
    page = comparison_page(runs)
    return page[page.index("</h1>") : page.index("<nav")]


def test_the_best_run_is_named_first_where_runs_compare(finished: Path, tmp_path: Path) -> None:
    alike = compared(tmp_path / "a", finished, [0.25, 0.5, 0.4], ["20-NN"] * 3)
    assert "Best k-NN: B (r1), 50.0%." in alike
    assert "Best" not in (not_alike := compared(tmp_path / "b", finished, [0.25, 0.5], ["20-NN", "5-NN"]))
    assert "do not compare" in not_alike


def test_runs_of_the_same_settings_say_so(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    page = comparison_page([finished, tmp_path / "copy"])
    assert "All settings are the same." in page
    assert "Which of them is best is not known" in page


def test_a_damaged_run_is_named(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    (tmp_path / "copy" / "params.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"copy/params\.json"):
        comparison_page([finished, tmp_path / "copy"])
