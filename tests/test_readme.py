"""What the READMEs, the Makefile and the examples tell people to type is right."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from sltdino import errors
from sltdino.cli import messages
from sltdino.cli.app import app
from sltdino.cli.options import with_values
from sltdino.core.settings_files import load_settings
from sltdino.core.signals import STOP_SIGNALS

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.es.md")
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))


class Quoted(NamedTuple):
    """A command line in a document."""

    where: str
    words: tuple[str, ...]


def quoted_commands() -> list[Quoted]:
    found = []
    for name in (*READMES, "Makefile", *(f"examples/{path.name}" for path in EXAMPLES)):
        text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"(?:^ *|[`/]|#.*: +)(sltdino [^`\n]+)", text, re.MULTILINE):
            found.append(Quoted(name, tuple(with_values(shlex.split(line, comments=True)[1:]))))
    return list(dict.fromkeys(found))


def command(words: tuple[str, ...]) -> tuple[Any, list[str]]:
    """The command that the words name, and the words after its name."""
    found: Any = typer.main.get_command(app)
    rest = list(words)
    while rest and rest[0] in getattr(found, "commands", {}):
        found = found.commands[rest.pop(0)]
    return found, rest


COMMANDS = quoted_commands()


def test_commands_are_found_in_every_document() -> None:
    assert {quoted.where for quoted in COMMANDS} >= {*READMES, "Makefile", "examples/hands.toml", "examples/face.toml"}
    assert len(COMMANDS) > 15
    assert ("Makefile", "pretrain") in {(quoted.where, quoted.words[0]) for quoted in COMMANDS}


@pytest.mark.parametrize("quoted", COMMANDS, ids=lambda quoted: f"{quoted.where}: {' '.join(quoted.words)}"[:90])
def test_a_quoted_command_line_parses(quoted: Quoted) -> None:
    found, rest = command(quoted.words)
    is_of_the_program = rest[:1] == ["--install-completion"]  # which would act
    assert not hasattr(found, "commands") or is_of_the_program, f"no such command: {quoted.words[0]}"
    if "--help" not in rest and not is_of_the_program:
        found.make_context("sltdino", rest)  # parses all of it, and runs nothing


def test_a_flag_that_does_not_exist_would_be_found() -> None:
    found, rest = command(("pretrain", "hands", "--train-dir", "crops", "--no-such-flag", "1"))
    with pytest.raises(Exception, match="no-such-flag"):
        found.make_context("sltdino", rest)


@pytest.mark.parametrize("name", READMES)
def test_every_flag_named_in_a_readme_exists(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    known = {"--help", "--debug"}
    lines = (
        "",
        "pretrain hands",
        "pretrain face",
        "resume",
        "export",
        "embed",
        "inspect",
        "evaluate",
        "check",
        "doctor",
        "demo-data",
    )
    for line in lines:
        for parameter in command(tuple(line.split()))[0].params:
            known |= {*parameter.opts, *parameter.secondary_opts}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {
        "--strict",
        "--logdir",
        "--final",
    }  # of mypy, TensorBoard, quality.py
    assert len(named) > 10
    assert named <= known


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_file_loads_as_settings(path: Path) -> None:
    stream = "face" if "face" in path.name else "hands"
    loaded = load_settings(stream, files=[path], flags={"train_dir": ["crops"]})
    written = tomllib.loads(path.read_text(encoding="utf-8"))
    assert loaded.settings.algorithm == written["algorithm"]
    assert loaded.settings.epochs == written["epochs"]
    assert loaded.settings.experiment.name == written["experiment"]["name"]


@pytest.mark.parametrize("name", READMES)
def test_a_configuration_file_in_a_readme_loads_as_settings(name: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        file = tmp_path / "hands.toml"
        file.write_text(block, encoding="utf-8")
        assert load_settings("hands", files=[file]).settings.epochs == 100


@pytest.mark.parametrize("name", READMES)
def test_links_lead_to_files(name: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_examples_are_listed_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES if f"examples/{path.name}" not in text] == []


@pytest.mark.parametrize("name", READMES)
def test_the_exit_codes_are_those_of_the_program(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    section = re.split(r"^## ", text, flags=re.MULTILINE)
    [codes] = [part for part in section if part.startswith(("Exit codes", "Códigos de salida"))]
    listed = {int(code) for code in re.findall(r"(?:^|· )(\d+)(?= )", codes, re.MULTILINE)}
    raised = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert listed == {0, 1, messages.INTERRUPTED, messages.STDOUT_CLOSED, *raised, *STOP_SIGNALS.values()}
