"""The report in headless Chromium, which must be installed: alone, quiet, as wide as a phone, readable, safe."""

import contextlib
import fcntl
import itertools
import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from sltdino.report.web.comparison_page import comparison_page
from sltdino.report.web.run_page import run_page

pytestmark = pytest.mark.slow

CHROMIUM = "/usr/bin/chromium"
HOSTILE = (
    """</title></style><script>window.hit=1</script><img src="http://evil.invalid/x" onerror="window.hit=1">&amp;"""
)
HOSTILE_FILE = """<img src=x onerror='window.hit=1'>&lt;"'.png"""
SECONDS = 60


class Browser:
    """Chromium driven over the pipe of its DevTools protocol, with no name that it could look up."""

    def __init__(self, profile: Path) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (to_browser, from_browser)]  # off 3 and 4
        os.close(to_browser)
        os.close(from_browser)
        flags = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}",
        ]  # fmt: skip
        command = f'exec {CHROMIUM} "$@" 3<&{ends[0]} 4>&{ends[1]}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, "chromium", *flags], pass_fds=ends, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in ends:
            os.close(end)
        self._buffer, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime", "DOM", "Accessibility"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **params: object) -> dict[str, Any]:
        """One call of the protocol; events that come before its answer are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        session = {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(message | session).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer["error"]
        return answer["result"]  # type: ignore[no-any-return]

    def open(self, page: Path, *, width: int = 1000, dark: bool = False, media: str = "screen") -> None:
        """Load a page anew and wait until all of it is there."""
        self.events.clear()
        self("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())
        time.sleep(0.3)  # what would be asked for after loading

    def value(self, script: str) -> Any:
        """What an expression is in the page."""
        result = self("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """A key, down and up."""
        text = {"text": "\r"} if key == "Enter" else {}
        event = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self("Input.dispatchKeyEvent", type="keyDown", **event, **text)
        self("Input.dispatchKeyEvent", type="keyUp", **event)

    @property
    def requests(self) -> list[str]:
        """The addresses asked for since the page was opened, images in the page itself apart."""
        sent = [event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent if not params["request"]["url"].startswith("data:")]

    @property
    def complaints(self) -> list[str]:
        """What stands in the console."""
        kinds = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [json.dumps(event["params"]) for event in self.events if event.get("method") in kinds]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(SECONDS)
        os.close(self._write)
        os.close(self._read)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], SECONDS)
            assert ready, "no answer from Chromium"
            chunk = os.read(self._read, 1 << 20)
            assert chunk, f"Chromium is gone; is it installed at {CHROMIUM}?"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)  # type: ignore[no-any-return]


class Pages(NamedTuple):
    """The pages under test."""

    run: Path
    comparison: Path

    def each(self) -> tuple[Path, ...]:
        return tuple(self)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    with contextlib.closing(browser):
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, train_in: Callable[..., Any], draw: Any) -> Pages:
    """Pages of a run whose every name is hostile, evaluated and resumed, with a finding and unreadable images."""
    folder = tmp_path_factory.mktemp("pages")
    for label in ("a", HOSTILE_FILE):
        draw(folder / "train" / label, 16, seed=ord(label[0]))
        draw(folder / "val" / label, 6, seed=ord(label[0]) + 1)
    (folder / "train" / "a" / HOSTILE_FILE).write_bytes(b"no image")
    Image.new("RGB", (24, 24)).save(folder / "train" / "a" / f"black{HOSTILE_FILE}")
    for name in ("one", "other"):
        train_in(
            folder / name, images=folder / "train", val_dir=str(folder / "val"), eval_every=1, epochs=20,
            learning_rate=1e-3 if name == "one" else 3e-3, max_bad_fraction=0.5, experiment_name=f"{name}{HOSTILE}",
            experiment_notes=HOSTILE, experiment_tag=[HOSTILE],
        )  # fmt: skip
    _add_history(folder / "one")
    _add_evaluation(folder / "one")
    run, comparison = folder / "run.html", folder / "comparison.html"
    run.write_text(run_page(folder / "one"))
    comparison.write_text(comparison_page([folder / "one", folder / "other"]))
    return Pages(run, comparison)


def _add_history(run: Path) -> None:
    """A resume, and a notice, as hostile as the rest."""
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 30, "context": "resume", "checkpoint": HOSTILE}) + "\n")
    status = json.loads((run / "status.json").read_text())
    status["notices"] = [{"text": HOSTILE, "count": 1}]
    (run / "status.json").write_text(json.dumps(status))


def _add_evaluation(run: Path) -> None:
    result = {"method": "knn", "k": 20, "shots": None, "accuracy": 0.5, "accuracy_interval": [0.4, 0.6],
              "balanced_accuracy": 0.5, "balanced_accuracy_interval": [0.4, 0.6]}  # fmt: skip
    names = [f"a label {number} {HOSTILE_FILE}" for number in range(12)]
    record = {
        "schema": 1, "timestamp": "2026-01-01T00:00:00.000+00:00", "backbone": HOSTILE, "checkpoint": HOSTILE,
        "step": 3,
        "train_dirs": [HOSTILE], "val_dirs": [HOSTILE], "labels": names, "train_counts": [9] * 12,
        "val_counts": [12] * 12, "groups": None, "protocol": HOSTILE, "notes": [HOSTILE], "untrained": HOSTILE,
        "results": [result | {"features": features} for features in ("trained", "untrained", "raw pixels")],
        "gains": [{"over": "untrained", **result}], "bad_images": [],
        "confusion": {"method": HOSTILE, "matrix": [[12 - row if row == col else row % 3 for col in range(12)]
                                                    for row in range(12)]},
        "per_class": [{"label": name, "count": 12, "precision": 0.5, "recall": 0.5, "f1": 0.5} for name in names],
    }  # fmt: skip
    (run / "evaluations").mkdir()
    (run / "evaluations" / "all-0123456789ab.json").write_text(json.dumps(record))


def test_a_request_and_an_error_would_be_seen(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><img src='http://evil.invalid/x.png'><script>console.error('here')</script>")
    browser.open(page)
    assert "http://evil.invalid/x.png" in browser.requests
    assert any("here" in complaint for complaint in browser.complaints)


def test_a_page_asks_for_nothing_and_complains_about_nothing(browser: Browser, pages: Pages) -> None:
    for page in pages.each():
        browser.open(page)
        assert browser.requests == [page.as_uri()]
        assert browser.complaints == []


@pytest.mark.parametrize("width", [320, 390, 1000])
def test_a_page_never_scrolls_sideways(browser: Browser, pages: Pages, width: int) -> None:
    for page in pages.each():
        browser.open(page, width=width)
        browser.value("document.querySelectorAll('details').forEach(part => part.open = true)")
        assert browser.value("document.documentElement.clientWidth") == width
        assert browser.value("document.documentElement.scrollWidth") <= width


CONTRAST = """(() => {
  const parse = text => {
    const numbers = text.match(/-?[\\d.]+(e-?\\d+)?/g).map(Number), scale = text.startsWith('color(') ? 255 : 1;
    return [numbers[0] * scale, numbers[1] * scale, numbers[2] * scale, numbers.length > 3 ? numbers[3] : 1];
  };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const light = c => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
    const x = c[i] / 255; return sum + weight * (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  }, 0);
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const page = parse(getComputedStyle(document.body).backgroundColor);
  const behind = node => {
    const layers = [];
    for (let up = node; up instanceof Element; up = up.parentElement)
      layers.push(parse(getComputedStyle(up).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
  };
  document.querySelectorAll('details').forEach(part => part.open = true);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [], low = [];
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (!text || node.closest('title') || node.getBoundingClientRect().width === 0) continue;
    const style = getComputedStyle(node), svg = node.closest('svg');
    const sheet = node.closest('.tip')?.querySelector('.box') ?? svg?.querySelector(':scope > rect[width="100%"]');
    const ground = sheet ? parse(getComputedStyle(sheet).fill) : behind(svg ?? node);
    const value = ratio(over(parse(svg ? style.fill : style.color), ground), ground);
    found.push(value);
    if (value < 4.5) low.push([value.toFixed(2), text.slice(0, 40), node.className.baseVal ?? node.className]);
  }
  const probe = document.body.appendChild(document.createElement('i'));
  for (const at of [0, 1, 2, 3, 4, 5]) {
    probe.style.color = `var(--s${at})`;
    const value = ratio(parse(getComputedStyle(probe).color), page);
    if (value < 3) low.push([value.toFixed(2), `line ${at}`, '']);
  }
  return {count: found.length, low: low.slice(0, 10), page: light(page)};
})()"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_4_5_to_1_and_lines_3_to_1(browser: Browser, pages: Pages, dark: bool) -> None:
    for page in pages.each():
        browser.open(page, dark=dark)
        seen = browser.value(CONTRAST)
        assert seen["low"] == []
        assert seen["count"] > 300
        assert (seen["page"] < 0.1) is dark


