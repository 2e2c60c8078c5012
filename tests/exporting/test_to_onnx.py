"""ONNX Runtime, the real one, on a file that the command wrote in a process of its own."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sltdino.errors import CheckpointError, SettingsError
from sltdino.exporting import outputs, to_onnx
from sltdino.exporting.backbone import TrainedBackbone, at_image_size, load_trained_backbone
from sltdino.exporting.formats import write_backbone

SEED_MEAN, SEED_STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)


class Exported(NamedTuple):
    backbone: TrainedBackbone
    """Trained at 16 px."""
    path: Path
    """For images of 24 px."""
    report: dict[str, Any]
    stderr: str


@pytest.fixture(scope="module")
def exported(train_in: Any, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("onnx")
    train_in(folder / "run", epochs=1, vit_registers=2, vit_layer_scale=0.1, aug_mean=SEED_MEAN, aug_std=SEED_STD)
    command = ["export", "run", "--format", "onnx", "-o", "b.onnx", "--image-size", "24", "--json"]
    done = subprocess.run([sys.executable, "-m", "sltdino", *command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    backbone = load_trained_backbone(folder / "run")
    return Exported(backbone, folder / "b.onnx", json.loads(done.stdout), done.stderr)


def test_nothing_of_the_exporter_reaches_the_terminal(exported: Exported) -> None:
    assert exported.stderr == ""


@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_runtime_computes_our_features_of_any_batch(
    exported: Exported, ours: Any, relative: Any, batch: int
) -> None:
    pictures, features = ours(exported.backbone, 24)
    mean, std = (torch.tensor(v).double().view(3, 1, 1) for v in (SEED_MEAN, SEED_STD))
    images = ((pictures - mean) / std).float().numpy()[:batch]
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    found = [torch.from_numpy(value) for value in session.run(["cls", "patches"], {"images": images})]
    assert relative(found, [tokens[:batch] for tokens in features]) < 1e-5
    assert exported.report["max_relative_error"] < 1e-5
    assert exported.report["verified_in"] == f"onnxruntime {onnxruntime.__version__}"


def test_the_graph_names_its_input_outputs_and_dynamic_batch(exported: Exported) -> None:
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    assert {item.name: item.shape for item in session.get_inputs()} == {"images": ["batch", 3, 24, 24]}
    assert {item.name: item.shape for item in session.get_outputs()} == {
        "cls": ["batch", 16], "patches": ["batch", 9, 16],
    }  # fmt: skip
    assert [(item.domain, item.version) for item in onnx.load(exported.path).opset_import] == [("", 18)]


def test_the_file_itself_says_what_to_feed_it(exported: Exported) -> None:
    said = {entry.key: entry.value for entry in onnx.load(exported.path).metadata_props}
    content = json.loads(said["sltdino"])
    assert content["input"] == {
        "image_size": 24,
        "mean": list(SEED_MEAN),
        "std": list(SEED_STD),
        "resample": "bicubic, antialiased",
    }


def test_the_lines_to_load_it_give_the_features_of_a_picture(
    exported: Exported, photo: Path, features_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(exported.path.parent)
    shutil.copy(photo, "crop.jpg")
    names: dict[str, Any] = {}
    exec(exported.report["load"], names)
    wanted = features_of(at_image_size(exported.backbone, 24), photo).numpy()
    assert (names["cls"].shape, names["patches"].shape) == ((1, 16), (1, 9, 16))
    assert np.abs(names["cls"] - wanted).max() < 0.02 * np.abs(wanted).max()  # Pillow and torch round pixels otherwise


def change_a_weight(model: Any) -> None:
    [bias] = [item for item in model.graph.initializer if item.name.endswith("blocks.1.mlp.fc1.bias")]
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.5), bias.name))


def drop_a_weight(model: Any) -> None:
    del model.graph.initializer[0]


def fix_the_batch(model: Any) -> None:
    """As the exporter itself does, without a word, where the network reads the batch as a number."""
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def rename_an_output(model: Any) -> None:
    old = model.graph.output[1].name
    model.graph.output[1].name = "tokens"
    for node in model.graph.node:
        node.output[:] = ["tokens" if name == old else name for name in node.output]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (change_a_weight, "features differ"),
        (drop_a_weight, "not what the reader of onnx loads"),
        (fix_the_batch, "INVALID_ARGUMENT"),
        (rename_an_output, "its inputs and outputs are .*tokens"),
    ],
)
def test_a_file_that_is_not_right_is_found(
    exported: Exported, tmp_path: Path, change: Callable[[Any], None], reason: str
) -> None:
    model = onnx.load(exported.path)
    change(model)
    onnx.save(model, tmp_path / "b.onnx")
    backbone = at_image_size(exported.backbone, 24)
    with pytest.raises(CheckpointError, match=reason) as caught:
        outputs._proven(lambda path: to_onnx._check(backbone, path), tmp_path / "b.onnx", "onnx")
    assert caught.value.code == "E-EXPORT"


def test_a_network_that_no_single_file_holds_is_refused_before_the_export(
    make_backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_onnx, "_LARGEST", 1000)
    with pytest.raises(SettingsError, match="one ONNX file holds 2 GiB"):
        write_backbone(make_backbone(), format="onnx", out=tmp_path / "b.onnx")
