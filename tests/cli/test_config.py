"""`sltdino config` and `pretrain --print-config`, through the command line."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sltdino.core.run_files import read_params
from sltdino.core.settings_files import load_settings


@pytest.mark.parametrize("stream", ["face", "hands"])
def test_init_writes_a_file_that_trains(stream: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("config", "init", stream)
    command = f"sltdino pretrain {stream} --config {stream}.toml --dry-run"
    assert (result.code, result.out) == (0, f"{stream}.toml\n")
    assert result.err == [f"next: set train_dir in it, then {command}"]
    assert load_settings(stream, files=[Path(f"{stream}.toml")]).settings.train_dir[0].parent == Path("crops")


def test_init_prints_with_a_dash(run: Any) -> None:
    assert tomllib.loads(run("config", "init", "face", "-").out)["train_dir"] == ["crops/face"]


def test_init_with_a_preset_asks_for_it_and_shows_its_values(run: Any, tmp_path: Path) -> None:
    text = run("config", "init", "hands", "-", "--preset", "dinov2").out
    assert tomllib.loads(text)["preset"] == "dinov2"
    lines = text.splitlines()
    assert {"#patch_out_dim = 65536", "#global_crop_scale = [0.32, 1.0]", "#hflip_prob = 0.0"} <= set(lines)
    assert 'output_dir = "work_dirs/dinov2_hand"' in lines
    file = tmp_path / "hands.toml"
    file.write_text(text)
    flags = {"train_dir": "crops", "output_dir": "out"}
    written = load_settings("hands", files=[file], flags=flags).settings
    assert written == load_settings("hands", flags={**flags, "preset": "dinov2"}).settings


def test_print_config_says_what_a_preset_gave(run: Any, pictures: Path) -> None:
    result = run("pretrain", "hands", "--train-dir", str(pictures), "--preset", "dino", "--batch-size", "8",
                 "--student-temp", "0.2", "--print-config")  # fmt: skip
    origins = {line.split(" ")[0]: line.rpartition("  # ")[2] for line in result.out.splitlines() if " = " in line}
    assert (origins["out_dim"], origins["student_temp"], origins["hflip_prob"]) == (
        "preset dino", "--student-temp", "preset hands",
    )  # fmt: skip
    assert origins["learning_rate"] == "auto: preset dino, 0.0005 · 8 images per step / 256"


def test_init_never_overwrites(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("epochs = 7\n")
    result = run("config", "init", "hands", str(file))
    assert result.code == 73
    assert "mine.toml: exists already; name another file, or - for stdout" in result.err[0]
    assert file.read_text() == "epochs = 7\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("hand",), "error: config init: unknown stream 'hand'; did you mean 'hands'?"),
        (("torso",), "error: config init: unknown stream 'torso'; use hands or face"),
        (("face", "--preset", "dinv2"), "error: config init: unknown preset 'dinv2'; did you mean 'dinov2'?"),
        (
            ("face", "--preset", "huge"),
            "error: config init: unknown preset 'huge'; use none, laptop, dino, ibot, dinov2, signmusketeers",
        ),
        (("face", "face.yaml"), "error: config init: face.yaml is written as TOML; end its name in .toml"),
    ],
)
def test_init_says_what_is_wrong(words: tuple[str, ...], message: str, run: Any) -> None:
    result = run("config", "init", *words)
    assert (result.code, result.err) == (2, [message])


def test_schema_prints_json(run: Any) -> None:
    result = run("config", "schema")
    assert json.loads(result.out)["properties"]["epochs"] == {"$ref": "#/$defs/epochs"}


def test_show_gives_the_settings_of_a_run_with_their_origins(run: Any, finished_once: Path, tmp_path: Path) -> None:
    result = run("config", "show", str(finished_once))
    assert "batch_size = 8                                # --batch-size" in result.out.splitlines()
    file = tmp_path / "again.toml"
    file.write_text(result.out)
    again = load_settings("face", files=[file]).settings.model_dump(mode="json")
    assert again == read_params(finished_once)["settings"]


def test_show_prints_json(run: Any, finished_once: Path) -> None:
    content = json.loads(run("config", "show", "--json", str(finished_once)).out)
    assert content["dataset"]["batch_size"] == 8
    assert content["//"]["origins"]["head.batch_norm"] == "default"


def test_show_of_a_run_of_the_old_scripts_says_why_it_cannot(run: Any, tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text('{"algorithm": "dino", "epochs": 3}')
    result = run("config", "show", str(tmp_path))
    assert result.code == 2
    assert "holds no settings that this version reads" in result.err[0]


@pytest.mark.parametrize("stream", ["face", "hands"])
def test_show_of_a_settings_file_names_the_command_that_shows_it(stream: str, run: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    run("config", "init", stream, str(file))
    result = run("config", "show", str(file))
    assert result.code == 2
    assert "a settings file, not a run folder" in result.err[0]
    assert result.err[0].endswith(f": sltdino pretrain {stream} --config {file} --print-config")


def test_show_of_a_folder_that_is_no_run_says_so(run: Any, tmp_path: Path) -> None:
    assert f"{tmp_path}: no run folder (it has no params.json)" in run("config", "show", str(tmp_path)).err[0]


def test_show_of_nothing_is_a_missing_input(run: Any, tmp_path: Path) -> None:
    assert run("config", "show", str(tmp_path)).code == 66


@pytest.mark.parametrize("flag", ["--print-config", "--print-config=toml", "--print-config=json"])
def test_print_config_settles_every_auto_and_writes_nothing(
    flag: str, run: Any, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("pretrain", "hands", "--train-dir", str(pictures), "--preset", "laptop", flag, "--batch-size", "8")
    assert (result.code, result.err) == (0, [])
    assert list(tmp_path.iterdir()) == []
    is_json = flag.endswith("json")
    content = json.loads(result.out) if is_json else tomllib.loads(result.out)
    assert (content["head"]["out_dim"], content["vit"]["depth"], content["dataset"]["batch_size"]) == (1024, 4, 8)
    assert "auto: 24 images" in result.out
    file = tmp_path / f"back.{'json' if is_json else 'toml'}"
    file.write_text(result.out)
    back = run("pretrain", "face", "--config", str(file), flag.partition("=")[0] + "=json").out
    assert without_comment(json.loads(back)) == without_comment(content)


def without_comment(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != "//"}


def test_print_config_of_a_run_to_go_on_with_shows_that_runs_settings(
    run: Any, finished_once: Path, pictures: Path, tiny: dict[str, Any]
) -> None:
    flags = [item for key, value in tiny.items() for item in ("--set", f"{key}={json.dumps(value)}")]
    same = ("pretrain", "hands", "--train-dir", str(pictures), "--resume", str(finished_once), *flags)
    result = run(*same, "--print-config", "--log-interval=7")
    assert result.err == []
    content = tomllib.loads(result.out)
    assert (content["log_interval"], content["vit"]["embed_dim"], content["head"]["out_dim"]) == (7, 16, 32)
    changed = run(*same, "--print-config", "--seed=1", "--epochs=9")
    assert (changed.code, changed.out, len(changed.err)) == (2, "", 2)


def test_print_config_without_images_says_what_prints_the_defaults(run: Any) -> None:
    start = "error: --train-dir: missing; pass --train-dir PATH or set 'train_dir' in a --config file"
    assert run("pretrain", "face").err == [start]
    way = "the images settle what is auto; `sltdino config init face -` prints the defaults"
    for flags in (("--print-config",), ("--print-config=json",)):
        result = run("pretrain", "face", *flags)
        assert (result.code, result.out, result.err) == (2, "", [f"{start}; {way}"])


def test_print_config_refuses_another_format(run: Any) -> None:
    result = run("pretrain", "hands", "--print-config=yaml")
    assert result.code == 2
    assert "'yaml' is not one of 'toml', 'json'" in result.err[0]


def test_the_old_scripts_print_their_config_too(pictures: Path) -> None:
    script = Path(__file__).parents[2] / "tools" / "pretrain_dino_face.py"
    command = [
        sys.executable,
        str(script),
        "--print-config",
        "--train-dir",
        str(pictures),
        str(pictures),
        "--batch",
        "8",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert tomllib.loads(done.stdout)["dataset"]["batch_size"] == 8
