"""The first crops of a run, made one image at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sltdino.core.auto import settle
from sltdino.core.distributed import World
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_files import load_settings
from sltdino.data.image_folder import ImageFolder, scan
from sltdino.data.loader import build_loader
from sltdino.errors import DataError
from sltdino.training.batches import build_batches, first_crops

Settings = Callable[..., PretrainSettings]


@pytest.fixture(scope="module")
def images(pictures: Path) -> ImageFolder:
    return scan([pictures])


@pytest.fixture
def settings(pictures: Path, tiny: dict[str, Any], images: ImageFolder) -> Settings:
    """Settled settings of a tiny run of dinov2; keyword arguments change them."""

    def settings(**flags: Any) -> PretrainSettings:
        values = {**tiny, "algorithm": "dinov2", "train_dir": str(pictures), "num_local_crops": 3, **flags}
        return settle(load_settings("hands", flags=values).settings, num_images=len(images)).settings

    return settings


@pytest.mark.parametrize("passes", [1, 3])
def test_they_are_those_that_the_loader_gives_in_the_first_step(
    settings: Settings, images: ImageFolder, passes: int
) -> None:
    given = settings(batch_size=8 // passes, accumulate_steps=passes)
    builder = build_batches(given, images, World())
    with_loader = next(build_loader(builder, first_step=0, last_step=1, num_workers=0))
    masked = 0
    for place, cropped in enumerate(first_crops(given, images, count=6)):
        number, row = divmod(place, given.dataset.batch_size)
        batch = with_loader.batches[number]
        assert cropped.number == with_loader.indices[place]
        for name in batch._fields:
            whole = getattr(batch, name)
            assert torch.equal(getattr(cropped.batch, name), whole[row :: given.dataset.batch_size]), name
        masked += int(cropped.batch.masks_GN.sum())
    assert masked > 0


def test_a_run_without_masked_patches_hides_none(settings: Settings, images: ImageFolder) -> None:
    assert not any(cropped.batch.masks_GN.any() for cropped in first_crops(settings(algorithm="dino"), images, count=8))


def test_there_are_no_more_than_the_step_has(settings: Settings, images: ImageFolder) -> None:
    assert len(first_crops(settings(batch_size=2), images, count=8)) == 2


def test_a_folder_that_has_shrunk_is_named(settings: Settings, pictures: Path) -> None:
    few = scan([pictures / f"{number}.png" for number in range(7)])
    with pytest.raises(DataError, match=r"7 images, and a step of the run takes 8; add images"):
        first_crops(settings(), few, count=4)
