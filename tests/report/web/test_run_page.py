"""The report on a run, in whatever state the run is."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import sltdino.report.web.run_page as run_page_module
from sltdino.report.summary import summarize
from sltdino.report.web.file_table import find_files
from sltdino.report.web.html import escape
from sltdino.report.web.run_page import run_page

VOID = {"br", "hr", "img", "input", "link", "meta", "wbr"}


class Page(HTMLParser):
    """A page as the standard library reads it: balanced tags, ids, links, and the text of each section."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.text: dict[str, str] = {"": ""}
        self.section = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        self.names |= given.keys()
        if "id" in given:
            self.ids.append(str(given["id"]))
        if tag == "a":
            self.links.append(str(given["href"]).removeprefix("#"))
        if tag == "section":
            self.section = str(given["id"])
            self.text[self.section] = ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.section = "" if tag == "section" else self.section

    def handle_data(self, data: str) -> None:
        self.text[self.section] += f"{data} "


def read(run: Path) -> Page:
    return Page(run_page(run))


def test_the_page_is_well_formed_and_its_links_lead_somewhere(finished: Path) -> None:
    page = read(finished)
    assert len(set(page.ids)) == len(page.ids)
    assert set(page.links) <= set(page.ids)
    assert {"glance", "good", "curves", "data", "settings", "files", "software"} <= set(page.links)


def test_the_verdict_comes_before_everything_else(finished: Path) -> None:
    page, verdict = run_page(finished), summarize(finished)["verdict"]
    word = {"good": "Good", "so-so": "So-so", "bad": "Bad", "too early": "Too early to say"}[verdict["grade"]]
    said = f"<strong>{word}: </strong>{escape(verdict['why'])}"
    assert page.index(said) < page.index("<nav") < page.index("<main")


def test_the_same_run_gives_the_same_page_but_for_its_time(finished: Path) -> None:
    one, other = (run_page(finished).partition("this page is of") for _ in range(2))
    assert one[0] == other[0]
    assert one[2][60:] == other[2][60:]


def test_every_measured_thing_has_a_chart(finished: Path) -> None:
    text = read(finished).text["curves"]
    for title in (
        "Student against teacher: CLS", "Gradient norm", "Learning rate", "Teacher momentum", "Throughput",
        "Spread of the feat",
    ):  # fmt: skip
        assert title in text
    assert "ln 32 = 3.466" in text


def test_settings_have_their_origins(finished: Path) -> None:
    text = " ".join(read(finished).text["settings"].split())
    assert "vit. embed_ dim 16 " in text
    origins = json.loads((finished / "params.json").read_text())["origins"]
    assert f"vit. embed_ dim 16 {origins['vit.embed_dim']} " in text
    assert "default" in text


