"""What is said at the end of a run: how it went, and what comes next."""

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sltdino.core.best_epoch import why_none
from sltdino.core.run_files import read_metrics
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_base import known
from sltdino.pretraining.initial import start_name
from sltdino.report.text.page import duration
from sltdino.training.health import Finding
from sltdino.training.observation import Health

_HARDLY_LEARNT = 0.05
"""Of ln K: a loss as near to that of guessing says nothing about settings yet."""


class RunSummary(NamedTuple):
    """How a run ended."""

    run_dir: Path
    steps: int
    epochs: int
    best: dict[str, Any] | None
    """`{"metric": "knn"|"loss", "value", "epoch"}` of checkpoint_best; None when every epoch was collapsed, or worth
    less than the start."""
    knn: float | None
    """Last k-NN accuracy 0..1, where there are validation images."""
    knn_untrained: float | None
    knn_pixels: float | None
    seconds: float
    """Time spent training."""
    measures: Mapping[str, float]
    """Last label-free measures of the features, by their names in the metrics; empty where there are none."""
    measures_untrained: Mapping[str, float]


def summary_of(run: Path, steps: int, progress: Mapping[str, Any]) -> RunSummary:
    """The summary, from a checkpoint's `progress`."""
    return RunSummary(
        run, steps, progress["epoch"], progress["best"], progress["knn"], progress["knn_untrained"],
        progress["knn_pixels"], progress["seconds"], progress.get("measures") or {},
        progress.get("measures_untrained") or {},
    )  # fmt: skip


def outcome(
    summary: RunSummary, settings: PretrainSettings, health: Health | None, findings: Sequence[Finding] = ()
) -> str:
    """The last line of a run.

    Args:
        settings: settled ones.
        health: of the last step; None where this process made none.
        findings: of the watch, in force at the end.
    """
    parts = [f"done: {summary.steps:,} steps in {duration(summary.seconds)} of training"]
    knn, untrained, pixels = summary.knn, summary.knn_untrained, summary.knn_pixels
    if knn is not None and untrained is not None and pixels is not None:
        below = "still below raw pixels" if knn < pixels else "raw pixels"
        best = _best(summary.best, knn)
        parts.append(f"k-NN {knn:.1%}{best} ({start_name(settings)} {untrained:.1%}, {below} {pixels:.1%})")
        if knn < untrained:
            parts.append(f"worse than the {start_name(settings)}: {_advice(settings, health, findings)}")
    if knn is None and "rankme" in summary.measures:
        rankme, start = summary.measures["rankme"], summary.measures_untrained.get("rankme")
        before = "" if start is None else f", {start:.0f} at the start"
        parts.append(f"RankMe {rankme:.0f} of {summary.measures['rankme_max']:.0f}{before}")
    collapsed = [finding for finding in findings if finding.collapsed]
    if collapsed and (knn is None or untrained is None or knn >= untrained):  # else it is said above
        parts.append(f"{collapsed[0].name} since step {collapsed[0].since_step:,}: {collapsed[0].remedy}")
    if summary.best is None:
        records = read_metrics(summary.run_dir, settings.checkpointing.history_file)
        parts.append(f"no best checkpoint: {why_none(records)}")
    return "; ".join(parts)


def _best(best: Mapping[str, Any] | None, knn: float) -> str:
    """The accuracy of checkpoint_best, where that is not the last."""
    if best is None or best["metric"] != "knn" or best["value"] <= knn:
        return ""
    return f", {best['value']:.1%} at best, after epoch {best['epoch']}"


def next_commands(settings: PretrainSettings, run: Path) -> str:
    """What one does with a finished run."""
    folder = shlex.quote(str(run))
    has_registers = known(settings.vit.registers) > 0  # SLT's network has none
    export = "--format safetensors -o backbone.safetensors" if has_registers else "--format slt -o backbone.pt"
    return f"next: sltdino inspect {folder}, or sltdino export {folder} {export}"


def _advice(settings: PretrainSettings, health: Health | None, findings: Sequence[Finding]) -> str:
    if collapsed := [finding for finding in findings if finding.collapsed]:
        return f"{collapsed[0].name}: {collapsed[0].remedy}"
    if settings.init_from is not None:
        return "try a lower --learning-rate, --layer-decay 0.9 or fewer epochs"
    num_prototypes = known(settings.head.out_dim)
    log_k = math.log(num_prototypes)
    if health is not None and health.loss_gap < _HARDLY_LEARNT * log_k:
        loss = f"the loss is at {log_k - health.loss_gap:.2f} of ln {num_prototypes} = {log_k:.2f}"
        return f"too short to judge ({loss}); train longer"
    return "train longer, or try a lower --learning-rate"
