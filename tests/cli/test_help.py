"""Help: complete, whole names, plain text."""

from typing import Any

import pytest

from sltdino.cli.app import app
from sltdino.core.changes import RUN_CONTROL
from sltdino.core.settings_schema import LEAVES


def flags_of(*path: str) -> list[str]:
    import typer

    command: Any = typer.main.get_command(app)
    for name in path:
        command = command.commands[name]
    return [flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)]


def words(text: str) -> list[str]:
    return text.replace(",", " ").split()


@pytest.mark.parametrize("width", [60, 100])
@pytest.mark.parametrize("command", ["hands", "face"])
def test_every_flag_is_in_the_help_whole(command: str, width: int, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = words(run("pretrain", command, "--help").out)
    for leaf in LEAVES:
        assert leaf.flag in shown
        assert not leaf.is_switch or f"--no-{leaf.flag[2:]}" in shown


@pytest.mark.parametrize("width", [60, 100])
def test_every_description_is_in_the_help_whole(width: int, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = " ".join(run("pretrain", "hands", "--help").out.split())
    assert [leaf.key for leaf in LEAVES if " ".join(leaf.help.split()) not in shown] == []


@pytest.mark.parametrize("width", [60, 100])
def test_no_line_is_wider_than_the_terminal(width: int, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    long = [line for line in run("pretrain", "hands", "--help").out.splitlines() if len(line) > width]
    # only what does not fit whole, the two names of a switch or one long word: better long than cut
    assert [line for line in long if " / --no-" not in line and len(line.split()) > 1] == []


def test_help_is_plain_text_even_when_colours_are_forced(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    for argv in (
        [],
        ["pretrain"],
        ["pretrain", "face"],
        ["resume"],
        ["export"],
        ["inspect"],
        ["doctor"],
        ["demo-data"],
    ):
        result = run(*argv, "--help")
        assert result.code == 0
        assert result.out.startswith("Usage: sltdino")
        assert not set(result.out) & set("\x1b│╭─")


def test_the_defaults_shown_are_those_of_the_preset(run: Any) -> None:
    face, hands = (" ".join(run("pretrain", stream, "--help").out.split()) for stream in ("face", "hands"))
    assert "in signing. [default: 0.25]" in face
    assert "in signing. [default: 0.0]" in hands
    assert "channel (of values in 0..1). [default: 0.485 0.456 0.406]" in face


def test_options_are_grouped_by_section_with_their_kind(run: Any) -> None:
    lines = run("pretrain", "hands", "--help").out.splitlines()
    backbone = lines[lines.index("Backbone:") : lines.index("Heads:")]
    assert any(line.startswith("  --vit-depth INT|auto ") for line in backbone)
    assert not any("--epochs" in line for line in backbone)


def test_the_help_begins_with_what_everybody_needs(run: Any) -> None:
    lines = [line for line in run("pretrain", "hands", "--help").out.splitlines() if line[:3] in ("  -", "Opt", "Run")]
    at = lines.index("Run:")
    assert [line.split()[0] for line in lines[at + 1 : at + 5]] == [
        "--train-dir", "--output-dir", "--preset", "--epochs",
    ]  # fmt: skip
    before = run("pretrain", "hands", "--help").out.partition("Run:")[0]
    assert "--dry-run" in before.partition("Options:")[2]
    assert before.count(":\n") == 1


def test_commands_are_listed_in_the_order_of_use_under_an_example(run: Any) -> None:
    text = run("--help").out
    listed = text.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed if line[2] != " "] == [
        "check", "pretrain", "resume", "inspect", "evaluate", "export", "embed", "config", "demo-data", "doctor",
    ]  # fmt: skip
    assert "\nExample: sltdino pretrain hands --train-dir crops" in text
    assert "\nExample: sltdino pretrain face --train-dir crops" in run("pretrain", "face", "--help").out


def test_no_two_options_of_a_command_share_a_flag() -> None:
    for path in (("pretrain", "face"), ("pretrain", "hands"), ("resume",), ("export",), ("evaluate",), ("check",)):
        flags = flags_of(*path)
        assert len(flags) == len(set(flags)), path


def test_resume_offers_every_setting_but_those_that_name_another_run() -> None:
    offered = set(flags_of("resume"))
    assert {leaf.key for leaf in LEAVES if leaf.flag not in offered} == RUN_CONTROL
