"""Several runs side by side: the settings that differ, and what came out, for the terminal and for a paper."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sltdino.core.changes import RUN_CONTROL
from sltdino.core.json_files import data
from sltdino.core.run_files import read_settings
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_schema import LEAVES, absolute, flatten, printable
from sltdino.errors import MissingInputError, RunFolderError, SltDinoError, StorageError
from sltdino.report.summary import summarize
from sltdino.report.text.page import WIDTH, duration, short

_TITLE, _COLUMN = 22, 14
_PER_BLOCK = (WIDTH - _TITLE) // _COLUMN
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#~!$&])")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Facts = Mapping[str, Any]


class Row(NamedTuple):
    """A result: where the facts of a run have it, and how it is written."""

    title: str
    value: Callable[[Facts], Any]
    shown: Callable[[Any], str] = str
    alike: Callable[[Facts], Any] | None = None
    """What must be the same in all runs for the largest value to be the best; without it no run is."""


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _share(value: float) -> str:
    return f"{value:.1%}"


def _stored(method: str) -> Callable[[Facts], Any]:
    """The accuracy by a method in the newest stored evaluation."""

    def value(facts: Facts) -> Any:
        methods = facts["evaluations"][-1]["methods"] if facts["evaluations"] else []
        return next((row.get("trained") for row in methods if re.fullmatch(method, row["method"])), None)

    return value


def _stored_protocol(facts: Facts) -> Any:
    newest = facts["evaluations"][-1]
    return newest["protocol"], newest["labels"], newest["val_images"]


def _protocol(facts: Facts) -> Any:
    return facts["knn"]["protocol"]


RESULTS = (
    Row("state", lambda facts: facts["state"]),
    Row("verdict", lambda facts: facts["verdict"]["grade"]),
    Row("health", lambda facts: facts["health"]["verdict"]),
    Row("step", lambda facts: facts["progress"]["step"], _count),
    Row("of steps", lambda facts: facts["progress"]["total_steps"], _count),
    Row("finished epochs", lambda facts: facts["progress"]["finished_epochs"], _count),
    Row("images seen", lambda facts: facts["progress"]["images_seen"], _count),
    Row("time", lambda facts: facts["progress"]["seconds"] or None, duration),
    Row("images/s", lambda facts: facts["speed"]["median_images_per_second"], _count, lambda facts: ""),
    Row("loss", lambda facts: facts["loss"]["epochs"][-1] if facts["loss"]["epochs"] else None, "{:.3f}".format),
    Row("ln K minus CLS loss", lambda facts: facts["loss"]["gap"], "{:z.3f}".format),
    Row("k-NN, start", lambda facts: facts["knn"]["untrained"], _share),
    Row("k-NN, raw pixels", lambda facts: facts["knn"]["raw_pixels"], _share),
    Row("k-NN, best", lambda facts: facts["knn"]["best"], _share, _protocol),
    Row("k-NN, last", lambda facts: facts["knn"]["last"], _share, _protocol),
    Row("evaluated, k-NN", _stored(r"\d+-NN"), _share, _stored_protocol),
    Row("evaluated, linear", _stored("linear probe"), _share, _stored_protocol),
    Row("RankMe", lambda facts: facts["label_free"].get("rankme", {}).get("last"), "{:.1f}".format),
)


def look_at(runs: Sequence[Path]) -> dict[str, Any]:
    """The runs and what differs, as plain values for JSON: one value for each run in each row.

    `results` has the rows of `RESULTS` that any run has; `best` the places of the best runs in those rows in which runs
    can be compared. Accuracies can be where they were measured in the same way on as many images: `protocols` has the
    ways of k-NN along the run, one text where all were alike.

    Raises:
        MissingInputError, RunFolderError, StorageError: some of them cannot be read; the message names them all.
    """
    facts, settings = _read_all(runs)
    results = {row.title: [row.value(of_run) for of_run in facts] for row in RESULTS}
    best = {row.title: _best(row, results[row.title], facts) for row in RESULTS}
    return {
        "runs": [{"path": of_run["run"], "name": of_run["what"]["name"]} for of_run in facts],
        "settings": differing(settings),
        "results": {title: values for title, values in results.items() if any(value is not None for value in values)},
        "best": {title: places for title, places in best.items() if places},
        "protocols": list(dict.fromkeys(filter(None, map(_protocol, facts)))),
    }


def differing(settings: Sequence[PretrainSettings]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs, in their order. Which folder a run writes to is none of them."""
    flat = [flatten(of_run.model_dump()) for of_run in settings]
    found = {}
    for leaf in LEAVES:
        values = [of_run[leaf.key] for of_run in flat]
        places = [absolute(leaf, value) for value in values]  # the same folder named from elsewhere is the same
        if leaf.key not in RUN_CONTROL and any(place != places[0] for place in places):
            found[leaf.key] = [data(value) for value in values]
    return found


