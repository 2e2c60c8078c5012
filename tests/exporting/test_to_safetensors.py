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
    assert said["input"] == {"image_size": 16, "mean": [0.5, 0.4, 0.3], "std": [0.25, 0.2, 0.3]}
    assert said["vit"] == {
        "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 4.0, "layer_norm_eps": 1e-5, **VIT,
    }  # fmt: skip


def test_the_lines_to_load_it_load_it(exported: Any) -> None:
    names: dict[str, Any] = {}
    exec(exported[1].load, names)
    assert names["state_dict"]["cls_token"].shape == (1, 1, 16)
