"""The trained backbone of a run, with what a consumer must know about its input."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from sltdino.core.best_epoch import why_none
from sltdino.core.json_files import data
from sltdino.core.run_files import PARAMS, LoadedCheckpoint, load_checkpoint, read_metrics, read_names
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_base import known
from sltdino.core.settings_network import VitSettings
from sltdino.core.starter import weights_path
from sltdino.errors import CheckpointError, MissingInputError, SettingsError, SltDinoError
from sltdino.models.import_weights import import_backbone
from sltdino.models.stored_network import stored_network
from sltdino.models.vit import VisionTransformer

Which = Literal["last", "best"]
_NOT_OURS = {"E-CKPT-FOREIGN", "E-CKPT-LEGACY", "E-CKPT-UNSAFE"}
"""Codes of files that may hold a backbone all the same, written by others."""


class TrainedBackbone(NamedTuple):
    """The backbone of a teacher or student, in evaluation mode on the CPU in float32."""

    network: VisionTransformer
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """What was subtracted from and divided out of each channel of its input, of values in 0..1."""
    metadata: dict[str, Any]
    """`stream algorithm best_loss epochs global_step backbone` and where the weights come from."""


def load_trained_backbone(source: Path, *, which: Which = "last", student: bool = False) -> TrainedBackbone:
    """The teacher's backbone of a run or checkpoint, or the student's; or one that others wrote; or `starter`'s.

    Raises:
        MissingInputError, CheckpointError: there is no such checkpoint, it is damaged, or no network that ours can be.
        SettingsError: `which` is best and the source is a file.
    """
    source = weights_path(source)
    if which == "best" and source.is_file():
        raise SettingsError(f"--which: {source} is one checkpoint; best and last are those of a run folder")
    if which == "best" and source.is_dir():
        _refuse_without_best(source)
    try:
        checkpoint = load_checkpoint(source, which=which)
    except (CheckpointError, MissingInputError) as error:
        if not _may_be_foreign(source, error):
            raise
        if student:
            raise SettingsError(f"--student: {source} is no checkpoint of a run, so it has no student") from error
        return _imported(source)
    return _of_checkpoint(checkpoint, student=student)


def _refuse_without_best(run: Path) -> None:
    names = read_names(run)
    if (run / names.best_name).exists():
        return
    why = why_none(read_metrics(run, names.history_file))
    raise MissingInputError(
        f"{run}: has no best checkpoint, because {why}; look at sltdino inspect, or take the last one"
    )


def trained_backbone(
    network: VisionTransformer,
    settings: PretrainSettings,
    progress: dict[str, Any],
    *,
    checkpoint: Path,
    student: bool = False,
) -> TrainedBackbone:
    """Wrap a network with the metadata of its run."""
    crops = settings.augmentation
    metadata = {
        "stream": settings.stream,
        "algorithm": settings.algorithm,
        "best_loss": data(progress["best_loss"]),
        "epochs": settings.epochs,
        "global_step": progress["global_step"],
        "backbone": network_shape(network),
        "trained_with": {
            "mean": list(crops.mean), "std": list(crops.std), "layer_norm_eps": known(network.vit.layer_norm_eps),
        },
        "checkpoint": checkpoint.name,
        "network": "student" if student else "teacher",
    }  # fmt: skip
    return TrainedBackbone(network.eval().requires_grad_(False), crops.mean, crops.std, metadata)


def network_shape(network: VisionTransformer) -> dict[str, Any]:
    """`metadata.backbone` of an export: what SLT's loader builds its network from."""
    vit = network.vit
    return {
        "image_size": network.image_size,
        "patch_size": known(vit.patch_size),
        "embed_dim": known(vit.embed_dim),
        "depth": known(vit.depth),
        "num_heads": known(vit.num_heads),
        "mlp_ratio": known(vit.mlp_ratio),
    }


def at_image_size(backbone: TrainedBackbone, image_size: int) -> TrainedBackbone:
    """The backbone with the positions for images of another size stored, as it interpolates them itself.

    Raises:
        SettingsError: the size is not a multiple of the patch.
    """
    network, patch_size = backbone.network, known(backbone.network.vit.patch_size)
    if image_size <= 0 or image_size % patch_size:
        raise SettingsError(f"--image-size: {image_size} is not a multiple of the patch size {patch_size}")
    resized = _fresh(network.vit, image_size)
    positions = network.positions(resized.grid_size, resized.grid_size)
    resized.load_state_dict({**network.state_dict(), "pos_embed": positions.detach()})
    metadata = {**backbone.metadata, "backbone": network_shape(resized)}
    if image_size != network.image_size:
        metadata["positions_resampled_from"] = network.image_size
    return backbone._replace(network=resized.eval().requires_grad_(False), metadata=metadata)


def _of_checkpoint(checkpoint: LoadedCheckpoint, *, student: bool) -> TrainedBackbone:
    stored = stored_network(checkpoint, "student" if student else "teacher")
    return trained_backbone(
        stored.backbone, stored.settings, stored.progress, checkpoint=checkpoint.path, student=student
    )


def _fresh(vit: VitSettings, image_size: int) -> VisionTransformer:
    """A network to load weights into, which leaves the caller's random numbers where they are."""
    with torch.random.fork_rng(devices=[]):
        return VisionTransformer(vit, image_size=image_size)


def _may_be_foreign(source: Path, error: SltDinoError) -> bool:
    """Whether a backbone of others may be there, in a file or a folder, rather than a run or checkpoint of ours."""
    if source.is_dir():
        return not (source / PARAMS).exists()
    return error.code in _NOT_OURS


def _imported(source: Path) -> TrainedBackbone:
    """A backbone that others wrote."""
    imported = import_backbone(source)
    vit = imported.network.vit
    metadata = {
        **data(imported.metadata),  # it may hold anything, and what is written here is strict JSON
        "backbone": network_shape(imported.network),
        "trained_with": {
            "mean": list(imported.mean), "std": list(imported.std), "layer_norm_eps": known(vit.layer_norm_eps),
        },
        "checkpoint": imported.source.name,
        "layout": imported.layout,
        "notes": list(imported.notes),
    }  # fmt: skip
    return TrainedBackbone(imported.network, imported.mean, imported.std, metadata)
