"""`sltdino check` as it is typed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sltdino.core.settings_files import load_settings
from sltdino.data.exclusions import read_exclusions
from sltdino.data.image_folder import scan_listed


@pytest.fixture
def flawed(tmp_path: Path, draw: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight pictures of 80 px, a black one, a copy and a broken one; the current folder is another."""
    data = tmp_path / "set" / "train"
    data.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(8):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((80, 80), Image.Resampling.NEAREST).save(data / f"{number}.png")
    Image.new("RGB", (80, 80)).save(data / "black.png")
    (data / "copy.png").write_bytes((data / "7.png").read_bytes())
    (data / "cut <b>.png").write_bytes(b"no picture")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return data


def test_the_page_begins_with_the_verdict_and_fits_80_columns(run: Any, flawed: Path) -> None:
    result = run("check", str(flawed))
    assert result.code == 0
    first, *_ = result.out.splitlines()
    assert first == "3 images to exclude; look at: broken (1), black (1), copies (1)"
    commands = [line for line in result.out.splitlines() if "--exclude" in line]
    assert commands == ["exclusion list of 3 images; next: sltdino pretrain ... --exclude exclude-set-train.txt"]
    assert max(len(line) for line in result.out.splitlines() if line not in commands) <= 80


def test_a_clean_set_is_fine_and_nothing_is_written(run: Any, flawed: Path) -> None:
    for name in ("black.png", "copy.png", "cut <b>.png"):
        (flawed / name).unlink()
    before = sorted(flawed.iterdir())
    result = run("check", str(flawed), "--strict")
    assert (result.code, result.out.splitlines()[0]) == (0, "fine: nothing was found in 8 images")
    assert list(Path().iterdir()) == []
    assert sorted(flawed.iterdir()) == before


def test_training_takes_the_list_and_the_next_check_is_fine(run: Any, flawed: Path) -> None:
    run("check", str(flawed))
    listed = read_exclusions(Path("exclude-set-train.txt"))
    assert sorted(listed.names) == [b"black.png", b"copy.png", b"cut <b>.png"]
    flags = {"train_dir": str(flawed), "exclude": "exclude-set-train.txt"}
    settings = load_settings("hands", flags=flags).settings
    assert len(scan_listed(settings.train_dir, settings.dataset.exclude)) == 8


def test_json_holds_the_verdict_the_flaws_and_the_list(run: Any, flawed: Path) -> None:
    result = run("check", str(flawed), "--json", "--exclude-list", "list.txt", "--keep", "black")
    facts = json.loads(result.out)
    assert [(flaw["name"], flaw["number"], flaw["total"]) for flaw in facts["flaws"]] == [
        ("broken", 1, 11), ("black", 1, 11), ("copies", 1, 11),
    ]  # fmt: skip
    assert facts["flaws"][2]["examples"] == [[str(flawed / "7.png"), str(flawed / "copy.png")]]
    kinds = ["broken", "constant", "copies"]
    assert facts["excluded"] == {"number": 2, "kinds": kinds, "list": "list.txt", "taken_off": 0}
    assert facts["images"] == {"train": 11, "val": 0}
    pixels = np.stack([np.asarray(Image.open(flawed / f"{number}.png")) for number in [*range(8), 7]]) / 255
    np.testing.assert_allclose(facts["channels"]["mean"], pixels.mean(axis=(0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(facts["channels"]["std"], pixels.std(axis=(0, 1, 2)), atol=1e-4)


def test_strict_exits_with_65_when_there_is_something_to_exclude(run: Any, flawed: Path) -> None:
    result = run("check", str(flawed), "--strict")
    assert (result.code, Path("exclude-set-train.txt").exists()) == (65, True)


def test_the_page_shows_the_worst_and_no_name_is_markup(run: Any, flawed: Path) -> None:
    result = run("check", str(flawed), "--html", "page.html")
    assert result.code == 0
    page = Path("page.html").read_text()
    assert "cut &lt;b&gt;.png" in page.replace("<wbr>", "")
    assert "cut <b>" not in page
    assert page.count("data:image/jpeg;base64,") == 3  # black, and the two copies
    assert "not a PNG, JPEG, BMP or TIFF file" in page


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("nowhere",), 66, "nowhere"),
        (("DATA", "--val-dir", "nowhere"), 66, "nowhere"),
        (("DATA", "--drop", "blured"), 2, "did you mean 'blurred'?"),
        (("DATA", "--group-regex", "signer"), 2, "has 0 capture groups"),
        (("DATA", "--html", "DATA/page.html"), 2, "lies among the images"),
        (("DATA", "--exclude-list", "DATA/list.txt"), 2, "lies among the images"),
        (("DATA", "--exclude-list", "notes.txt"), 2, "is no exclusion list"),
        (("DATA", "--html", "no/where/page.html"), 2, "there is no folder"),
        (("DATA", "--html", "notes.txt"), 73, "exists, and no report"),
        (("DATA", "--val-dir", "DATA"), 2, "lie in each other"),
    ],
)
def test_a_mistake_is_one_line_and_its_code_and_changes_nothing(
    argv: tuple[str, ...], code: int, said: str, run: Any, flawed: Path
) -> None:
    Path("notes.txt").write_text("mine")
    before = sorted(flawed.iterdir())
    result = run("check", *(item.replace("DATA", str(flawed)) for item in argv))
    assert (result.code, result.out, len(result.err)) == (code, "", 1), result.err
    assert said in result.err[0]
    assert [path.read_text() for path in Path().iterdir()] == ["mine"]
    assert sorted(flawed.iterdir()) == before


def test_the_list_of_another_folder_is_not_replaced(run: Any, flawed: Path) -> None:
    Path("list.txt").write_text("# sltdino exclusion list 1\n# folder: /elsewhere\n")
    result = run("check", str(flawed), "--exclude-list", "list.txt")
    assert result.code == 2
    assert "is the exclusion list of /elsewhere" in result.err[0]


def test_a_list_that_replaces_a_longer_one_says_so(run: Any, flawed: Path) -> None:
    first = run("check", str(flawed), "--exclude-list", "list.txt")
    assert "replaces an earlier list" not in first.out
    assert "replaces" not in run("check", str(flawed), "--exclude-list", "list.txt").out
    fewer = run("check", str(flawed), "--exclude-list", "list.txt", "--keep", "broken")
    assert "it replaces an earlier list; on it no more: 1 image" in fewer.out


def test_checking_the_current_folder_writes_no_list_into_it(
    run: Any, flawed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(flawed)
    before = sorted(flawed.iterdir())
    result = run("check", ".")
    assert result.code == 0
    assert "no exclusion list was written" in result.out
    assert sorted(flawed.iterdir()) == before
