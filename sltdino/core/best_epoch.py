"""Why a run has no best checkpoint, by its records."""

import math
from collections.abc import Iterable, Mapping
from typing import Any


class NoBest:
    """What the records of a run say of epochs that could have been its best; fed with them in their order."""

    def __init__(self) -> None:
        self._num_epochs = self._num_collapsed = 0
        self._start: float | None = None
        self._has_knn = False
        self._judged: object = None
        self._withdrawn: Mapping[str, Any] | None = None

    def feed(self, record: Mapping[str, Any]) -> None:
        """Take one more record; those of steps, and damaged ones, say nothing."""
        match record.get("context"):
            case "train_epoch":
                self._num_epochs += 1
                self._num_collapsed += "collapse" in str(record.get("health"))
            case "eval" if isinstance(knn := record.get("knn"), int | float) and math.isfinite(knn):
                judged = record.get("protocol"), record.get("judged_on")
                if record.get("epoch") == 0:
                    self._start, self._judged = knn, judged
                elif judged != self._judged:
                    self._start = None  # of other images, which compare with none
                self._has_knn |= record.get("epoch") != 0
            case "train_best":
                self._withdrawn = None
            case "best_withdrawn":
                self._withdrawn = record

    def why(self) -> str:
        """The reason, to be put after `none:` or `because`."""
        if (gone := self._withdrawn) is not None:
            when = f"since step {gone.get('since_step')}"
            return f"epoch {gone.get('epoch')} was, and lies in the {gone.get('finding')} {when}"
        if not self._num_epochs and not self._has_knn:
            return "no epoch has finished"
        if self._num_epochs and self._num_collapsed == self._num_epochs:
            return "no epoch has finished without collapse"
        if not self._has_knn or self._start is None:
            return "no epoch was judged that did not look collapsed"
        return f"no epoch that did not look collapsed has reached the {self._start:.1%} k-NN of what it started with"


def why_none(records: Iterable[Mapping[str, Any]]) -> str:
    """The reason, from the records of a whole run."""
    found = NoBest()
    for record in records:
        found.feed(record)
    return found.why()
