"""Public weights as our network: DINO, iBOT, DINOv2, timm, Hugging Face, SLT, and what this software wrote."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sltdino.core import checkpoint, foreign_weights
from sltdino.core.foreign_weights import WeightsFile
from sltdino.core.rng import fold_in
from sltdino.core.run_files import PARAMS, LoadedCheckpoint, load_checkpoint
from sltdino.errors import CheckpointError
from sltdino.models.import_architecture import Inferred, check_architecture, infer_vit
from sltdino.models.import_facts import OUR_HEADER, find_facts
from sltdino.models.import_heads import find_heads
from sltdino.models.import_layouts import LEFT_OUT, OUR_NAMES, REFUSED, Layout, Weights, recognise, to_our_names
from sltdino.models.import_state_dict import FoundNetwork, find_network
from sltdino.models.normalisation import Triple
from sltdino.models.stored_network import stored_network
from sltdino.models.vit import VisionTransformer

OWN = "sltdino-checkpoint"
_SHOWN = 5
_MASK_TOKEN = "mask_token"
"""Only hidden patches need it, and most programs never hide any."""


class ImportedBackbone(NamedTuple):
    """A network with public weights, in evaluation mode, in float32 on the CPU, without gradients."""

    network: VisionTransformer
    layout: str
    """The row of `import_layouts.LAYOUTS` that the file's names belong to, or `sltdino-checkpoint`."""
    mean: Triple
    std: Triple
    """What the weights expect to be subtracted from and divided out of each channel, of values in 0..1."""
    heads: dict[str, dict[str, Tensor]]
    """Projection heads of the file under the names of `PrototypeHead`: `head`, and `patch_head` where it is another."""
    metadata: dict[str, Any]
    """What the file says about itself."""
    notes: tuple[str, ...]
    """Everything that was adapted, assumed or left out, a line each."""
    weights_only_safe: bool
    """Whether the file holds data only; if not, what else it holds is named in the notes and was passed over."""
    source: Path
    """The file that was read."""


def import_backbone(path: Path, *, architecture: str | None = None, strict: bool = True) -> ImportedBackbone:
    """Read the backbone in a file of weights, a checkpoint, a run folder or a folder of Hugging Face.

    Nothing in a file is run. The teacher is taken where there is one.

    Args:
        architecture: a public name (`dinov2_vits14`, `vit_small_patch16_224`, …) that the weights must fit.
        strict: refuse weights with a name too few or too many; else they are listed in the notes, and what is missing
            starts at random.

    Raises:
        MissingInputError: there is no such file. StorageError: it cannot be read.
        CheckpointError: it is damaged, or not a network that ours can be.
        SettingsError: there is no such architecture.
    """
    imported = _import(path, strict=strict)
    if architecture is not None:
        check_architecture(path, architecture, imported.network.vit)
    return imported


def _import(path: Path, *, strict: bool) -> ImportedBackbone:
    if path.is_dir() and (path / PARAMS).exists():
        return _own(load_checkpoint(path))
    file = foreign_weights.read(path)
    if file.content.get("format") == checkpoint.FORMAT:
        return _own(load_checkpoint(file.path))  # once more, but through its checks and migrations
    return _foreign(file, strict=strict)


def _own(loaded: LoadedCheckpoint) -> ImportedBackbone:
    stored = stored_network(loaded)
    settings = stored.settings
    return ImportedBackbone(
        stored.backbone.eval().requires_grad_(False),
        OWN,
        settings.augmentation.mean,
        settings.augmentation.std,
        stored.heads,
        {"stream": settings.stream, "algorithm": settings.algorithm, "global_step": stored.progress["global_step"]},
        ("taken: the teacher; left out: student, optimizer and centers",),
        weights_only_safe=True,
        source=loaded.path,
    )


