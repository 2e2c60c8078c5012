"""The network that a run started from, built once more to compare with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sltdino.core import files
from sltdino.core.rng import fold_in
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_presets import STARTER
from sltdino.core.starter import starter_file
from sltdino.data.image_folder import scan_listed
from sltdino.errors import SettingsError, SltDinoError
from sltdino.models.import_weights import ImportedBackbone, import_backbone
from sltdino.models.initial_weights import start_from
from sltdino.models.vit import VisionTransformer
from sltdino.pretraining.session import build_model, start_weights


class StartingNetwork(NamedTuple):
    """A network before training."""

    network: VisionTransformer
    text: str
    """Which it is, or why it is not the one that the run started from."""


def starting_network(
    settings: PretrainSettings, *, fingerprint: str, initial_weights: Mapping[str, Any] | None
) -> StartingNetwork:
    """The network that a run started from where its images or initial weights are still what they were.

    Else another of its architecture, at random, and why.

    Args:
        fingerprint: of the run's images, as its checkpoint has it.
        initial_weights: `path` and `sha256`, as its params.json has them; None where there is none.
    """
    model = build_model(settings)
    try:
        if settings.init_from is not None:
            imported = _same_weights(initial_weights, starter=settings.init_from == STARTER)
            start_from(model, imported, mean=settings.augmentation.mean, std=settings.augmentation.std)
            return StartingNetwork(model.teacher.backbone, f"the weights the run started from, {imported.source.name}")
        if settings.vit.weight_init != "layout":
            return StartingNetwork(model.teacher.backbone, f"the network the run started from (seed {settings.seed})")
        images = scan_listed(settings.train_dir, settings.dataset.exclude)
        if images.fingerprint != fingerprint:
            raise SettingsError("its images are not those that it started on")
        start_weights(model, settings, images, None)
    except SltDinoError as error:
        text = f"random weights in the run's architecture (seed {settings.seed}), not those it started from: {error}"
        return StartingNetwork(model.teacher.backbone, text)
    text = f"the network the run started from (seed {settings.seed}, calibrated on its images)"
    return StartingNetwork(model.teacher.backbone, text)


def random_network(network: VisionTransformer) -> StartingNetwork:
    """Another network of the same architecture, at random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold_in(0, "untrained"))
        other = VisionTransformer(network.vit, image_size=network.image_size)
    return StartingNetwork(other, "random weights in the same architecture")


def _same_weights(record: Mapping[str, Any] | None, *, starter: bool) -> ImportedBackbone:
    """The weights on record, read from the file they came from, or from this installation's: nothing is fetched."""
    if record is None or not {"path", "sha256"} <= record.keys():
        raise SettingsError("no params.json beside the checkpoint says which file its initial weights came from")
    path = starter_file() if starter else Path(str(record["path"]))
    if not path.is_file():
        raise SettingsError(f"{path} is not there")
    if files.sha256(path) != record["sha256"]:
        raise SettingsError(f"{path} has other content now")
    return import_backbone(path)
