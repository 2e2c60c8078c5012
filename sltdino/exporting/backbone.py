"""The trained backbone of a run, with what a consumer must know about its input."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from sltdino.core.run_files import load_checkpoint, read_names, stored_settings
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_base import known
from sltdino.errors import CheckpointError, MissingInputError, SettingsError
from sltdino.models.vit import VisionTransformer

Which = Literal["last", "best"]


class TrainedBackbone(NamedTuple):
    """The teacher's backbone, in evaluation mode on the CPU in float32."""

    network: VisionTransformer
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """What was subtracted from and divided out of each channel of its input, of values in 0..1."""
    metadata: dict[str, Any]
    """`stream algorithm best_loss epochs global_step backbone` and where the weights come from."""


def load_trained_backbone(source: Path, *, which: Which = "last") -> TrainedBackbone:
    """The teacher's backbone of a run folder or checkpoint file.

    Raises:
        MissingInputError, CheckpointError: there is no such checkpoint, or it is damaged or foreign.
        SettingsError: `which` is best and the source is a file.
    """
    if which == "best" and source.is_file():
        raise SettingsError(f"--which: {source} is one checkpoint; best and last are those of a run folder")
    if which == "best" and source.is_dir() and not (source / read_names(source).best_name).exists():
        raise MissingInputError(
            f"{source}: has no best checkpoint, because no epoch has finished without collapse; "
            "look at sltdino inspect, or take the last one"
        )
    checkpoint = load_checkpoint(source, which=which)
    state = checkpoint.state
    settings = stored_settings(checkpoint)
    network = VisionTransformer(settings.vit, image_size=settings.augmentation.image_size)
    prefix = "backbone."
    weights = {key.removeprefix(prefix): value for key, value in state["teacher"].items() if key.startswith(prefix)}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{checkpoint.path}: its weights do not fit its settings ({error})") from error
    return trained_backbone(network, settings, state["progress"], checkpoint=checkpoint.path)


def trained_backbone(
    network: VisionTransformer, settings: PretrainSettings, progress: dict[str, Any], *, checkpoint: Path
) -> TrainedBackbone:
    """Wrap a network with the metadata of its run."""
    vit, crops = settings.vit, settings.augmentation
    metadata = {
        "stream": settings.stream,
        "algorithm": settings.algorithm,
        "best_loss": progress["best_loss"],
        "epochs": settings.epochs,
        "global_step": progress["global_step"],
        "backbone": {
            "image_size": crops.image_size,
            "patch_size": known(vit.patch_size),
            "embed_dim": known(vit.embed_dim),
            "depth": known(vit.depth),
            "num_heads": known(vit.num_heads),
            "mlp_ratio": known(vit.mlp_ratio),
        },
        "trained_with": {"mean": list(crops.mean), "std": list(crops.std), "layer_norm_eps": known(vit.layer_norm_eps)},
        "checkpoint": checkpoint.name,
    }
    return TrainedBackbone(network.eval().requires_grad_(False), crops.mean, crops.std, metadata)
