"""Whole runs in half a second: drawn pictures, a network of a few thousand weights, three steps an epoch."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

# nothing of ours is imported here: most tests need no training, and some none of torch

NUM_IMAGES = 24

TINY = {
    "algorithm": "dino", "epochs": 2, "batch_size": 8, "num_workers": 0, "log_interval": 1, "device": "cpu",
    "image_size": 16, "local_crop_size": 8, "num_local_crops": 1, "patch_size": 8, "vit_embed_dim": 16, "vit_depth": 2,
    "vit_num_heads": 2, "vit_drop_path": 0.1, "out_dim": 32, "head_hidden_dim": 32, "head_bottleneck_dim": 8,
}  # fmt: skip
"""2 epochs of 3 steps; every step is logged."""


class Recorder:
    """A reporter that keeps what a run says, and signals this process when step `stop_at` was logged."""

    def __init__(self, *, stop_at: int = 0, by: int = signal.SIGTERM) -> None:
        self.said: list[str] = []
        self.steps: list[int] = []
        self.stop_at, self.by = stop_at, by

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.said.append(f"warning: {text}")

    def detail(self, text: str) -> None:
        pass

    def step(self, step: int, total_steps: int, metrics: Mapping[str, Any]) -> None:
        self.steps.append(step)
        if step == self.stop_at:
            os.kill(os.getpid(), self.by)

    def close(self) -> None:
        pass


def _draw(folder: Path, count: int, *, seed: int = 0) -> Path:
    """Noise in a colour of its own for each image: pictures that differ, so that there is something to learn."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        colour, noise = rng.integers(0, 200, 3), rng.integers(0, 56, (24, 24, 3))
        Image.fromarray((colour + noise).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def draw() -> Callable[..., Path]:
    """`draw(folder, count, seed=0)` draws pictures into a folder."""
    return _draw


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """Flags of a tiny run, by flat name."""
    return dict(TINY)


@pytest.fixture(scope="session")
def recorder() -> type[Recorder]:
    """The class of a reporter that remembers, and can stop the run."""
    return Recorder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures, to read only."""
    return _draw(tmp_path_factory.mktemp("pictures"), NUM_IMAGES)


@pytest.fixture
def own_pictures(tmp_path: Path, pictures: Path) -> Path:
    """A copy of the pictures, to change."""
    return shutil.copytree(pictures, tmp_path / "pictures")


@pytest.fixture(scope="session")
def train_in(pictures: Path) -> Callable[..., Any]:
    """`train_in(run, images=…, reporter=…, epochs=3, …)` pre-trains a tiny network into the folder `run`."""

    def train_in(run: Path, *, images: Path = pictures, reporter: Any = None, **flags: Any) -> Any:
        from sltdino import load_settings, pretrain

        values = {**TINY, "train_dir": str(images), "output_dir": str(run), **flags}
        settings, origins = load_settings("hands", flags=values)
        return pretrain(settings, origins=origins, reporter=reporter)

    return train_in


@pytest.fixture
def train(tmp_path: Path, train_in: Callable[..., Any]) -> Callable[..., Any]:
    """`train("run", algorithm="ibot")` pre-trains into `tmp_path / "run"`."""
    return lambda name="run", **options: train_in(tmp_path / name, **options)


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory, train_in: Callable[..., Any]) -> Iterator[Path]:
    """A finished run, to read only: a test that changes it is found here, and not by one that comes after it."""
    run = tmp_path_factory.mktemp("finished") / "run"
    train_in(run)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    yield run
    after = {path.name: path.read_bytes() for path in run.iterdir()}
    assert sorted(before) == sorted(after)
    assert [name for name in before if before[name] != after[name]] == []


@pytest.fixture
def finished(tmp_path: Path, finished_once: Path) -> Path:
    """A finished run of 2 epochs, to change."""
    return shutil.copytree(finished_once, tmp_path / "finished")
