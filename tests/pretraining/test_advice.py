"""Each warning appears where it should, not beside it, and its remedy is one."""

from pathlib import Path
from typing import Any

import pytest

from sltdino import load_settings
from sltdino.core.auto import plan, settle
from sltdino.core.distributed import World
from sltdino.core.settings import PretrainSettings
from sltdino.data.image_folder import ImageFolder, scan
from sltdino.pretraining.advice import (
    Advice,
    advise_bad_images,
    advise_data,
    advise_load,
    advise_resources,
    advise_settings,
)
from sltdino.pretraining.measured import Load
from sltdino.pretraining.sample import BadFile, Sample

FINE = Sample(tried=100, bad={}, bad_files=(), sides=(), mean_pixels=0.0)


def settled(stream: str = "hands", num_images: int = 24, **flags: Any) -> PretrainSettings:
    settings = load_settings(stream, flags={"train_dir": "crops", **flags}).settings
    return settle(settings, num_images=num_images).settings


def topics(**flags: Any) -> list[str]:
    return [advice.topic for advice in advise_settings(settled(**flags), World())]


@pytest.mark.parametrize("stream", ["hands", "face"])
@pytest.mark.parametrize("num_images", [1_000, 19_999])
def test_the_defaults_for_few_images_are_not_warned_of(stream: str, num_images: int) -> None:
    assert topics(stream=stream, num_images=num_images) == []


def test_mirrored_hands_are_warned_of_and_faces_are_not() -> None:
    assert topics(aug_hflip_prob=0.5) == ["flip"]
    assert topics(stream="face", aug_hflip_prob=0.5) == []


@pytest.mark.parametrize(
    ("batch_size", "out_dim", "warned"),
    [(32, 2048, False), (31, 2048, True), (1024, 65_536, False), (64, 65_536, True)],
)
def test_sinkhorn_with_less_rows_than_any_recipe_is_warned_of(batch_size: int, out_dim: int, warned: bool) -> None:
    flags = {"batch_size": batch_size, "out_dim": out_dim}
    assert topics(use_sinkhorn=True, **flags) == ["prototypes"] * warned
    assert topics(use_sinkhorn=False, **flags) == []


def test_the_remedies_for_sinkhorn_are_just_enough() -> None:
    [advice] = advise_settings(settled(batch_size=20, out_dim=65_536), World())
    assert "--batch-size 1024 or more" in advice.remedy
    assert "--out-dim 1280 or less" in advice.remedy
    assert topics(batch_size=1024, out_dim=65_536) == topics(batch_size=20, out_dim=1280) == []


def test_accumulated_batches_do_not_help_sinkhorn() -> None:
    assert topics(batch_size=64, accumulate_steps=16, out_dim=65_536) == ["prototypes"]


def test_registers_are_warned_of() -> None:
    assert topics(vit_registers=4) == ["export"]


@pytest.fixture
def images(pictures: Path) -> ImageFolder:
    return scan([pictures])


def about(images: ImageFolder, **flags: Any) -> list[Advice]:
    """But for that they are few, which 24 images always are."""
    settings = settled(batch_size=8, **flags)
    few, *others = advise_data(settings, images, plan(settings, num_images=len(images)))
    assert few.topic == "images"
    return others


def of_paper(preset: str, number: int, **flags: Any) -> dict[str, Advice]:
    settings = settled(num_images=number, preset=preset, **flags)
    found = advise_data(settings, range(number), plan(settings, num_images=number))  # type: ignore[arg-type]  # counted
    return {advice.topic: advice for advice in found}


@pytest.mark.parametrize(("number", "warned"), [(19_999, True), (20_000, False)])
def test_few_images_under_the_recipe_of_a_million_are_warned_of(number: int, warned: bool) -> None:
    assert ("preset" in of_paper("dino", number)) is warned
    assert "preset" not in of_paper("laptop", number)


def test_weights_rule_the_laptops_network_out_of_the_remedy() -> None:
    assert "laptop" in of_paper("dino", 1000)["preset"].remedy
    settings = settled(preset="dino").model_copy(update={"init_from": "weights.pth"})
    [text] = [a.remedy for a in advise_data(settings, range(1000), plan(settings, num_images=1000))  # type: ignore[arg-type]
              if a.topic == "preset"]  # fmt: skip
    assert text.startswith("--preset none,")


def test_a_batch_far_below_the_papers_is_warned_of_and_the_remedy_holds() -> None:
    advice = of_paper("ibot", 10**6)["batch"]
    assert "a step has 32 images, and the recipe of preset ibot is for 1,024: the" in advice.text
    assert advice.remedy == "a larger --batch-size, or --accumulate-steps 32"
    for enough in ({"accumulate_steps": 32}, {"batch_size": 256}):
        assert "batch" not in of_paper("ibot", 10**6, **enough)
    assert "batch" in of_paper("ibot", 10**6, batch_size=255)


def test_few_images_are_not_told_to_make_an_epoch_of_one_step() -> None:
    assert of_paper("dino", 1000)["batch"].remedy.endswith("--accumulate-steps 3")
    assert "batch" not in of_paper("dino", 1000, accumulate_steps=3)
    assert "batch" not in of_paper("dino", 300)


def test_epochs_that_are_no_passes_over_the_data_are_warned_of_where_a_run_is_far_longer() -> None:
    advice = of_paper("signmusketeers", 10**6, batch_size=1000)["length"]
    assert "100 epochs show 100,000,000 images, and 10,240,000 in the paper" in advice.text
    assert advice.remedy == "--epochs 10"
    assert "length" not in of_paper("signmusketeers", 10**6, batch_size=1000, epochs=10)
    assert "length" not in of_paper("dinov2", 10**6)