def test_low_contrast_would_be_seen(browser: Browser, pages: Pages) -> None:
    browser.open(pages.run)
    browser.value("document.querySelector('h1').style.color = '#999'")
    assert len(browser.value(CONTRAST)["low"]) == 1


def test_a_screen_reader_finds_landmarks_and_names(browser: Browser, pages: Pages) -> None:
    for page in pages.each():
        browser.open(page)
        nodes = browser("Accessibility.getFullAXTree")["nodes"]
        shown = [node for node in nodes if not node.get("ignored")]
        roles = [node["role"]["value"] for node in shown]
        for landmark in ("banner", "navigation", "main", "contentinfo"):
            assert roles.count(landmark) == 1, landmark
        assert len([role for role in roles if role == "region"]) > 5
        for node in shown:
            if node["role"]["value"] in ("image", "img", "link", "radio", "region", "radiogroup", "table", "heading"):
                assert node["name"]["value"].strip(), node


def test_headings_come_in_order_and_ids_are_unique(browser: Browser, pages: Pages) -> None:
    for page in pages.each():
        browser.open(page)
        levels = browser.value("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => +h.tagName[1])")
        assert levels.count(1) == 1
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
        ids = browser.value("[...document.querySelectorAll('[id]')].map(part => part.id)")
        assert len(set(ids)) == len(ids)
        targets = browser.value("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
        assert {target.removeprefix("#") for target in targets} <= set(ids)
        assert browser.value("document.documentElement.lang") == "en"


def test_hostile_names_are_text(browser: Browser, pages: Pages) -> None:
    browser.open(pages.run)
    assert browser.value("document.title") == f"one{HOSTILE}"
    for page in pages.each():
        browser.open(page)
        assert browser.value("document.querySelectorAll('script, iframe, object, embed, form, base').length") == 0
        assert browser.value("document.querySelectorAll('style, title:not(svg title)').length") == 2
        attributes = "[...document.querySelectorAll('*')].flatMap(node => [...node.attributes].map(a => a.name))"
        assert not [name for name in browser.value(attributes) if name.startswith("on")]
        assert browser.value("window.hit === undefined")
        assert browser.value("document.body.textContent.includes('onerror=\"window.hit=1\"')")


def test_the_keyboard_reaches_and_opens_everything(browser: Browser, pages: Pages) -> None:
    browser.open(pages.run)
    browser.press("Tab", 9)
    assert browser.value("document.activeElement.className") == "skip"
    assert browser.value("document.activeElement.getBoundingClientRect().left") >= 0
    browser.press("Enter", 13)
    assert browser.value("document.activeElement.id") == "main"
    browser.value("document.querySelector('summary').focus()")
    browser.press("Enter", 13)
    assert browser.value("document.querySelector('details').open")
    browser.value("document.querySelectorAll('#curves details').forEach(part => part.open = true)")
    rate = "document.querySelector('#schedules-0 .switch')"
    visible = f"[...{rate}.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect().height > 0)"
    assert browser.value(visible) == [True, False]
    browser.value(f"{rate}.querySelector('input').focus()")
    browser.press("ArrowRight", 39)
    assert browser.value(visible) == [False, True]
    scrollable = "[...document.querySelectorAll('.scroll')].every(box => box.tabIndex === 0)"
    assert browser.value(scrollable)


def test_a_chart_shows_its_values_where_it_is_pointed_at(browser: Browser, pages: Pages) -> None:
    browser.open(pages.run)
    browser.value("document.querySelector('#loss-0').scrollIntoView({block: 'center'})")
    place = browser.value("(box => [box.x + box.width / 2, box.y + box.height / 2])"
                          "(document.querySelector('#loss-0 svg').getBoundingClientRect())")  # fmt: skip
    shown = """[...document.querySelectorAll('#loss-0 .tip')]
        .filter(tip => getComputedStyle(tip).visibility === 'visible').map(tip => tip.textContent)"""
    assert browser.value(shown) == []
    browser("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    [text] = browser.value(shown)
    assert text.startswith("step ")
    assert "loss " in text


def test_on_paper_all_settings_are_there_and_the_page_is_light(browser: Browser, pages: Pages) -> None:
    browser.open(pages.run, width=718, dark=True, media="print")  # an A4 sheet less its margins
    assert browser.value("document.documentElement.scrollWidth") <= 718
    tables = "[...document.querySelectorAll('#settings table')].map(table => table.getBoundingClientRect().height > 50)"
    assert browser.value(tables) == [True, True]
    assert browser.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.value("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"
    assert len(browser("Page.printToPDF")["data"]) > 50_000
