"""Whole runs in a second: drawn pictures, a network of a few thousand weights, three steps an epoch."""

import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_files import load_settings
from sltdino.pretraining import RunSummary, pretrain
from sltdino.pretraining.progress import Silent

NUM_IMAGES, STEPS_PER_EPOCH = 24, 3


class Recorder(Silent):
    """Keeps what a run says, and signals this process when a step was logged."""

    def __init__(self, *, stop_at: int = 0, by: int = signal.SIGTERM) -> None:
        self.said: list[str] = []
        self.steps: list[int] = []
        self.stop_at, self.by = stop_at, by

    def say(self, text: str) -> None:
        self.said.append(text)

    def step(self, step: int, total_steps: int, metrics: Mapping[str, Any]) -> None:
        self.steps.append(step)
        if step == self.stop_at:
            os.kill(os.getpid(), self.by)


def draw(folder: Path, count: int, *, seed: int = 0) -> Path:
    """Noise in a colour of its own for each image: pictures that differ, so that training has something to do."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        colour, noise = rng.integers(0, 200, 3), rng.integers(0, 56, (24, 24, 3))
        Image.fromarray((colour + noise).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only; a test that changes its images copies them."""
    return draw(tmp_path_factory.mktemp("pictures"), NUM_IMAGES)


@pytest.fixture
def own_pictures(tmp_path: Path, pictures: Path) -> Path:
    """A copy of the pictures for tests that change them."""
    return shutil.copytree(pictures, tmp_path / "pictures")


def tiny_settings(train_dir: Path, output_dir: Path, **flags: Any) -> PretrainSettings:
    """Settings of a run of 2 epochs of 3 steps; every step is logged. Flags by flat name or dotted key."""
    values = {
        "train_dir": str(train_dir), "output_dir": str(output_dir), "algorithm": "dino", "epochs": 2, "batch_size": 8,
        "num_workers": 0, "log_interval": 1, "device": "cpu", "image_size": 16, "local_crop_size": 8,
        "num_local_crops": 1, "patch_size": 8, "vit_embed_dim": 16, "vit_depth": 2, "vit_num_heads": 2,
        "vit.drop_path": 0.1, "out_dim": 32, "head_hidden_dim": 32, "head.bottleneck_dim": 8,
    }  # fmt: skip
    return load_settings("hands", flags=values | flags).settings


@pytest.fixture
def train(tmp_path: Path, pictures: Path) -> Callable[..., RunSummary]:
    """`train("run", algorithm="ibot")` runs it in `tmp_path / "run"`."""

    def train(name: str = "run", *, images: Path = pictures, reporter: Any = None, **flags: Any) -> RunSummary:
        return pretrain(tiny_settings(images, tmp_path / name, **flags), reporter=reporter)

    return train


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    return pretrain(tiny_settings(pictures, out)).run_dir


@pytest.fixture
def finished(tmp_path: Path, finished_once: Path) -> Path:
    """The folder of a finished run of 2 epochs, for this test alone."""
    return shutil.copytree(finished_once, tmp_path / "finished")
