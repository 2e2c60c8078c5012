"""What the watch says of records, and what it advises."""

import functools
import json
import math
import re
from collections.abc import Iterable
from itertools import product
from typing import Any

import pytest

from sltdino.core.auto import settle
from sltdino.core.settings_files import load_settings
from sltdino.core.settings_schema import LEAVES
from sltdino.training import remedies
from sltdino.training.health import Finding, Watch, grace_steps, watch_of
from sltdino.training.remedies import Knobs, Way

LOG_K = math.log(1024)
LEARNING = {
    "loss": 6.0, "loss_gap": 1.0, "target_entropy": 5.5, "assignment_entropy": 6.9, "assignment_kl": 0.02,
    "cosine_to_mean": 0.3, "prototypes_used": 400, "grad_norm": 1.0, "data_wait": 0.01,
}  # fmt: skip


def params(**flags: Any) -> dict[str, Any]:
    """As params.json has them: 1,280 images, 40 steps an epoch."""
    settings = load_settings("hands", flags={"train_dir": ["crops"], "epochs": 50, **flags}).settings
    settings = settle(settings, num_images=1280).settings
    values = {"settings": settings.model_dump(mode="json"), "epochs": 50, "total_steps": 2000}
    return json.loads(json.dumps({**values, "images": {"count": 1280}}))  # type: ignore[no-any-return]


def fed(records: Iterable[dict[str, Any]], *, first: int = 10, **flags: Any) -> list[tuple[Finding, ...]]:
    """The findings after each record, ten steps apart."""
    watch = watch_of(params(**flags))
    assert watch is not None
    return [watch.feed(first + 10 * index, record) for index, record in enumerate(records)]


def names(findings: Iterable[Finding]) -> list[str]:
    return [finding.name for finding in findings]


def test_a_run_that_learns_is_healthy() -> None:
    assert fed([LEARNING] * 200) == [()] * 200


def test_the_first_steps_are_called_a_beginning_and_the_same_numbers_later_a_collapse() -> None:
    found = fed([LEARNING | {"loss_gap": -0.05}] * 40)
    assert [names(row) for row in found] == [["starting"]] * 20 + [["uniform collapse"]] * 20  # a warm-up of 200 steps
    assert not found[19][0].collapsed
    assert (found[20][0].collapsed, found[20][0].since_step) == (True, 10)


@pytest.mark.parametrize(("flags", "steps"), [({}, 200), ({"warmup_epochs": 9}, 360), ({"warmup_epochs": 0}, 200),
                                              ({"freeze_backbone_epochs": 12}, 480)])  # fmt: skip
def test_the_grace_is_the_longest_of_warm_up_freezing_and_a_tenth_of_the_run(flags: Any, steps: int) -> None:
    watch = watch_of(params(**flags))
    assert watch is not None
    assert watch.grace_steps == steps


def test_the_grace_of_a_long_run_is_a_thousand_steps_or_its_warm_up() -> None:
    long = params(warmup_epochs=0, freeze_last_layer_epochs=0) | {"epochs": 100, "total_steps": 200_000}
    assert grace_steps(long) == 1000
    assert grace_steps(params(warmup_epochs=3) | {"epochs": 100, "total_steps": 200_000}) == 6000


def test_a_gap_that_grows_from_below_is_not_a_loss_that_stays() -> None:
    rising = [LEARNING | {"loss_gap": -1.0 + 0.02 * index} for index in range(60)]
    assert set(names(sum(fed(rising), ()))) == {"starting"}


def test_a_single_strange_batch_begins_nothing_and_ends_nothing() -> None:
    same = LEARNING | {"cosine_to_mean": 0.9999}
    found = fed([*[LEARNING] * 30, same, same, *[LEARNING] * 5, *[same] * 3, LEARNING, LEARNING, same, *[LEARNING] * 3])
    assert [names(row) for row in found[30:]] == [[]] * 9 + [["one-point collapse"]] * 6 + [[]]
    assert found[39][0].since_step == 10 + 10 * 37


def test_broad_targets_are_no_collapse_while_the_student_learns_them() -> None:
    broad = LEARNING | {"target_entropy": LOG_K - 0.1}  # of which they say 1.4 %
    assert set(fed([broad | {"loss_gap": 0.06}] * 60)) == {()}
    assert names(fed([broad | {"loss_gap": 0.004}] * 60)[-1]) == ["uniform collapse"]