def render(content: Mapping[str, Any]) -> str:
    """The page that `sltdino inspect A B C` prints."""
    letters = run_letters(len(content["runs"]))
    legend = [
        f"{letter:<3}{run['path']}" + (f" ({run['name']})" if run["name"] else "")
        for letter, run in zip(letters, content["runs"], strict=True)
    ]
    return "\n".join(line.rstrip() for line in map(printable, [*legend, *tables(content)]))


def tables(content: Mapping[str, Any]) -> list[str]:
    """Settings that differ and results, a column for each run, as many beside each other as 80 columns hold."""
    lines = ["", "settings are the same"] if not content["settings"] else []
    settings = {key: [written(value) for value in values] for key, values in content["settings"].items()}
    results = {row.title: _results(row, content) for row in RESULTS if row.title in content["results"]}
    labels = run_letters(len(content["runs"]))
    per_block = min(len(labels), _PER_BLOCK)
    width = (WIDTH - _TITLE) // per_block
    for title, rows in (("settings", settings), ("results", results)):
        for first in range(0, len(labels) if rows else 0, per_block):
            block = slice(first, first + per_block)
            lines += ["", f"{title:<{_TITLE}}" + _columns(labels[block], width)]
            lines += [
                f"  {short(key, _TITLE - 3):<{_TITLE - 2}}" + _columns(values[block], width)
                for key, values in rows.items()
            ]
    if content["best"]:
        lines += ["", "* best in its row"]
    if len(content["protocols"]) > 1:
        lines += ["", "k-NN was not measured alike, so it does not compare:", *content["protocols"]]
    return lines


def markdown(content: Mapping[str, Any]) -> str:
    """The same as GitHub's tables, a row for each run, so that more runs make a longer table and no wider one."""
    names = [_escaped(run["name"] or Path(run["path"]).name or run["path"]) for run in content["runs"]]
    names = names if len(set(names)) == len(names) else [_escaped(run["path"]) for run in content["runs"]]
    settings = {f"`{key}`": [_escaped(written(x)) for x in values] for key, values in content["settings"].items()}
    results = {row.title: _results(row, content, bold=True) for row in RESULTS if row.title in content["results"]}
    parts = []
    for kind, title, columns in (("settings", "Settings that differ", settings), ("results", "Results", results)):
        if columns:
            rows = [names, *columns.values()]
            head = ["run", *columns]
            lines = [head, ["---", *map(_alignment, content[kind].values())], *zip(*rows, strict=True)]
            parts.append("\n".join([f"**{title}**", "", *(f"| {' | '.join(line)} |" for line in lines)]))
    notes = [f"k-NN: {_escaped(protocol)}" for protocol in content["protocols"]]
    return "\n\n".join([*parts, *notes])


def _read_all(runs: Sequence[Path]) -> tuple[list[dict[str, Any]], list[PretrainSettings]]:
    facts, settings, problems = list[dict[str, Any]](), list[PretrainSettings](), list[SltDinoError]()
    for run in runs:
        try:
            facts.append(summarize(run))
            settings.append(read_settings(run).settings)
        except (MissingInputError, RunFolderError, StorageError) as problem:
            problems.append(problem)
    if problems:
        raise type(problems[0])("\n".join(map(str, problems))) from problems[0]
    return facts, settings


def _best(row: Row, values: Sequence[Any], facts: Sequence[Facts]) -> list[int]:
    """The places of the largest value; none where there is nothing to compare, or the runs are not alike."""
    known = [place for place, value in enumerate(values) if value is not None]
    if row.alike is None or len(known) < 2 or len({row.alike(facts[place]) for place in known}) > 1:
        return []
    largest = max(values[place] for place in known)
    places = [place for place in known if values[place] == largest]
    return places if len(places) < len(known) else []


def _results(row: Row, content: Mapping[str, Any], *, bold: bool = False) -> list[str]:
    best = content["best"].get(row.title, [])
    texts = ["-" if value is None else row.shown(value) for value in content["results"][row.title]]
    if bold:
        texts = [_escaped(text) for text in texts]
        return [f"**{text}**" if place in best else text for place, text in enumerate(texts)]
    return [f"{text} *" if place in best else text for place, text in enumerate(texts)]


def _columns(texts: Sequence[str], width: int) -> str:
    return "".join(f"{short(text, width - 1):<{width}}" for text in texts)


def written(value: Any) -> str:
    """A setting or a fact in a table: numbers to six digits, anything but text as JSON."""
    if isinstance(value, float):
        value = float(f"{value:.6g}")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _alignment(values: Sequence[Any]) -> str:
    return "---" if any(isinstance(value, str) for value in values) else "---:"


def run_letters(count: int) -> list[str]:
    """What each of so many runs is called: A, B, C; by numbers where the alphabet ends."""
    return list(_LETTERS[:count]) if count <= len(_LETTERS) else [str(number + 1) for number in range(count)]


def _escaped(text: str) -> str:
    """Text from outside that Markdown shows as it is."""
    return _MARKDOWN.sub(r"\\\1", printable(text))
