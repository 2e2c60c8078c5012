"""`--dry-run` and `--json` of `sltdino pretrain` and `resume`."""

import json
from pathlib import Path
from typing import Any

import pytest

from sltdino.cli.legacy import translate


@pytest.fixture
def argv(tiny: dict[str, Any], pictures: Path) -> list[str]:
    flags = {**tiny, "train_dir": pictures}
    return ["pretrain", "hands", *(str(part) for name, value in flags.items() for part in (_flag(name), value))]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def strict(text: str) -> Any:
    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_the_page_is_on_stdout_the_talk_on_stderr_and_a_warning_is_no_failure(
    run: Any, argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*argv, "--aug-hflip-prob", "0.5", "--dry-run")
    assert result.code == 0
    assert "\n  flip: 50%" in result.out
    assert result.out.startswith("Dry run of dino on hand images; nothing was written.\n")
    assert result.out.endswith("Errors: none; the run can start\n")
    assert all(line.startswith("dry run: ") for line in result.err)
    assert list(tmp_path.iterdir()) == []


def test_as_json_it_is_one_strict_document(
    run: Any, argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = strict(run(*argv, "--dry-run", "--json").out)
    assert values["forecast"]["plan"]["total_steps"] == 6
    assert values["errors"] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_an_error_has_the_line_and_the_exit_code_of_a_real_start(run: Any, argv: list[str], extra: list[str]) -> None:
    real = run(*argv, "--batch-size", "99")
    dry = run(*argv, "--batch-size", "99", "--dry-run", *extra)
    assert (dry.code, dry.err[-1:]) == (real.code, real.err)
    assert real.code == 65
    assert dry.out


def test_below_the_page_stands_one_line_however_many_mistakes_there_are(
    run: Any, argv: list[str], finished_once: Path
) -> None:
    other = ["--init-from", str(finished_once / "checkpoint_last.pt"), "--vit-embed-dim", "32", "--vit-depth", "3"]
    real, dry = run(*argv, *other), run(*argv, *other, "--dry-run")
    assert len(real.err) == 2
    assert [line for line in dry.err if line.startswith("error")] == real.err[:1]
    page = " ".join(dry.out.split())
    assert [page.count(line.removeprefix("error: ")) for line in real.err] == [1, 1]


def test_bad_settings_stop_before_anything(run: Any, argv: list[str]) -> None:
    result = run(*argv, "--epochs", "0", "--dry-run")
    assert (result.code, result.out, result.err) == (
        2,
        "",
        ["error: --epochs: must be greater than 0, or auto (got 0)"],
    )


def test_a_run_and_its_resumption_print_their_summary_as_json(run: Any, argv: list[str], tmp_path: Path) -> None:
    folder = str(tmp_path / "run")
    first = strict(run(*argv, "--epochs", "1", "--output-dir", folder, "--json").out)
    assert (first["run_dir"], first["steps"], first["epochs"]) == (folder, 3, 1)
    again = strict(run("resume", folder, "--epochs", "2", "--json").out)
    assert (again["run_dir"], again["steps"], again["epochs"]) == (folder, 6, 2)
    assert again["best"].keys() == {"metric", "value", "epoch"}


def test_the_old_scripts_take_both_switches() -> None:
    assert translate(["--train-dir", "a", "b", "--dry-run", "--json", "--epochs", "3"]) == (
        ["--train-dir", "a", "--train-dir", "b", "--dry-run", "--json", "--epochs", "3"]
    )
    assert translate(["--dry", "--train-dir", "a"]) == ["--dry-run", "--train-dir", "a"]


def test_the_switch_is_not_taken_for_the_value_of_another_flag(run: Any) -> None:
    result = run("pretrain", "hands", "--train-dir", "a", "--output-dir", "--dry-run")
    assert (result.code, result.err) == (2, ["error: --output-dir: needs PATH before --dry-run"])
