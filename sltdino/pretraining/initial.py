"""The weights a run starts from: read once, at its start; a resumed run has its own."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sltdino.core import files
from sltdino.core.auto_network import InitialNetwork
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_base import known
from sltdino.core.settings_presets import STARTER
from sltdino.core.starter import read_starter, why_at_random
from sltdino.models.import_weights import ImportedBackbone
from sltdino.models.loading import import_named
from sltdino.pretraining.progress import Reporter


class Initial(NamedTuple):
    """Imported weights, and where they come from."""

    imported: ImportedBackbone
    network: InitialNetwork
    record: dict[str, Any]
    """For params.json: `path layout sha256`."""


def read_initial(settings: PretrainSettings) -> Initial | None:
    """What `--init-from` names; None to start at random.

    Raises:
        SltDinoError: as `models.loading.import_named`.
    """
    if settings.init_from is None:
        return None
    imported = import_named(settings.init_from)
    vit, file = imported.network.vit, imported.source
    network = InitialNetwork(
        name="the starter" if settings.init_from == STARTER else file.name,
        patch_size=known(vit.patch_size),
        embed_dim=known(vit.embed_dim),
        depth=known(vit.depth),
        num_heads=known(vit.num_heads),
        mlp_ratio=known(vit.mlp_ratio),
        registers=known(vit.registers),
        layer_scale=known(vit.layer_scale),
        layer_norm_eps=known(vit.layer_norm_eps),
    )
    record = {"path": str(file.absolute()), "layout": imported.layout, "sha256": files.sha256(file)}
    return Initial(imported, network, record)


def initial_network(settings: PretrainSettings) -> InitialNetwork | None:
    """The network of what `--init-from` names, which `auto` values follow; None for a random start.

    Raises:
        SltDinoError: as `models.loading.import_named`.
    """
    initial = read_initial(settings)
    return None if initial is None else initial.network


def start_warning(settings: PretrainSettings) -> str:
    """What the preset starts from and the run does not; empty where nothing is missing."""
    if settings.preset != "signmusketeers" or settings.init_from is not None:
        return ""
    return (
        "preset signmusketeers starts from DINOv2's ViT-S/14 with 4 registers, which does not come with sltdino; this "
        "run starts at random"
    )


def start_text(settings: PretrainSettings, origins: Mapping[str, str]) -> str:
    """Where a new run's weights come from, or why not from its preset's; empty for a random start as it was asked for.

    Raises:
        MissingInputError: as `read_starter`.
    """
    if settings.init_from is not None:
        return f"starts from {read_starter().text if settings.init_from == STARTER else settings.init_from}"
    reason = why_at_random(origins)
    return f"starts at random, not from the starter weights of preset {settings.preset}: {reason}" if reason else ""


def start_name(settings: PretrainSettings) -> str:
    """What messages call the network that a run starts with."""
    return "untrained network" if settings.init_from is None else "initial weights"


def say_start(
    settings: PretrainSettings, origins: Mapping[str, str], adapted: Sequence[str], reporter: Reporter
) -> None:
    """Say where the weights come from, and list what was adapted or left out, once, at the start of a run."""
    if text := start_text(settings, origins):
        reporter.say(f"{text}{':' if adapted else ''}")
    for line in adapted:
        reporter.say(f"  {line}")
    fresh_head = any(line.startswith("head: starts at random") for line in adapted)
    if fresh_head and settings.init_from != STARTER and not settings.optimizer.freeze_backbone_epochs:
        reporter.say("hint: --freeze-backbone-epochs 1 lets the heads settle before the trained weights move")