def test_targets_that_no_training_can_sharpen_need_no_grace() -> None:
    uniform = LEARNING | {"loss_gap": 0.0, "target_entropy": LOG_K - 1e-3}
    assert names(fed([uniform] * 3)[-1]) == ["uniform collapse"]  # standardized scores are never sharper than now
    assert names(fed([uniform] * 3, standardize_teacher=False)[-1]) == ["starting"]


def test_scores_that_favour_one_prototype_are_found_behind_balanced_targets() -> None:
    found = fed([LEARNING | {"assignment_kl": 0.97 * LOG_K}] * 30)
    assert names(found[-1]) == ["one-point collapse"]
    assert "all images share a prototype" in found[-1][0].text


def test_a_loss_that_leaps_is_a_spike_until_it_is_back() -> None:
    wobbling = [LEARNING | {"loss": 6.0 + 0.05 * (-1) ** index} for index in range(30)]
    spike = LEARNING | {"loss": 7.0, "grad_norm": 9.0}
    found = fed([*wobbling, spike, spike, *wobbling])
    assert [index for index, row in enumerate(found) if row] == [30, 31]
    assert "the loss is 7.00, and was about 6.0" in found[31][0].text
    assert "the gradient norm is 9, and was about 1" in found[31][0].text


def test_a_loss_that_stays_up_is_the_loss_and_no_spike() -> None:
    found = fed([*[LEARNING] * 30, *[LEARNING | {"loss": 7.0}] * 60])
    assert names(found[30]) == ["loss spike"]
    assert found[-1] == ()


def test_few_prototypes_in_use_are_said_with_a_head_that_would_do() -> None:
    found = fed([LEARNING | {"prototypes_used": 30}] * 30)
    assert set(found[:20]) == {()}  # at first all images are alike
    assert names(found[-1]) == ["dead prototypes"]
    assert found[-1][0].remedy == "start anew with --out-dim 128"


def test_what_collapsed_is_not_also_blamed_for_its_few_prototypes() -> None:
    record = LEARNING | {"assignment_entropy": 0.0, "prototypes_used": 1, "data_wait": 0.9}
    assert names(fed([record] * 30)[-1]) == ["one-point collapse", "starved loader"]


def test_a_loader_is_starved_from_a_third_of_the_time_until_it_waits_little() -> None:
    found = fed([*[LEARNING] * 20, *[LEARNING | {"data_wait": 0.45}] * 40, *[LEARNING | {"data_wait": 0.2}] * 40,
                 *[LEARNING] * 20])  # fmt: skip
    waits = [names(row) == ["starved loader"] for row in found]
    assert waits[19:23] == [False] * 4
    assert all(waits[40:99])
    assert not waits[-1]


@pytest.mark.parametrize("record", [{}, {"loss": 5.0, "epoch": 1}, {"loss": None, "loss_gap": None, "data_wait": "x"}])
def test_records_of_other_versions_lack_fields_and_say_nothing(record: dict[str, Any]) -> None:
    assert set(fed([record] * 50)) == {()}


def test_a_damaged_record_with_an_integer_of_hundreds_of_digits_says_nothing() -> None:
    assert fed([dict.fromkeys(LEARNING, 10**400)] * 30)[-1] == fed([{}] * 30)[-1]


def test_records_of_the_version_before_are_judged_by_what_they_have() -> None:
    old = {key: LEARNING[key] for key in ("loss", "loss_gap", "target_entropy", "assignment_entropy", "cosine_to_mean")}
    assert names(fed([old | {"loss_gap": 0.0}] * 40)[-1]) == ["uniform collapse"]


@pytest.mark.parametrize("old", [{}, {"settings": None}, {"settings": {"head": {"out_dim": "auto"}}}])
def test_a_run_of_the_old_scripts_has_no_watch(old: dict[str, Any]) -> None:
    assert watch_of({"algorithm": "dino", "epochs": 3, **old}) is None


def test_the_watch_holds_no_more_after_a_long_run() -> None:
    watch = Watch(num_prototypes=1024)

    def held() -> int:
        return sum(len(part.__dict__) if hasattr(part, "__dict__") else 1 for part in vars(watch).values())

    watch.feed(10, LEARNING)
    before = held()
    for step in range(20, 20_000, 10):
        watch.feed(step, LEARNING | {"loss_gap": math.sin(step)})
    assert held() == before


RATE = 1e-3  # twice that of auto for 32 images a step
FEW = "start anew with what few images need: --standardize-teacher --use-sinkhorn --teacher-temp 0.33"
COSINES = Knobs(num_prototypes=4096, num_images=1280, learning_rate=RATE, teacher_temp=0.04)
STANDARDIZED = COSINES._replace(standardized=True, sinkhorn=True, teacher_temp=0.33, koleo_weight=0.02)


