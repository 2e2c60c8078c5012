"""What is said at the end of a run."""

import math
import shlex
from pathlib import Path
from typing import Any

import pytest

from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_files import load_settings
from sltdino.pretraining.outcome import RunSummary, next_commands, outcome
from sltdino.training.health import UNIFORM, Finding
from sltdino.training.observation import Health

LOG_K = math.log(1024)
SOUND = Health(
    0.0, target_entropy=0.5 * LOG_K, assignment_entropy=0.9 * LOG_K, assignment_kl=0.1, feature_spread=0.9,
    cosine_to_mean=0.1,
)  # fmt: skip

MEASURES = {"rankme": 38.4, "rankme_max": 128}


def ended(knn: float, *, untrained: float, pixels: float = 0.1, best: Any = None) -> RunSummary:
    return RunSummary(
        Path("r"),
        76,
        2,
        best or {"metric": "knn", "value": knn, "epoch": 2},
        knn,
        untrained,
        pixels,
        65.0,
        MEASURES,
        MEASURES,
    )


def settled(**flags: Any) -> PretrainSettings:
    return load_settings("hands", flags={"train_dir": ["crops"], "out_dim": 1024, "vit.registers": 0, **flags}).settings


@pytest.mark.parametrize(("gap", "is_too_short"), [(0.10, True), (0.34, True), (0.35, False), (3.0, False)])
def test_a_random_start_that_got_worse_is_judged_when_its_loss_has_left_that_of_guessing(
    gap: float, is_too_short: bool
) -> None:
    said = outcome(ended(0.2, untrained=0.3), settled(), SOUND._replace(loss_gap=gap))
    assert ("too short to judge" in said) is is_too_short
    assert "train longer" in said
    assert "layer-decay" not in said
    assert "fewer epochs" not in said


def test_the_loss_and_that_of_guessing_are_said() -> None:
    said = outcome(ended(0.2, untrained=0.3), settled(), SOUND._replace(loss_gap=0.10))
    assert said.endswith("too short to judge (the loss is at 6.83 of ln 1024 = 6.93); train longer")


def test_a_collapsed_run_is_not_sent_on_to_train_longer() -> None:
    collapse = Finding(UNIFORM, True, 300, "the teacher knows nothing", "raise --learning-rate")
    said = outcome(ended(0.2, untrained=0.3), settled(), SOUND, [collapse])
    assert said.endswith("worse than the untrained network: uniform collapse: raise --learning-rate")
    assert "longer" not in said


def test_trained_weights_that_got_worse_come_with_what_keeps_them() -> None:
    said = outcome(ended(0.2, untrained=0.3), settled(init_from="weights.pth"), SOUND)
    assert "worse than the initial weights: try a lower --learning-rate, --layer-decay 0.9 or fewer epochs" in said


def test_the_best_epoch_is_said_where_the_last_is_worse() -> None:
    best = {"metric": "knn", "value": 0.4, "epoch": 1}
    assert "k-NN 20.0%, 40.0% at best, after epoch 1 (untrained" in outcome(
        ended(0.2, untrained=0.1, best=best), settled(), SOUND
    )
    assert "at best" not in outcome(ended(0.2, untrained=0.1), settled(), SOUND)


def test_a_collapse_in_force_at_the_end_is_said_once_with_labels_and_without() -> None:
    collapse = Finding(UNIFORM, True, 300, "the teacher knows nothing", "raise --learning-rate")
    unlabelled = RunSummary(Path("r"), 76, 2, {"metric": "loss"}, None, None, None, 65.0, MEASURES, MEASURES)
    for summary in (unlabelled, ended(0.2, untrained=0.1), ended(0.2, untrained=0.3)):
        assert outcome(summary, settled(), SOUND, [collapse]).count("uniform collapse") == 1


def test_ending_below_raw_pixels_is_said_in_words() -> None:
    better = ended(0.2, untrained=0.1, pixels=0.3)
    assert "k-NN 20.0% (untrained network 10.0%, still below raw pixels 30.0%)" in outcome(better, settled(), SOUND)
    assert "still" not in outcome(ended(0.2, untrained=0.1, pixels=0.2), settled(), SOUND)


def test_without_labels_the_rank_is_said_and_from_what_it_came() -> None:
    unlabelled = RunSummary(Path("r"), 76, 2, {"metric": "loss"}, None, None, None, 65.0, MEASURES, {"rankme": 12.3})
    assert outcome(unlabelled, settled(), SOUND) == (
        "done: 76 steps in 65 s of training; RankMe 38 of 128, 12 at the start"
    )
    later = unlabelled._replace(measures_untrained={})  # the run began before it was measured
    assert outcome(later, settled(), SOUND).endswith("RankMe 38 of 128")
    assert "RankMe" not in outcome(ended(0.2, untrained=0.1), settled(), SOUND)


@pytest.mark.parametrize(("registers", "words"), [
    (0, ["--format", "slt", "-o", "backbone.pt"]), (4, ["--format", "safetensors", "-o", "backbone.safetensors"]),
])  # fmt: skip
def test_the_next_commands_can_be_copied_and_fit_the_network(registers: int, words: list[str]) -> None:
    said = next_commands(settled(**{"vit.registers": registers}), Path("my runs/a"))
    inspect, _, export = said.removeprefix("next: ").partition(", or ")
    assert shlex.split(inspect) == ["sltdino", "inspect", "my runs/a"]
    assert shlex.split(export) == ["sltdino", "export", "my runs/a", *words]
