"""Our own names in the real safetensors."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from sltdino.exporting.formats import write_backbone

VIT = {"registers": 2, "layer_scale": 0.1}


@pytest.fixture
def exported(make_backbone: Any, tmp_path: Path) -> Any:
    backbone = make_backbone(vit=VIT, augmentation={"mean": (0.5, 0.4, 0.3), "std": (0.25, 0.2, 0.3)})
    return backbone, write_backbone(backbone, format="safetensors", out=tmp_path / "b.safetensors")


def test_every_weight_is_there_bit_for_bit_the_mask_token_too(exported: Any) -> None:
    backbone, report = exported
    written, state = load_file(report.path), backbone.network.state_dict()
    assert written.keys() == state.keys() >= {"mask_token", "reg_token", "blocks.1.ls2.gamma"}
    assert all(torch.equal(written[key], state[key]) for key in state)
    assert (report.num_tensors, report.max_relative_error) == (len(state), 0)


def test_the_header_says_all_that_rebuilds_the_network_and_feeds_it(exported: Any) -> None:
    with safe_open(exported[1].path, "pt") as file:
        header = file.metadata()
    assert header.keys() == {"sltdino"}
    said = json.loads(header["sltdino"])
    assert (said["stream"], said["network"], said["global_step"]) == ("hand", "teacher", 42)
    assert said["input"] == {
        "image_size": 16,
        "mean": [0.5, 0.4, 0.3],
        "std": [0.25, 0.2, 0.3],
        "resample": "bicubic, antialiased",
    }
    assert said["vit"] == {
        "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 4.0, "layer_norm_eps": 1e-5, **VIT,
    }  # fmt: skip


def test_the_lines_to_load_it_give_the_features_of_a_picture(
    exported: Any, photo: Path, features_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, report = exported
    monkeypatch.chdir(photo.parent)
    names: dict[str, Any] = {}
    exec(report.load, names)
    wanted = features_of(backbone, photo)
    assert (names["cls"] - wanted).abs().max() < 0.02 * wanted.abs().max()  # Pillow and torch round pixels otherwise


def test_it_is_said_what_reads_the_file_here_and_under_which_normalisation(exported: Any) -> None:
    assert exported[1].notes == (
        "sltdino embed and --init-from read this file too",
        "load_backbone folds the training's mean and std in, so that its network takes ImageNet's",
    )