@pytest.mark.parametrize(("said", "expected"), [
    (remedies.against_uniform_targets(COSINES),
     f"{FEW}, or lower --teacher-temp from 0.04 to 0.02 (and --teacher-temp-start from 0.04 to 0.02), "
     "or raise --learning-rate from 0.001 to 0.002"),
    (remedies.against_uniform_targets(COSINES._replace(sinkhorn_eps=0.3)),
     f"{FEW.replace('--teacher-temp', '--sinkhorn-eps')}, or "
     "lower --sinkhorn-eps from 0.3 to 0.07, or raise --learning-rate from 0.001 to 0.002"),
    (remedies.against_uniform_targets(COSINES._replace(teacher_temp=0.02, learning_rate=0.05)),
     f"{FEW}, "
     "or lower --learning-rate from 0.05 to 0.0005"),
    (remedies.against_uniform_targets(STANDARDIZED._replace(teacher_temp=4.0)),
     "lower --teacher-temp from 4 to 0.33 standard deviations"),
    (remedies.against_uniform_targets(STANDARDIZED), "lower --teacher-temp from 0.33 to 0.17 standard deviations"),
    (remedies.against_uniform_targets(STANDARDIZED._replace(teacher_temp=0.1)),
     "raise --learning-rate from 0.001 to 0.002"),
    (remedies.against_a_pinned_loss(STANDARDIZED._replace(learning_rate=1e-6), share=0.0),
     "raise --learning-rate from 1e-06 to 0.0005"),
    (remedies.against_a_pinned_loss(STANDARDIZED, share=-0.5), "lower --learning-rate from 0.001 to 0.00033"),
    (remedies.against_a_pinned_loss(STANDARDIZED._replace(koleo_weight=1.0), share=0.0),
     "lower --koleo-weight from 1 to 0.1"),
    (remedies.against_a_pinned_loss(STANDARDIZED._replace(smallest_crop=0.1), share=0.0),
     "make the crops of an image more alike: --global-crop-scale 0.7 1.0 (now from 0.1)"),
    (remedies.against_one_point(COSINES._replace(center_momentum=0.999, learning_rate=0.01)),
     f"{FEW}, or lower --center-momentum from 0.999 to 0.9, or lower --learning-rate from 0.01 to 0.0005"),
    (remedies.against_a_pinned_loss(STANDARDIZED._replace(learning_rate=1e-6, preset="dinov2"), share=0.0),
     "raise --learning-rate from 1e-06 to 0.00071"),  # 4e-3 · sqrt(32 / 1024)
    (remedies.against_one_point(STANDARDIZED),
     "raise --koleo-weight from 0.02 to 0.1, or lower --learning-rate from 0.001 to 0.00033"),
    (remedies.against_dead_prototypes(COSINES, num_used=30),
     f"start anew with --out-dim 128, or {FEW}"),
    (remedies.against_a_spike(COSINES, grad_norm=0.5),
     "should it stay: lower --learning-rate from 0.001 to 0.00033, or clip gradients nearer to their usual norm with "
     "--clip-grad-norm 0.5 (it is 3)"),
    (remedies.against_a_starved_loader(COSINES._replace(num_workers=1)),
     "raise --num-workers from 1, up to the number of cores, "
     "or add --dataset-cache ram where the decoded pixels fit into memory"),
    (remedies.against_a_starved_loader(COSINES._replace(cached=True)),
     "give the process more cores, or smaller image files"),
])  # fmt: skip
def test_a_remedy_has_figures_that_fit_the_run(said: list[Way], expected: str) -> None:
    assert remedies.said(said) == expected


@pytest.mark.parametrize(("named", "read"), [("ibot", "ibot"), ("laptop", "none"), (None, "none"), ([], "none")])
def test_the_preset_of_a_paper_is_read_from_the_record(named: object, read: str) -> None:
    assert remedies.knobs_of({"settings": {"preset": named}}).preset == read


