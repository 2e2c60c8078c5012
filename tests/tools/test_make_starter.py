"""The command that makes the starter weights, in a moment: what it draws, what it learns and what it writes."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from sltdino.core.settings_files import load_settings
from sltdino.data.synthetic_starter import Drawings, draw_many
from sltdino.models.import_weights import import_backbone

COUNTS = {"images": 12, "held_out": 4, "batch_size": 8}


@pytest.fixture
def tool(tools: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`tools/make_starter.py`, which keeps its drawings eight to a file."""
    monkeypatch.syspath_prepend(tools)
    import make_starter

    monkeypatch.setattr(make_starter, "SHARD", 8)
    return make_starter


@pytest.fixture
def make(tool: ModuleType, tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, **options: Any) -> Path:
        output = tmp_path / name / "starter.pt"
        tool.main(**{**COUNTS, "steps": 2, "drawings": tmp_path / "drawings", "output": output, **options})
        return output

    return make


def test_one_call_writes_weights_of_the_laptop_preset_and_says_how_they_were_made(make: Callable[..., Path]) -> None:
    path = make("new")
    imported, laptop = import_backbone(path), load_settings("hands", flags={"train_dir": ".", "preset": "laptop"})
    vit, asked = imported.network.vit, laptop.settings.vit
    assert (vit.patch_size, vit.embed_dim, vit.depth) == (asked.patch_size, asked.embed_dim, asked.depth)
    assert imported.layout == "slt"
    assert all(value.dtype == torch.float16 for value in torch.load(path, weights_only=True)["model"].values())
    said = json.loads(path.with_suffix(".json").read_text())
    assert (said["seed"], said["drawings"], said["steps"]) == (0, 12, 2)
    options = "--images 12 --held-out 4 --steps 2 --batch-size 8 --threads 1 --seed 0"
    assert said["command"] == f"python tools/make_starter.py {options}"
    assert said["verification"]["max_relative_error"] < 1e-4
    assert {"command", "loss", "held_out", "sltdino", "git_revision", "made_with"} <= said.keys()
    assert said.keys() - {"verification", "load", "file", "format", "input", "sha256", "num_bytes", "num_tensors"} == (
        imported.metadata.keys()
    )


def test_the_same_call_makes_the_same_weights_from_the_drawings_it_kept(
    make: Callable[..., Path], tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = torch.load(make("first"), weights_only=True)["model"]

    def draw_no_more(*_: object, **__: object) -> None:
        raise AssertionError("all of it was drawn")

    monkeypatch.setattr(tool, "draw_many", draw_no_more)
    again = torch.load(make("again"), weights_only=True)["model"]
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_what_is_too_large_for_a_package_is_said(
    make: Callable[..., Path], tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "MOST_BYTES", 1000)
    with pytest.raises(SystemExit, match="more than 1,000 are too many for a package"):
        make("large")


def test_a_few_drawings_are_learnt_by_heart(tool: ModuleType) -> None:
    import _starter_training as training

    settings = tool.laptop()
    crops = settings.augmentation.model_copy(update={"global_crop_scale": (1.0, 1.0), "color_jitter_prob": 0.0})
    drawings = {subject: draw_many(subject, first=0, count=8, seed=0) for subject in ("hand", "face")}
    teller = training.fresh(settings.vit, crops, drawings, seed=0)
    before = training.errors_on(teller, drawings, crops)
    training.train(teller, drawings, crops, num_steps=40, batch_size=16, seed=0)
    after = training.errors_on(teller, drawings, crops)
    for subject in drawings:
        for name in ("cls", "mean", "plain"):
            assert getattr(after[subject], name).mean() < 0.8 * getattr(before[subject], name).mean(), (subject, name)


def test_places_and_the_plain_drawing_are_those_of_the_crop(tool: ModuleType) -> None:
    """A white spot on black is found in the pixels of the crop where the targets say it is."""
    import _starter_training as training

    number, side, spot = 40, 72, 6
    rng = np.random.default_rng(0)
    corners = rng.integers(8, side - 8 - spot, (number, 2)) // 2 * 2  # from the left, from the top
    images, plain = np.zeros((number, side, side, 3), np.uint8), np.zeros((number, side // 2, side // 2, 3), np.uint8)
    for row, (x, y) in enumerate(corners):
        images[row, y : y + spot, x : x + spot] = 255
        plain[row, y // 2 : (y + spot) // 2, x // 2 : (x + spot) // 2] = 255
    places = ((corners + spot / 2) / side)[:, None].astype(np.float32)
    crops = tool.laptop().augmentation.model_copy(
        update={"color_jitter_prob": 0.0, "grayscale_prob": 0.0, "light": 0.0, "gaussian_blur_prob": 0.0}
    )
    view = training.views(Drawings(images, plain, np.zeros((number, 0)), places), np.arange(number), crops, rng)
    told = view.targets.numpy().reshape(number, 2)
    inside = (np.abs(told - 0.5) < 0.4).all(axis=1)
    assert inside.sum() > 20
    for pictures in (view.images, view.plain):
        light = pictures[inside, 0].numpy()
        light -= light.min(axis=(1, 2), keepdims=True)
        middles, total = (np.arange(light.shape[-1]) + 0.5) / light.shape[-1], light.sum(axis=(1, 2))
        found = np.stack((light.sum(axis=1) @ middles / total, light.sum(axis=2) @ middles / total), axis=1)
        assert np.abs(found - told[inside]).max() < 0.02
