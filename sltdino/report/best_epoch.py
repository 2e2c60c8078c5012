"""Why a run has no best checkpoint."""

from collections.abc import Mapping
from typing import Any

from sltdino.report.digest import Digest


def why_none(digest: Digest, knn: Mapping[str, Any]) -> str:
    """The reason, to be put after `none:`; empty where there is a best one.

    Args:
        knn: what `sltdino.report.accuracy.accuracies` says of the run.
    """
    start, measured, gone = knn["untrained"], knn["best"], digest.best_withdrawn
    if digest.best is not None:
        return ""
    if gone is not None:
        when = f"since step {gone.get('since_step')}"
        return f"epoch {gone.get('epoch')} was, and lies in the {gone.get('finding')} {when}"
    if not digest.num_epochs and measured is None:
        return "no epoch has finished"
    if digest.num_epochs and digest.collapsed_epochs == digest.num_epochs:
        return "no epoch has finished without collapse"
    if measured is None:
        return "k-NN was not measured yet after an epoch without collapse"
    if start is None:
        return "no epoch whose k-NN was measured was without collapse"
    return f"no epoch without collapse has reached the {start:.1%} k-NN of what it started with"