@functools.cache
def grid() -> list[tuple[Knobs, list[Way]]]:
    """Every remedy for many settings; those of `Knobs` that a remedy reads, at what is usual, around it and far off."""
    rows: list[tuple[Knobs, list[Way]]] = []
    switches = product((False, True), (False, True), (0.0, 0.02, 2.0), (64, 65_536))
    numbers = list(product((1e-7, 1e-3, 1.0), (0.005, 0.021, 0.04, 0.1, 0.33, 5.0),
                           (0.0, 0.11, 1.0), (0.9, 0.999)))  # fmt: skip
    for standardized, sinkhorn, eps, num_prototypes in switches:
        for rate, temp, koleo, momentum in numbers:
            knobs = Knobs(
                num_prototypes=num_prototypes, num_images=1280, standardized=standardized, sinkhorn=sinkhorn,
                sinkhorn_eps=eps if sinkhorn else 0.0, learning_rate=rate, teacher_temp=temp, teacher_temp_start=temp,
                koleo_weight=koleo, center_momentum=momentum, clip_grad_norm=3 * koleo,
            )  # fmt: skip
            rows += [(knobs, remedies.against_uniform_targets(knobs)), (knobs, remedies.against_one_point(knobs))]
            for number in (-0.5, 0.0, 1.0):
                rows.append((knobs, remedies.against_a_pinned_loss(knobs, share=number)))
                rows.append((knobs, remedies.against_a_spike(knobs, grad_norm=abs(number))))
                rows.append((knobs, remedies.against_dead_prototypes(knobs, num_used=round(3 * abs(number)))))
    return rows


def test_no_remedy_advises_what_is_in_force_or_one_thing_and_its_opposite() -> None:
    known = {leaf.flag for leaf in LEAVES}
    for knobs, ways in grid():
        text = remedies.said(ways)
        assert text
        assert text.count("--standardize-teacher") <= 1
        assert set(re.findall(r"--[a-z-]+", text)) <= known
        moved = re.findall(r"(lower|raise) (--[a-z-]+) from (\S+) to ([^\s,)]+)", text)
        assert len({flag for _, flag, _, _ in moved}) == len(moved), text
        for verb, _, old, new in moved:
            assert (float(new) < float(old)) == (verb == "lower"), text
            assert not 0.9 * float(old) < float(new) < 1.1 * float(old) or "momentum" in text, text
        assert not (knobs.sinkhorn and "--use-sinkhorn" in text)
        assert not (knobs.standardized and "--standardize-teacher" in text)


def test_what_a_run_can_go_on_with_is_what_the_remedy_says() -> None:
    resumes = {leaf.flag: leaf.resume for leaf in LEAVES}
    resumes = {leaf.flag: leaf.resume for leaf in LEAVES}
    for _, ways in grid():
        flags = remedies.flags_of(ways)
        values = flags[1::2]
        assert all(value in remedies.said(ways) for value in values)
        assert {resumes[flag] for flag in flags[::2]} <= {"trajectory", "free"}


def test_the_same_feature_for_every_image_is_not_also_called_uniform() -> None:
    found = fed([LEARNING | {"cosine_to_mean": 0.9999, "loss_gap": 0.0, "target_entropy": LOG_K, "loss": 99.0}] * 30)
    assert names(found[-1]) == ["one-point collapse"]


@pytest.mark.parametrize(("record", "share"), [({"target_entropy": LOG_K, "loss_gap": 0.0}, 1), ({"loss_gap": 0.0}, 2)])
def test_a_collapse_is_dated_from_the_record_that_shows_it_first(record: dict[str, Any], share: int) -> None:
    found = fed([*[LEARNING | {"loss_gap": 1.0 + 0.05 * (-1) ** n} for n in range(60)], *[LEARNING | record] * 120])
    [finding] = found[-1]
    assert (finding.name, finding.since_step) == ("uniform collapse", 610)
    first = next(index for index, row in enumerate(found[60:]) if row)
    assert first < 40 * share  # its means take their time to say so


HOSTILE = [0, -1, 1e308, -1e308, float("inf"), 10**400, -(10**400), True, "x", None, [], {}]


@pytest.mark.parametrize("value", HOSTILE)
def test_damaged_numbers_in_records_and_settings_break_nothing(value: Any) -> None:
    assert len(fed([dict.fromkeys(LEARNING, value)] * 300)) == 300
    whole = params()
    for section in ("head", "loss", "optimizer", "dataset", "augmentation"):
        damaged = {**whole["settings"], section: dict.fromkeys(whole["settings"][section], value)}
        for broken in ({**whole, "settings": damaged}, {**whole, "settings": {**damaged, section: value}},
                       {**whole, "epochs": value, "total_steps": value, "images": {"count": value}}):  # fmt: skip
            watch = watch_of(broken)
            for step in range(10, 900, 10) if watch is not None else ():
                watch.feed(step, LEARNING | {"loss_gap": 0.0, "cosine_to_mean": 1.0 if step > 500 else 0.3})
                watch.feed(step, LEARNING | {"prototypes_used": 0, "data_wait": 0.9, "loss": 30.0})
