"""params.json: what a run is and what reproduces it, in the layout that SLT's tools read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sltdino.core import json_files
from sltdino.core.environment import environment
from sltdino.core.settings import PretrainSettings
from sltdino.data.image_folder import ImageFolder


def run_params(
    settings: PretrainSettings,
    images: ImageFolder,
    *,
    output_dir: Path,
    origins: Mapping[str, str],
    config_files: Sequence[str],
    total_steps: int,
) -> dict[str, Any]:
    """The keys of the old scripts with their meaning, then the complete settings and where each value came from."""
    values = settings.model_dump(mode="json")
    crops, vit, optimizer, names = (values[key] for key in ("augmentation", "vit", "optimizer", "checkpointing"))
    experiment = {key: value for key, value in values["experiment"].items() if value}
    optional = {
        "experiment": experiment,
        "config_file": list(config_files),
        "resume": settings.resume_from,
        "export_backbone": values["export_backbone"],
    }
    return {
        "algorithm": settings.algorithm,
        "stream": settings.stream,
        "train_dirs": values["train_dir"],
        "output_dir": str(output_dir.absolute()),
        "epochs": settings.epochs,
        "seed": settings.seed,
        "optimizer": {key: optimizer[key] for key in ("learning_rate", "weight_decay", "warmup_epochs")},
        "teacher_momentum": {"base": optimizer["teacher_momentum_base"], "final": optimizer["teacher_momentum_final"]},
        "dataset": values["dataset"],
        "augmentation": crops,
        "backbone": {"image_size": crops["image_size"], **{key: vit[key] for key in _BACKBONE}},
        "checkpointing": {
            "best": names["best_name"],
            "last": names["last_name"],
            "history_file": names["history_file"],
        },
        **{key: value for key, value in optional.items() if value},
        "timestamp": json_files.now(),
        "total_steps": total_steps,
        "images": _images(images),
        "settings": values,
        "origins": dict(origins),
        "environment": environment(),
    }


def _images(images: ImageFolder) -> dict[str, Any]:
    facts = {"count": len(images), "fingerprint": images.fingerprint, "other_formats": images.other_formats}
    if images.excluded is None:
        return facts
    path, sha256, number, unmatched = images.excluded
    return {**facts, "excluded": {"list": str(path), "sha256": sha256, "count": number, "unmatched": len(unmatched)}}


_BACKBONE = ("patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")