def test_training_folders_are_listed_once(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    listed = run_page_module.run_images

    def counted(run: Path, params: Any) -> Any:
        calls.append(run)
        return listed(run, params)

    monkeypatch.setattr(run_page_module, "run_images", counted)
    text = read(finished).text
    assert "24 training images" in text["map"]
    assert calls == [finished]


def test_the_navigation_is_short_and_ends_in_what_the_words_mean(finished: Path) -> None:
    page = run_page(finished)
    names = re.findall(r'<a href="#\w+">(.*?)</a>', page.partition("<nav")[2].partition("</nav>")[0])
    assert names[2:8] == ["Curves", "Crops", "Attention", "Patches", "Neighbours", "Map"]
    assert names[-1] == "Words"
    assert "ln K is the loss of answers that favour no prototype" in page


@pytest.mark.parametrize(("algorithm", "compared"), [("dino", True), ("ibot", False)])
def test_the_whole_loss_is_compared_with_ln_k_where_it_has_no_patch_term(
    finished: Path, algorithm: str, compared: bool
) -> None:
    params = json.loads((finished / "params.json").read_text()) | {"algorithm": algorithm}
    (finished / "params.json").write_text(json.dumps(params))
    page = run_page(finished)
    assert ("ln 32 =" in page.partition('id="loss-0"')[2].partition("</figure>")[0]) is compared
    assert "ln 32 =" in page.partition('id="loss-1"')[2].partition("</figure>")[0]


def test_what_to_do_about_a_collapse_is_said_once(finished: Path) -> None:
    rows = [
        {"step": at, "context": "train_step", "loss": 3.4, "loss_gap": 0.0, "target_entropy": 3.46, "epoch": 1,
         "assignment_entropy": 3.46, "feature_spread": 0.5, "cosine_to_mean": 0.5, "health": "uniform collapse"}
        for at in range(1, 400)
    ]  # fmt: skip
    (finished / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    top, next_step = read(finished).text[""], summarize(finished)["verdict"]["what_next"]
    assert next_step
    assert " ".join(top.split()).count(next_step) == 1


def test_a_curve_is_not_repeated_upside_down(finished: Path) -> None:
    assert "Loss gap" not in read(finished).text["curves"]


def test_files_have_their_size_and_digest(finished: Path) -> None:
    from hashlib import sha256

    page = read(finished)
    assert sha256((finished / "checkpoint_last.pt").read_bytes()).hexdigest() in page.text["files"]
    assert "checkpoint_last" in page.text["files"]


def test_a_copied_run_lists_its_own_files(finished: Path, finished_once: Path) -> None:
    (finished / "checkpoint_last.pt").write_bytes(b"changed")
    found = {item.name: item for item in find_files(finished)}
    assert found["checkpoint_last"].path == finished / "checkpoint_last.pt"
    assert found["checkpoint_last"].size == 7
    assert not [item for item in found.values() if item.path.is_relative_to(finished_once)]


def test_an_export_that_was_changed_is_said_to_be(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "backbone.pt"
    path.write_bytes(b"other")
    entries = json.loads((finished / "artifacts.json").read_text())
    entries += [
        {"name": "exported_backbone", "path": str(path), "timestamp": "", "metadata": {"sha256": "0" * 64}},
        {"name": "exported_onnx", "path": str(tmp_path / "gone.onnx"), "timestamp": "", "metadata": {}},
    ]
    (finished / "artifacts.json").write_text(json.dumps(entries))
    text = read(finished).text["files"]
    assert "changed since it was exported" in text
    assert "gone.onnx" in text.replace(". ", ".")
    assert " gone " in text


def test_the_data_sheet_counts_what_lies_there(train: Any, own_pictures: Path, tmp_path: Path) -> None:
    run = train(images=own_pictures).run_dir
    text = read(run).text["data"]
    assert "24 of PNG RGB" in text
    assert "24 of 24 × 24" in text
    assert "the same files as at the start" in text
    (own_pictures / "0.png").write_bytes(b"broken")
    text = read(run).text["data"]
    assert "have changed since the start" in text
    assert "not a PNG, JPEG, BMP or TIFF file" in text


def test_images_that_are_gone_are_said_to_be_and_the_rest_is_shown(train: Any, own_pictures: Path) -> None:
    run = train(images=own_pictures).run_dir
    shutil.rmtree(own_pictures)
    page = read(run)
    assert "cannot be looked at now" in page.text["data"]
    assert "No such file or directory" in page.text["data"]
    assert "Gradient norm" in page.text["curves"]


def test_images_that_training_could_not_read_are_listed_with_the_reason(finished: Path) -> None:
    record = {"path": "/crops/<b>.png", "reason": "cut short", "use": "train"}
    (finished / "bad_images.jsonl").write_text(json.dumps(record) + "\n")
    page = read(finished)
    assert "cut short" in page.text["data"]
    assert "b" not in page.tags


def test_a_run_of_an_old_script_has_a_page(finished: Path) -> None:
    params = json.loads((finished / "params.json").read_text())
    for key in ("settings", "origins", "environment", "images", "total_steps"):
        del params[key]
    (finished / "params.json").write_text(json.dumps(params))
    (finished / "status.json").unlink()
    rows = [{"step": at, "context": "train_step", "loss": 3.0 + at / 10, "epoch": 1} for at in range(1, 7)]
    (finished / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = read(finished)
    assert "old script" in page.text["settings"]
    assert "Loss" in page.text["curves"]
    assert "24" in page.text["data"]


def test_a_run_that_has_just_begun_has_a_page(finished: Path) -> None:
    for name in ("metrics.jsonl", "checkpoint_last.pt", "checkpoint_prev.pt", "checkpoint_best.pt"):
        (finished / name).unlink(missing_ok=True)
    (finished / "artifacts.json").unlink()
    page = read(finished)
    assert "No step was logged yet" in page.text["curves"]
    assert "None yet" in page.text["files"]


def test_a_collapse_is_said_at_the_top_and_shaded_in_the_charts(finished: Path) -> None:
    rows = [
        {"step": at, "context": "train_step", "loss": 3.4, "loss_gap": 0.0, "target_entropy": 3.46, "epoch": 1,
         "assignment_entropy": 3.46, "feature_spread": 0.5, "cosine_to_mean": 0.5, "grad_norm": 1.0,
         "health": "uniform collapse"}
        for at in range(1, 400)
    ]  # fmt: skip
    (finished / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = read(finished)
    assert "Uniform collapse since step" in page.text[""]
    assert "Shaded: uniform collapse" in page.text["curves"]


def test_a_resume_is_marked(finished: Path) -> None:
    with (finished / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 4, "context": "resume", "checkpoint": "checkpoint_last.pt"}) + "\n")
    assert "Dashed: resumed at step 4" in read(finished).text["curves"]


def test_hostile_names_stay_text(train: Any, own_pictures: Path) -> None:
    hostile = "</title><script>alert(1)</script><img src=x onerror=alert(1)>"
    (own_pictures / "<img src=x onerror=alert(1)>.png").write_bytes(b"no image")
    run = train(images=own_pictures, experiment_name=hostile, experiment_notes=hostile, max_bad_fraction=0.5).run_dir
    page = read(run)
    assert "script" not in page.tags
    assert not {name for name in page.names if name.startswith("on")}
    assert hostile in page.text[""]
    assert "<img src=x onerror=alert(1)>.png" in page.text["data"].replace(". ", ".").replace("/ ", "/")


@pytest.mark.parametrize("record", [{"step": "x"}, {"step": 5, "loss": "x"}, {"step": 6, "loss": [1]}, {"step": -1}])
def test_a_record_that_is_none_does_not_stop_it(finished: Path, record: dict[str, object]) -> None:
    with (finished / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"context": "train_step", **record}) + "\n")
    assert "Gradient norm" in read(finished).text["curves"]