def _foreign(file: WeightsFile, *, strict: bool) -> ImportedBackbone:
    notes = [f"passed over, because it is no data: {_few(file.placeholders)}"] if file.placeholders else []
    found = find_network(file)
    layout = OUR_NAMES if OUR_HEADER in file.header else recognise(found.backbone)
    if layout is None:
        names = ", ".join(list(found.backbone)[:_SHOWN])
        raise _error(file.path, f"of no known layout; its weights are called {names} …")
    notes += found.notes
    heads = find_heads({**found.beside, **found.backbone})
    notes += heads.notes
    try:
        weights = to_our_names(_backbone_alone(file.path, found, heads.used, notes), layout, notes)
    except (ValueError, RuntimeError) as error:  # torch's, where shapes do not go together
        raise _error(file.path, f"{error}; use another copy of it") from error
    depth = len({key.split(".")[1] for key in weights if key.startswith("blocks.")})
    facts = find_facts(file, layout, width=found.width, depth=depth, notes=notes)
    inferred = infer_vit(file.path, weights, layout, facts=facts, notes=notes)
    network = _load(file.path, inferred, weights, layout, strict=strict, notes=notes)
    notes += [layout.remark] if layout.remark else []
    notes += [layout.assumes] if layout.assumes and facts.mean is None else []
    if facts.layer_norm_eps is None:
        notes.append(f"LayerNorm: epsilon {layout.layer_norm_eps:g}, which {layout.name} computes with")
    mean, std = layout.normalisation
    return ImportedBackbone(
        network.eval().requires_grad_(False),
        layout.name,
        facts.mean or mean,
        facts.std or std,
        heads.heads,
        facts.metadata,
        tuple(notes),
        file.weights_only_safe,
        file.path,
    )


def _backbone_alone(path: Path, found: FoundNetwork, heads: set[str], notes: list[str]) -> Weights:
    """The backbone's weights without heads and classifiers; what makes it another network is an error."""
    left_out: dict[str, None] = {}
    kept: Weights = {}
    for key, value in found.backbone.items():
        for pattern, reason in REFUSED:
            if re.search(pattern, key):
                raise _error(path, f"has {reason} ({key})")
        reason = next((reason for pattern, reason in LEFT_OUT if re.search(pattern, key)), "")
        if reason:
            left_out[f"{reason} ({key.rpartition('.')[0]})"] = None
        elif key not in heads:
            kept[key] = value
    beside = dict.fromkeys(key.partition(".")[0] for key in found.beside if key not in heads)
    left_out |= {f"{_few(list(beside))}, beside the backbone": None} if beside else {}
    notes += [f"left out: {what}" for what in left_out]
    return kept


def _build(inferred: Inferred) -> VisionTransformer:
    """A network without numbers: assigning real ones costs neither time nor memory for others."""
    with torch.device("meta"):
        return VisionTransformer(inferred.vit, image_size=inferred.image_size)


def _load(
    path: Path, inferred: Inferred, weights: Weights, layout: Layout, *, strict: bool, notes: list[str]
) -> VisionTransformer:
    network = _build(inferred)
    expected = {key: value.shape for key, value in network.state_dict().items()}
    misshapen = [key for key in weights if key in expected and weights[key].shape != expected[key]]
    if misshapen:
        key = misshapen[0]
        raise _error(path, f"{key} is {list(weights[key].shape)} where {layout.name} has {list(expected[key])}")
    missing = [key for key in expected if key not in weights and key != _MASK_TOKEN]
    unexpected = [key for key in weights if key not in expected]
    if _MASK_TOKEN not in weights:
        weights[_MASK_TOKEN] = torch.zeros(expected[_MASK_TOKEN])
        notes.append("mask token: none in the file, so it starts at zero")
    problems = [f"{kind} {_few(keys)}" for kind, keys in (("missing", missing), ("unexpected", unexpected)) if keys]
    if problems and strict:
        raise _error(path, f"not all of its names are those of {layout.name}: {'; '.join(problems)}")
    notes += problems
    if missing:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fold_in(0, "missing weights"))
            fresh = VisionTransformer(inferred.vit, image_size=inferred.image_size).state_dict()
        weights |= {key: fresh[key] for key in missing}
    network.load_state_dict({key: weights[key] for key in expected}, assign=True)
    return network


def _few(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{', '.join(keys[:_SHOWN])}{more}"


def _error(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: {reason}", code="E-WEIGHTS")
