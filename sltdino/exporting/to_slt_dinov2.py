"""For today's SLT, `load_dinov2_backbone("file::PATH:dinov2_vits14")`, which builds DINOv2's ViT-S/14 of 518 px.

Its positions lie on a 37 x 37 grid, from which it samples those of any other input. Ours are lifted there so that what
it samples at the training resolution is exactly what was trained.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sltdino.core.settings_base import known
from sltdino.errors import SettingsError
from sltdino.exporting.backbone import TrainedBackbone
from sltdino.exporting.dinov2_network import (
    DEPTH,
    GRID_SIZE,
    MLP_RATIO,
    NUM_HEADS,
    PATCH_SIZE,
    WIDTH,
    Dinov2Network,
    sample_positions,
)
from sltdino.exporting.folding import float_weights
from sltdino.exporting.outputs import ExportReport, write_file
from sltdino.exporting.reference_block import REFERENCE_EPS
from sltdino.exporting.to_slt import slt_payload, slt_recipe
from sltdino.exporting.verify import Consumer, Proof, compare_features, load_strictly, other_grids
from sltdino.models.normalisation import IMAGENET_MEAN, IMAGENET_STD, fold_normalisation


def write(backbone: TrainedBackbone, path: Path) -> ExportReport:
    """Write `path` (`{"model": …, "metadata": …}`) and its metadata as JSON beside it, after proving the file.

    Raises:
        SettingsError: the backbone is not of DINOv2's ViT-S/14 shape, has registers, or more positions than 37 x 37.
        CheckpointError: what was written does not compute the same features.
    """
    _refuse_other_shapes(backbone)
    model = dinov2_state_dict(backbone)
    return write_file(
        backbone,
        path,
        slt_recipe("slt-dinov2", backbone, path, model="dinov2_vits14"),
        save=lambda file: torch.save(slt_payload(backbone, model), file),
        check=lambda written: _check(backbone, written),
    )


def dinov2_state_dict(backbone: TrainedBackbone) -> dict[str, Tensor]:
    """The weights under DINOv2's 175 keys, float32 and contiguous, for input under ImageNet's mean and std."""
    weights = float_weights(backbone)
    fold_normalisation(weights, fed=(IMAGENET_MEAN, IMAGENET_STD), expected=(backbone.mean, backbone.std))
    weights["pos_embed"] = lift_positions(weights["pos_embed"], backbone.network.grid_size)
    for block in range(DEPTH):
        for scale in ("ls1", "ls2"):
            weights.setdefault(f"blocks.{block}.{scale}.gamma", torch.ones(WIDTH))
    return weights


def lift_positions(pos_embed_1LD: Tensor, grid: int) -> Tensor:
    """`[1, 1 + grid², D]` to `[1, 1 + 37², D]`, from which DINOv2 samples the given ones at `grid`.

    Its sampling is a linear map A of full row rank, so `up(g) + A⁺(g − A·up(g))` is exact there; `up`, plain bicubic
    upsampling, keeps it smooth at other sizes, where the bare pseudo-inverse is far off. A is separable: one matrix an
    axis.
    """
    if grid == GRID_SIZE:
        return pos_embed_1LD.clone()
    grid_1DRC = pos_embed_1LD[:, 1:].double().transpose(1, 2).reshape(1, -1, grid, grid)
    raised = F.interpolate(grid_1DRC, size=(GRID_SIZE, GRID_SIZE), mode="bicubic", align_corners=False)
    inverse = torch.linalg.pinv(_sampling_matrix(grid))
    missing = grid_1DRC - sample_positions(raised, grid, grid)
    lifted = raised + inverse @ missing @ inverse.T
    return torch.cat([pos_embed_1LD[:, :1].double(), lifted.flatten(2).transpose(1, 2)], dim=1).float().contiguous()


def _sampling_matrix(grid: int) -> Tensor:
    """DINOv2's sampling along one axis, `[grid, 37]`: of unit vectors that do not vary along the other axis."""
    units = torch.eye(GRID_SIZE, dtype=torch.float64)[:, None, :, None].expand(-1, 1, -1, GRID_SIZE)
    return sample_positions(units, grid, grid)[:, 0, :, 0].T


def _refuse_other_shapes(backbone: TrainedBackbone) -> None:
    vit = backbone.network.vit
    wanted = {
        "--patch-size": (known(vit.patch_size), PATCH_SIZE),
        "--vit-embed-dim": (known(vit.embed_dim), WIDTH),
        "--vit-depth": (known(vit.depth), DEPTH),
        "--vit-num-heads": (known(vit.num_heads), NUM_HEADS),
        "--vit-mlp-ratio": (known(vit.mlp_ratio), MLP_RATIO),
        "--vit-registers": (known(vit.registers), 0),
    }
    problems = [f"{flag} {is_}, not {needed}" for flag, (is_, needed) in wanted.items() if is_ != needed]
    if problems:
        raise SettingsError(
            f"--format slt-dinov2: builds DINOv2's ViT-S/14, and this backbone has {', '.join(problems)}; "
            "export it with --format slt, or train one of that shape"
        )
    if backbone.network.grid_size > GRID_SIZE:
        raise SettingsError(
            f"--format slt-dinov2: DINOv2 holds {GRID_SIZE} x {GRID_SIZE} positions, and this backbone has "
            f"{backbone.network.grid_size} a side; give --image-size {GRID_SIZE * PATCH_SIZE} or less"
        )


def _check(backbone: TrainedBackbone, path: Path) -> Proof:
    payload: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    network = Dinov2Network().eval()
    load_strictly(network, payload["model"], consumer="DINOv2's ViT-S/14")
    consumer = Consumer(
        features=network.forward_features,
        name="our own forward of DINOv2's ViT-S/14",
        distributions=(),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        layer_norm_eps=REFERENCE_EPS,
        grids=other_grids(backbone.network),
    )
    return compare_features(backbone, consumer, num_tensors=len(payload["model"]))
