"""ONNX Runtime, the real one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sltdino.errors import CheckpointError, SettingsError
from sltdino.exporting import to_onnx
from sltdino.exporting.backbone import at_image_size
from sltdino.exporting.formats import write_backbone

SEED_MEAN, SEED_STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)


@pytest.fixture(scope="module")
def exported(make_backbone: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A backbone of 16 px, and its export for images of 24 px."""
    backbone = make_backbone(
        vit={"registers": 2, "layer_scale": 0.1}, augmentation={"mean": SEED_MEAN, "std": SEED_STD}
    )
    path = tmp_path_factory.mktemp("onnx") / "b.onnx"
    return backbone, write_backbone(at_image_size(backbone, 24), format="onnx", out=path), path


@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_runtime_computes_our_features_of_any_batch(exported: Any, ours: Any, relative: Any, batch: int) -> None:
    backbone, report, path = exported
    pictures, features = ours(backbone, 24)
    mean, std = (torch.tensor(v).double().view(3, 1, 1) for v in (SEED_MEAN, SEED_STD))
    images = ((pictures - mean) / std).float().numpy()[:batch]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = [torch.from_numpy(value) for value in session.run(["cls", "patches"], {"images": images})]
    assert relative(found, [tokens[:batch] for tokens in features]) < 1e-5
    assert report.max_relative_error < 1e-5


def test_the_graph_names_its_input_outputs_and_dynamic_batch(exported: Any) -> None:
    session = onnxruntime.InferenceSession(exported[2], providers=["CPUExecutionProvider"])
    assert {item.name: item.shape for item in session.get_inputs()} == {"images": ["batch", 3, 24, 24]}
    assert {item.name: item.shape for item in session.get_outputs()} == {
        "cls": ["batch", 16], "patches": ["batch", 9, 16],
    }  # fmt: skip
    assert [(item.domain, item.version) for item in onnx.load(exported[2]).opset_import] == [("", 18)]


def test_the_file_itself_says_what_to_feed_it(exported: Any) -> None:
    said = {entry.key: entry.value for entry in onnx.load(exported[2]).metadata_props}
    content = json.loads(said["sltdino"])
    assert content["input"] == {"image_size": 24, "mean": list(SEED_MEAN), "std": list(SEED_STD)}


def test_the_lines_to_load_it_load_it(exported: Any) -> None:
    names: dict[str, Any] = {"images": np.zeros((5, 3, 24, 24), dtype=np.float32)}
    exec(exported[1].load, names)
    assert (names["cls"].shape, names["patches"].shape) == ((5, 16), (5, 9, 16))


def test_a_batch_that_the_exporter_fixed_is_found(
    make_backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **kwargs: real(*args, **{**kwargs, "dynamic_shapes": None}))
    with pytest.raises(CheckpointError, match="INVALID_ARGUMENT") as caught:
        write_backbone(make_backbone(), format="onnx", out=tmp_path / "b.onnx")
    assert caught.value.code == "E-EXPORT"
    assert list(tmp_path.iterdir()) == []


def test_a_weight_that_changed_after_writing_is_found(exported: Any, tmp_path: Path) -> None:
    backbone, _, path = exported
    model = onnx.load(path)
    [bias] = [item for item in model.graph.initializer if item.name.endswith("blocks.1.mlp.fc1.bias")]
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.1), bias.name))
    onnx.save(model, tmp_path / "b.onnx")
    with pytest.raises(CheckpointError, match="features differ"):
        to_onnx._check(at_image_size(backbone, 24), tmp_path / "b.onnx")


def test_a_network_that_no_single_file_holds_is_refused_before_the_export(
    make_backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_onnx, "_LARGEST", 1000)
    with pytest.raises(SettingsError, match="one ONNX file holds 2 GiB"):
        write_backbone(make_backbone(), format="onnx", out=tmp_path / "b.onnx")


def test_nothing_of_the_exporter_reaches_the_terminal(finished: Path, tmp_path: Path) -> None:
    """In a process of its own: the exporter speaks when it is first imported, and not to Python's streams only."""
    command = [sys.executable, "-m", "sltdino", "export", str(finished), "--format", "onnx", "-o", "b.onnx"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("wrote b.onnx\n")
