"""Small folders of real image files, and builders on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sltdino.core.distributed import World
from sltdino.core.settings import AugmentationSettings, DatasetSettings
from sltdino.data.image_folder import scan
from sltdino.data.loader import BatchBuilder
from sltdino.data.masking import Masking

NUM_IMAGES = 22


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 PNG and JPEG noise pictures of different sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(NUM_IMAGES):
        pixels = rng.integers(0, 256, (40 + number, 60 - number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.{'png' if number % 2 else 'jpg'}")
    return folder


@pytest.fixture
def build(picture_folder: Path) -> Callable[..., BatchBuilder]:
    """Make a BatchBuilder of 5 steps an epoch; keyword arguments change it."""

    def build(folder: Path = picture_folder, **changes: Any) -> BatchBuilder:
        dataset = {key: changes.pop(key) for key in ("batch_size", "shuffle", "cache") if key in changes}
        options: dict[str, Any] = {
            "seed": 0, "patch_size": 8, "masking": Masking(0.3, 0.5),
            "pseudo_epochs": 1, "accumulate_steps": 1, "world": World(),
        }  # fmt: skip
        augmentation = AugmentationSettings(
            image_size=32, local_crop_size=16, num_local_crops=3, light=0.3, rotation=9.0, solarize_prob=0.1
        )
        return BatchBuilder(
            scan([folder]), DatasetSettings(**{"batch_size": 4, **dataset}), augmentation, **{**options, **changes}
        )

    return build
