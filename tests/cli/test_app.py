"""Exit codes, messages, and what is imported when."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sltdino import errors
from sltdino.cli import app


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def raise_it(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(sys.modules["sltdino.pretraining"], "pretrain", raise_it)


ARGV = ("pretrain", "hands", "--train-dir", "a")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (errors.DataError("too few"), 65, "error [E-DATA] too few"),
        (errors.CheckpointError("bad", code="E-CKPT-CORRUPT"), 65, "error [E-CKPT-CORRUPT] bad"),
        (errors.StoppedError("saved", exit_code=75), 75, "stopped [E-STOPPED] saved"),
        (
            errors.StoppedError("SIGINT at step 62 of 152; saved", exit_code=130),
            130,
            "stopped [E-STOPPED] Ctrl-C at step 62 of 152; saved",
        ),
        (errors.RunInUseError("busy\x1b[2J"), 69, "error [E-IN-USE] busy\\x1b[2J"),
        (errors.SettingsError("late"), 2, "error: late"),
        (
            PermissionError(13, "Permission denied", "runs/a"),
            74,
            "error [E-STORAGE] runs/a: Permission denied; check the name, its permissions and the disk",
        ),
        (KeyboardInterrupt(), 130, "stopped [E-INTERRUPTED] Ctrl-C; nothing was saved"),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, run: Any, trained: Any
) -> None:
    fail_with(monkeypatch, error)
    result = run(*ARGV)
    assert (result.code, result.out, result.err) == (code, "", [line])


def test_further_lines_of_an_error_are_indented(monkeypatch: pytest.MonkeyPatch, run: Any, trained: Any) -> None:
    fail_with(monkeypatch, errors.ChangeRefusedError("one\ntwo"))
    assert run(*ARGV).err == ["error [E-CHANGE] one", "  two"]


def test_a_bug_is_one_line_that_says_where_its_traceback_is(
    monkeypatch: pytest.MonkeyPatch, run: Any, trained: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fail_with(monkeypatch, ValueError("odd\nthing"))
    result = run(*ARGV)
    [kept] = tmp_path.iterdir()
    assert result.code == 1
    assert result.err == [f"error [E-BUG] ValueError: odd; this is our mistake, please report it with {kept}"]
    assert "Traceback" in kept.read_text()


@pytest.mark.parametrize("argv", [("--debug", *ARGV), (*ARGV, "--debug")])
def test_debug_shows_the_traceback(argv: Any, monkeypatch: pytest.MonkeyPatch, run: Any, trained: Any) -> None:
    fail_with(monkeypatch, errors.DataError("too few"))
    result = run(*argv)
    assert result.err[0].startswith("Traceback")
    assert result.err[-1] == "error [E-DATA] too few"


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (("pretrian",), "error: no such command 'pretrian'; did you mean 'pretrain'? (see sltdino --help)"),
        (
            (*ARGV, "--epoch", "5"),
            "error: no such option --epoch; did you mean --epochs? (see sltdino pretrain hands --help)",
        ),
        (
            (*ARGV, "b"),
            "error: unexpected b: folders go after --train-dir, once for each: --train-dir FOLDER "
            "(see sltdino pretrain hands --help)",
        ),
        (
            (*ARGV, "--lr", "0.1"),
            "error: no such option --lr; did you mean --learning-rate? (see sltdino pretrain hands --help)",
        ),
        (
            (*ARGV, "--data", "b"),
            "error: no such option --data; did you mean --train-dir? (see sltdino pretrain hands --help)",
        ),
        (
            ("embed", "r", "i", "-o", "f", "--workers", "2"),
            "error: no such option --workers; did you mean --num-workers? (see sltdino embed --help)",
        ),
        ((*ARGV, "--set", "lr=1"), "error: --set lr: unknown key 'lr'; did you mean 'learning_rate'?"),
        (
            (*ARGV, "--set", "loss.koleo=1"),
            "error: --set loss.koleo: unknown key 'loss.koleo'; did you mean 'loss.koleo_weight'?",
        ),
        (
            (*ARGV, "--set", "loss.lr=1"),
            "error: --set loss.lr: unknown key 'loss.lr'; did you mean 'optimizer.learning_rate'?",
        ),
        (
            (*ARGV, "-epochs", "5"),
            "error: no such option -epochs; did you mean --epochs? (see sltdino pretrain hands --help)",
        ),
        (
            ("hands", "--epochs", "5"),
            "error: no such command 'hands'; did you mean 'sltdino pretrain hands'? (see sltdino --help)",
        ),
        (("pretrain", "hand"), "error: no such command 'hand'; did you mean 'hands'? (see sltdino pretrain --help)"),
        (
            ("--epochs", "5", "pretrain", "hands"),
            "error: no such option --epochs here; it goes after the command: sltdino pretrain hands --epochs "
            "(see sltdino --help)",
        ),
        (
            ("--lr", "1e-3", "pretrain", "face"),
            "error: no such option --lr here; did you mean, after the command: sltdino pretrain face --learning-rate? "
            "(see sltdino --help)",
        ),
        (
            ("--lr", "1e-3"),
            "error: no such option --lr here; did you mean, after the command: sltdino pretrain hands --learning-rate? "
            "(see sltdino --help)",
        ),
        (
            ("--formt", "slt", "export", "r"),
            "error: no such option --formt here; did you mean, after the command: sltdino export --format? "
            "(see sltdino --help)",
        ),
        (("--zzzz", "pretrain", "hands"), "error: no such option --zzzz (see sltdino --help)"),
        (
            ("export", "r", "--formt", "x"),
            "error: no such option --formt; did you mean --format? (see sltdino export --help)",
        ),
        (
            ("export", "r", "--which", "lst"),
            "error: --which: 'lst' is not one of 'last', 'best' (see sltdino export --help)",
        ),
        ((*ARGV, "-q", "-v"), "error: --quiet and --verbose: choose one of them"),
        (("export", "/"), "error: --output: missing; pass -o PATH, the file to write"),
        (("embed", "/", "/"), "error: --output: missing; pass -o DIR, the folder to write"),
        (("demo-data", "hand", "d"), "error: demo-data: unknown stream 'hand'; did you mean 'hands'?"),
    ],
)
def test_a_usage_error_is_one_line_with_a_suggestion(argv: Any, line: str, run: Any) -> None:
    result = run(*argv)
    assert (result.code, result.out, result.err) == (2, "", [line])


def test_a_source_that_is_not_there_and_a_missing_output_are_told_at_once(run: Any) -> None:
    source, output = "nosuch: there is no such run folder or file; check the path", "error: --output: missing; pass -o"
    exported, embedded = run("export", "nosuch"), run("embed", "nosuch", "none")
    assert (exported.code, embedded.code) == (2, 2)
    assert exported.err == [f"error: SOURCE: {source}", f"{output} PATH, the file to write"]
    assert embedded.err == [
        f"error: BACKBONE: {source}",
        "error: INPUT: none: there is no such folder or image; check the path",
        f"{output} DIR, the folder to write",
    ]


@pytest.mark.parametrize("argv", [(), ("pretrain",)])
def test_a_group_without_a_command_shows_its_help_as_a_mistake(argv: Any, run: Any) -> None:
    result = run(*argv)
    assert result.code == 2
    assert "Commands:" in result.out


def test_version_goes_to_stdout(run: Any) -> None:
    result = run("--version")
    assert result.code == 0
    assert result.out.startswith("sltdino ")


def test_settings_errors_and_help_answer_fast_and_without_torch() -> None:
    code = """
import sys, time
import sltdino
from sltdino.cli.app import main
assert main(["--help"]) == 0
assert main(["pretrain", "hands", "--epochs", "0"]) == 2
assert main(["resume"]) == 2 and main(["export"]) == 2
heavy = {"torch", "numpy", "PIL"} & set(sys.modules)
assert not heavy, heavy
assert time.process_time() < 0.6, time.process_time()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_package_offers_its_functions_and_nothing_else() -> None:
    import sltdino

    assert sltdino.load_settings.__module__ == "sltdino.core.settings_files"
    with pytest.raises(AttributeError, match="no attribute 'pretrian'"):
        sltdino.pretrian  # noqa: B018


def test_the_entry_point_is_main() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"]["sltdino"] == f"{app.__name__}:{app.main.__name__}"


def test_an_interrupted_command_that_writes_as_it_goes_does_not_say_that_nothing_was_saved(
    monkeypatch: pytest.MonkeyPatch, run: Any, tmp_path: Path
) -> None:
    from sltdino.data import synthetic

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "write_demo_crops", interrupted)
    result = run("demo-data", "hands", str(tmp_path / "drawn"))
    assert (result.code, result.err) == (130, ["stopped [E-INTERRUPTED] Ctrl-C"])
