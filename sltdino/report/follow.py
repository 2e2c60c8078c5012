"""A run as it goes on: what is new at every look, until it ends."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sltdino.core.lock import is_held
from sltdino.core.run_files import LOCK, PARAMS
from sltdino.report.curves import number
from sltdino.report.history import interventions_told
from sltdino.report.summary import RunReader
from sltdino.report.text.page import duration, short_number

_DIED = 71
"""How a process that was killed counts: it can be resumed."""


class Look(NamedTuple):
    """A run at one moment."""

    facts: dict[str, Any]
    """As `summarize` has them; empty while the run is being set up."""
    news: tuple[str, ...]
    """Lines about what happened since the look before: epochs, evaluations, findings."""


def looks(run: Path, *, every: float) -> Iterator[Look]:
    """Look at a run every so many seconds until it has ended; the last look says how.

    Waits for a folder in which a process is at work and has written nothing yet. Of the metrics only what was added is
    read; where a resumed run has cut them back, they are read anew.

    Raises:
        MissingInputError: there is no run, and nobody about to write one. RunFolderError, StorageError: as `summarize`.
    """
    while not (run / PARAMS).exists() and is_held(run / LOCK):
        yield Look({}, ())
        time.sleep(every)
    reader, is_first = RunReader(run), True
    while True:
        facts = reader.facts()
        if is_first:
            news: tuple[str, ...] = (f"following {facts['run']}: {facts['state']}, {_place(facts)}",)
        elif reader.was_reread:
            news = (f"the metrics were read anew: the run goes on from an earlier step; {_place(facts)}",)
        else:
            news = tuple(filter(None, (_told(record, facts) for record in reader.digest.news)))
        yield Look(facts, news)
        if facts["state"] != "running":
            return
        is_first = False
        time.sleep(every)


def ending(facts: Mapping[str, Any]) -> str:
    """How a run ended, in a line."""
    return ": ".join(filter(None, (facts["state"], facts["message"])))


def exit_code(facts: Mapping[str, Any]) -> int:
    """That of the run: 0 when it is done, 71 when its process is gone without a word, else what it ended with."""
    if facts["state"] == "interrupted":
        return _DIED
    code = facts["exit_code"]
    return code if isinstance(code, int) else 0


def _place(facts: Mapping[str, Any]) -> str:
    progress = facts["progress"]
    total = f" of {progress['total_steps']:,}" if progress["total_steps"] else ""
    left = facts["speed"]["eta_seconds"]
    parts = [
        f"step {progress['step']:,}{total}",
        f"epoch {progress['epoch']:.0f} of {short_number(progress['epochs'])}",
    ]
    parts += [] if left is None else [f"{duration(left)} left"]
    return ", ".join([*parts, facts["health"]["verdict"]])


def _told(record: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """A line about a record; empty for one that says nothing to a reader."""
    step, epoch, context = record["step"], record.get("epoch"), record.get("context")
    match context:
        case "train_epoch":
            loss = number(record.get("loss"))
            shown = "" if loss is None else f": loss {loss:.3f}"
            left = facts["speed"]["eta_seconds"]
            return f"epoch {epoch}{shown}, {record.get('health')}" + (f", {duration(left)} left" if left else "")
        case "eval":
            knn, rank = number(record.get("knn")), number(record.get("rankme"))
            parts = [] if knn is None else [f"k-NN {knn:.1%}"]
            parts += [] if rank is None else [f"RankMe {rank:.1f}"]
            return f"epoch {epoch}: {', '.join(parts)}" if parts else ""
        case "train_best" if record.get("metric") == "knn":  # by the loss, most epochs are
            return f"epoch {epoch}: the best so far"
        case "best_withdrawn":
            where = f"{record.get('finding')} since step {record.get('since_step')}"
            return f"epoch {epoch}: no longer the best; it lies in the {where}"
        case "intervention":
            return f"adapted {next(interventions_told([record]))}"
        case "resume":
            return f"resumed at step {step:,}"
        case "finding":
            finding = next((row for row in facts["health"]["findings"] if row["name"] == record["name"]), None)
            text = "" if finding is None else ": " + "; ".join(filter(None, (finding["text"], finding["remedy"])))
            return f"step {step:,}: {record['name']}{text}"
        case "finding gone":
            return f"step {step:,}: {record['name']} is over; it began at step {record['since_step']:,}"
    return ""