def test_a_recipe_that_starts_from_weights_is_warned_of_without_them() -> None:
    assert "start" in topics(preset="signmusketeers")
    assert "start" not in topics(preset="dinov2")
    weights = settled(preset="signmusketeers").model_copy(update={"init_from": "dinov2_vits14_reg4_pretrain.pth"})
    assert "start" not in [advice.topic for advice in advise_settings(weights, World())]


@pytest.mark.parametrize(("number", "warned"), [(1, True), (199, True), (200, False)])
def test_under_200_images_are_too_few(number: int, warned: bool) -> None:
    settings, images = settled(num_images=number, batch_size=2), range(number)
    found = [advice.text for advice in advise_data(settings, images, plan(settings, num_images=number))]  # type: ignore[arg-type]  # only counted
    assert any("too few to learn from" in text for text in found) is warned
    assert not any(text.startswith("1 are") for text in found)


def test_local_crops_of_few_images_are_warned_of(images: ImageFolder) -> None:
    assert [advice.topic for advice in about(images, num_local_crops=2)] == ["local crops"]
    assert about(images) == []


def test_a_teacher_slower_than_the_run_is_warned_of_and_the_remedy_holds(images: ImageFolder) -> None:
    [advice] = about(images, epochs=30, teacher_momentum_base=0.99)  # 100 steps of 90
    assert (advice.topic, advice.remedy) == ("teacher", "--teacher-momentum-base 0.8333 or less, or more --epochs")
    assert about(images, epochs=30, teacher_momentum_base=0.8333) == []
    assert about(images, epochs=40, teacher_momentum_base=0.99) == []


def test_more_bad_images_than_a_run_stands_are_warned_of() -> None:
    bad = tuple(BadFile(number, f"crops/{number}.png", "empty file") for number in (1, 2))
    two = FINE._replace(bad={"empty file": 2}, bad_files=bad)
    assert [advice.topic for advice in advise_bad_images(settled(), two)] == ["bad images"]
    assert list(advise_bad_images(settled(dataset_max_bad_fraction=0.02), two)) == []


def test_what_the_machine_lacks_is_warned_of() -> None:
    fine = {"seconds": 3600.0, "memory": 8, "free_memory": 10, "disk": 10, "free_disk": 10}
    assert list(advise_resources(settled(), {}, World(), **fine)) == []
    lacking = {"time": {"seconds": 2 * 86_400.0}, "memory": {"memory": 10}, "disk": {"disk": 11}}
    for topic, change in lacking.items():
        [advice] = advise_resources(settled(), {}, World(), **fine | change)
        assert advice.topic == topic
    [slow] = advise_resources(settled(), {}, World(), **fine | lacking["time"])
    assert "2.0 days" in slow.text


@pytest.mark.parametrize(
    ("origin", "advised"),
    [("preset laptop", True), ("preset laptop, at random: --vit-depth", True), ("--init-from", False)],
)
def test_another_size_is_advised_where_the_weights_would_give_way_to_it(origin: str, advised: bool) -> None:
    needed = {"seconds": 1e6, "memory": 1, "free_memory": 10, "disk": 1, "free_disk": 10}
    [slow] = advise_resources(settled(preset="laptop"), {"init_from": origin}, World(), **needed)
    assert ("--vit-depth" in slow.remedy) is advised


@pytest.mark.parametrize(
    ("flags", "device", "advised", "not_advised"),
    [
        ({}, "cpu", ["--preset laptop", "--vit-depth", "or a GPU"], ["--num-local-crops"]),
        ({"preset": "laptop"}, "cpu", ["--vit-depth", "or a GPU"], ["--preset", "--num-local-crops"]),
        ({"num_local_crops": 0}, "cpu", ["--preset laptop"], ["--num-local-crops"]),
        ({"num_local_crops": 4}, "cuda", ["fewer --num-local-crops"], ["a GPU"]),
    ],
)
def test_a_remedy_for_a_slow_run_is_nothing_that_is_set_already(
    flags: Any, device: str, advised: list[str], not_advised: list[str]
) -> None:
    origins = load_settings("hands", flags={"train_dir": "crops", **flags}).origins
    [slow] = advise_resources(
        settled(**flags), origins, World(device=device), seconds=1e6, memory=1, free_memory=10, disk=1, free_disk=10
    )
    assert [text for text in advised if text not in slow.remedy] == []
    assert [text for text in not_advised if text in slow.remedy] == []


def test_the_smallest_batch_is_not_told_to_be_smaller() -> None:
    lacking = {"seconds": 1.0, "memory": 10, "free_memory": 10, "disk": 1, "free_disk": 10}
    assert "--batch-size" in next(advise_resources(settled(batch_size=3), {}, World(), **lacking)).remedy
    assert "--batch-size" not in next(advise_resources(settled(batch_size=2), {}, World(), **lacking)).remedy


@pytest.mark.parametrize(("load", "warned"), [(Load(1.0, 2), False), (Load(3.1, 2), True), (Load(3.1, 64), False)])
def test_cores_that_others_use_are_warned_of(load: Load, warned: bool) -> None:
    texts = [advice.text for advice in advise_load(load)]
    assert texts == ["other programs use these cores (load 3.1 on 2 cores): the time is an upper bound"] * warned
