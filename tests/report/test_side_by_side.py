"""Runs side by side: what differs and what came out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sltdino.errors import MissingInputError
from sltdino.report.side_by_side import look_at, markdown, render


@pytest.fixture
def variant(finished_once: Path, tmp_path: Path) -> Callable[..., Path]:
    """`variant("b", {"optimizer.learning_rate": 0.1}, knn=[0.2, 0.3])`: a copy with other settings and accuracies."""

    def variant(name: str, settings: dict[str, Any] | None = None, knn: tuple[float, ...] = (), **record: Any) -> Path:
        run = shutil.copytree(finished_once, tmp_path / name)
        params = json.loads((run / "params.json").read_text())
        for key, value in (settings or {}).items():
            place = params["settings"]
            *sections, last = key.split(".")
            for section in sections:
                place = place[section]
            place[last] = value
            params["experiment"] = params["settings"]["experiment"]
        (run / "params.json").write_text(json.dumps(params))
        with (run / "metrics.jsonl").open("a") as file:
            for epoch, value in enumerate(knn):
                row = {"step": 3 * epoch, "context": "eval", "epoch": epoch, "knn": value, "protocol": "20-NN"}
                file.write(json.dumps({**row, **record}) + "\n")
        return run

    return variant


def test_only_settings_that_differ_are_shown_with_the_value_of_each_run(variant: Any) -> None:
    runs = [variant("a"), variant("b", {"optimizer.learning_rate": 0.25}), variant("c", {"seed": 7})]
    content = look_at(runs)
    assert content["settings"].keys() == {"seed", "optimizer.learning_rate"}
    assert content["settings"]["seed"] == [42, 42, 7]
    assert content["settings"]["optimizer.learning_rate"][1] == 0.25
    assert content["results"]["step"] == [6, 6, 6]
    assert [run["path"] for run in content["runs"]] == [str(run) for run in runs]
    row = next(line for line in render(content).split("\n") if line.startswith("  seed"))
    assert row.split() == ["seed", "42", "42", "7"]


def test_the_best_of_a_row_is_marked_where_runs_were_measured_alike(variant: Any) -> None:
    runs = [variant("a", knn=(0.1, 0.3)), variant("b", knn=(0.1, 0.5)), variant("c")]
    content = look_at(runs)
    assert content["results"]["k-NN, best"] == [0.3, 0.5, None]
    assert content["best"]["k-NN, best"] == [1]
    page = render(content)
    assert next(line for line in page.split("\n") if "k-NN, best" in line).split()[2:] == ["30.0%", "50.0%", "*", "-"]
    assert "step" not in content["best"]


def test_accuracies_of_other_images_are_not_compared(variant: Any) -> None:
    content = look_at([variant("a", knn=(0.1, 0.3)), variant("b", knn=(0.1, 0.5), protocol="5-NN")])
    assert "k-NN, best" not in content["best"]
    assert content["protocols"] == ["20-NN", "5-NN"]
    assert "does not compare" in render(content)


def test_equal_values_have_no_best(variant: Any) -> None:
    assert "k-NN, best" not in look_at([variant("a", knn=(0.1, 0.3)), variant("b", knn=(0.1, 0.3))])["best"]


def test_many_runs_are_wrapped_into_blocks_of_80_columns(finished_once: Path) -> None:
    content = look_at([finished_once] * 30)
    lines = render(content).split("\n")[30:]
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("results") for line in lines) == 8
    labels = [word for line in lines if line.startswith("results") for word in line.split()[1:]]
    assert labels == [str(number) for number in range(1, 31)]
    assert "settings are the same" in lines


def test_everything_that_is_wrong_is_said_at_once(finished_once: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInputError) as caught:
        look_at([tmp_path / "none", finished_once, tmp_path / "empty"])
    first, second = str(caught.value).split("\n")
    assert str(tmp_path / "none") in first
    assert f"{tmp_path / 'empty'}: no run folder" in second


def test_markdown_has_a_row_for_each_run_and_as_many_cells_in_each(variant: Any) -> None:
    runs = [variant("a", {"seed": 7}, knn=(0.1, 0.3)), variant("b", knn=(0.1, 0.5))]
    first, settings, second, results, protocol = markdown(look_at(runs)).split("\n\n")
    assert (first, second) == ("**Settings that differ**", "**Results**")
    assert settings.split("\n") == ["| run | `seed` |", "| --- | ---: |", "| a | 7 |", "| b | 42 |"]
    rows = [line.split(" | ") for line in results.split("\n")]
    assert len(rows) == 4
    assert len({len(row) for row in rows}) == 1
    assert [row[rows[0].index("k-NN, best")] for row in rows[2:]] == ["30.0%", "**50.0%**"]
    assert protocol == "k-NN: 20-NN"


def test_markdown_shows_text_from_outside_as_it_is(variant: Any) -> None:
    evil = "a|b\n# <script>*x* `y` [z](javascript:1) \x1b[2J"
    text = markdown(look_at([variant("a", {"experiment.name": evil}), variant("b")]))
    assert "\x1b" not in text
    cells = {line.count(" | ") for line in text.split("\n") if line.startswith("| ")}
    assert len(cells) == 2  # of the two tables
    assert r"a\|b\\n\# \<script\>\*x\* \`y\` \[z\](javascript:1) \\x1b\[2J" in text
