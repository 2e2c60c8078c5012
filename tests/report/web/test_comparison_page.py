"""The page of several runs."""

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


def test_runs_of_the_same_settings_say_so(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    assert "All settings are the same." in comparison_page([finished, tmp_path / "copy"])


def test_a_damaged_run_is_named(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    (tmp_path / "copy" / "params.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"copy/params\.json"):
        comparison_page([finished, tmp_path / "copy"])
