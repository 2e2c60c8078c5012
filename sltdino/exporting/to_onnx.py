"""For ONNX Runtime and other engines: one file with a dynamic batch, made by torch's own exporter.

That exporter is `torch.onnx.export(dynamo=True)`, which traces with torch.export and translates with onnxscript. It
falls back to a fixed batch without an error, so the file is run at two batch sizes.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sltdino.core import json_files
from sltdino.core.settings_base import known
from sltdino.errors import CheckpointError, SettingsError
from sltdino.exporting.backbone import TrainedBackbone
from sltdino.exporting.extras import required
from sltdino.exporting.outputs import ExportReport, NetworkInput, Recipe, network_input, picture_lines, said, write_file
from sltdino.exporting.verify import Consumer, Proof, compare_features, refused
from sltdino.models.import_facts import OUR_HEADER
from sltdino.models.vit import Features, VisionTransformer

INPUT, OUTPUTS = "images", ["cls", "patches"]
OPSET = 18
_LARGEST = 2**31 - 1  # of a protobuf message


def write(backbone: TrainedBackbone, path: Path) -> ExportReport:
    """Write `path`: input `images [batch, 3, S, S]`, outputs `cls [batch, D]` and `patches [batch, N, D]`.

    Raises:
        SettingsError: onnx, onnxscript or onnxruntime is missing, or the network is too large for one file.
        CheckpointError: the exporter fails, or what was written does not compute the same features.
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        required(module, format="onnx", extra="onnx")
    num_bytes = sum(4 * value.numel() for value in backbone.network.state_dict().values())
    if num_bytes > _LARGEST:
        raise SettingsError(f"--format onnx: {num_bytes / 2**30:.1f} GiB of weights, and one ONNX file holds 2 GiB")
    given = network_input(backbone)
    content = _onnx_bytes(backbone.network, {**said(backbone), "input": given._asdict()})
    facts = {"opset": OPSET, "exporter": "torch.onnx.export(dynamo=True)"}
    return write_file(
        backbone,
        path,
        Recipe("onnx", _load_lines(path, given), given, (("onnx", facts),)),
        save=lambda file: file.write(content),
        check=lambda written: _check(backbone, written),
    )


class _Graph(nn.Module):
    """The network with a plain tuple as its output."""

    def __init__(self, network: VisionTransformer) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        cls_BD, patches_BND = self.network.forward_features(images)
        return cls_BD, patches_BND


def _onnx_bytes(network: VisionTransformer, metadata: dict[str, Any]) -> bytes:
    example = torch.zeros(2, 3, network.image_size, network.image_size)
    try:
        with _quiet():
            program = torch.onnx.export(
                _Graph(network).eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=OUTPUTS,
                dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1)}},
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"torch.onnx cannot export this network ({reason})", code="E-EXPORT") from error
    assert program is not None
    model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = OUR_HEADER, json_files.dumps(metadata)
    return bytes(model.SerializeToString())


def _load_lines(path: Path, given: NetworkInput) -> str:
    return "\n".join(
        (
            "import numpy as np",
            "import onnxruntime",
            "from PIL import Image",
            "",
            *picture_lines(given),
            f"session = onnxruntime.InferenceSession({str(path)!r})",
            "cls, patches = session.run(['cls', 'patches'], {'images': images})",
        )
    )


def _check(backbone: TrainedBackbone, path: Path) -> Proof:
    onnx = required("onnx", format="onnx", extra="onnx")
    onnxruntime = required("onnxruntime", format="onnx", extra="onnx")
    model = onnx.load(path)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = ([item.name for item in session.get_inputs()], [item.name for item in session.get_outputs()])
    if names != ([INPUT], OUTPUTS):
        raise refused("ONNX Runtime", f"its inputs and outputs are {names}")

    def run(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(np.asarray(out)) for out in session.run(OUTPUTS, {INPUT: images.numpy()})]

    def features(images: Tensor) -> Features:
        """One picture, then the three others: both must work, whatever batch was traced."""
        cls, patches = zip(run(images[:1]), run(images[1:]), strict=True)
        return Features(torch.cat(cls), torch.cat(patches))

    consumer = Consumer(
        features=features,
        name="onnxruntime",
        distributions=("onnxruntime", "onnx", "onnxscript"),
        mean=backbone.mean,
        std=backbone.std,
        layer_norm_eps=known(backbone.network.vit.layer_norm_eps),
    )
    return compare_features(backbone, consumer, num_tensors=len(model.graph.initializer))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that are not needed here and on torch's own internals."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
