"""Backbones for a translation model: `load_dinov2_backbone` and `load_backbone`, by the names that SLT gives them."""

import logging
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sltdino.core import files
from sltdino.core.settings_presets import STARTER
from sltdino.core.settings_schema import names_source, printable
from sltdino.core.starter import starter_file
from sltdino.errors import CheckpointError, SettingsError
from sltdino.models import library_backbones
from sltdino.models.backbone_specs import BackboneSource, parse_mapping, parse_spec
from sltdino.models.freezing import Freeze, apply_freeze
from sltdino.models.import_architecture import GUESSED_HEADS, SLT_ARCHITECTURES
from sltdino.models.import_layouts import LAYOUTS
from sltdino.models.import_weights import ImportedBackbone, import_backbone
from sltdino.models.normalisation import take_imagenet
from sltdino.models.vit import VisionTransformer

BackboneSpec = str | Mapping[str, Any] | nn.Module | Callable[[], nn.Module]
"""What `load_backbone` takes."""

_log = logging.getLogger(__name__)


def load_dinov2_backbone(
    spec: str,
    *,
    freeze: Freeze = False,
    map_location: str | torch.device | None = None,
    trust_repo: bool = True,
    strict: bool = True,
) -> nn.Module:
    """Load a backbone by SLT's specification of it, in evaluation mode and ready to be trained on.

    ======================================  ========================================================================
    `file::PATH[:MODEL]`, `local::…`        a file of weights, a checkpoint, a run folder or one of Hugging Face;
                                            nothing in it is run
    `hf::REPO[:FILE[:MODEL]]`               a file of a Hugging Face repository; without FILE its model.safetensors,
                                            else its pytorch_model.bin
    `torchhub::[REPO:]MODEL[:MODE]`         what the code of a repository of GitHub (by default facebookresearch/dinov2)
                                            or of a folder builds; MODE is `pretrained` (default) or `random`
    `torchvision::MODEL[:WEIGHTS]`          a ViT of torchvision; WEIGHTS is `default`, `random` or a name of its
    `[REPO:]MODEL[:MODE]`                   torchhub
    ======================================  ========================================================================

    torchhub is the only source that runs code of others: the repository's, with your rights.

    From all sources but torchhub comes our `VisionTransformer`: `forward` gives CLS `[B, D]`, `forward_features` and
    `forward_with_patches` (CLS `[B, D]`, patches `[B, N, D]`), and it has `embed_dim` and `blocks`. Its input is RGB
    under ImageNet's mean and std, as SLT feeds it; where the weights expect another, the difference is folded into the
    patch embedding, exactly. From torchhub comes what the repository builds.

    Args:
        spec: as above; the source is case-insensitive. MODEL of `file::` and `hf::` is checked against what the file
            holds: `slt_vitsmall_patch16` for SLT's layout in any size, `dinov2_vits14`, `vit_small_patch16_224`, ….
        freeze: what not to train; see `sltdino.models.freezing.apply_freeze`.
        map_location: the device to move it to.
        trust_repo: for torchhub, and there for GitHub only: False asks on the terminal before code is fetched and run.
        strict: for files, refuse missing and unexpected names; otherwise what is missing starts at random.

    Warns:
        UserWarning: the number of heads, or what the weights expect of their input, had to be assumed; without
            `strict`, everything that was adapted or left out. Python's logging has all of it in any case, at level
            INFO.

    Raises:
        SettingsError: the text is no specification, its library is not installed, or `freeze` does not fit.
        MissingInputError: there is no such file, or the network or repository does not give it.
        CheckpointError: the file is damaged, or holds another network than MODEL.
        StorageError: it cannot be read.
    """
    backbone = _load(parse_spec(spec), trust_repo=trust_repo, strict=strict)
    return _ready(backbone, freeze=freeze, map_location=map_location)


def load_backbone(
    spec: BackboneSpec,
    *,
    freeze: Freeze = False,
    map_location: str | torch.device | None = None,
    trust_repo: bool = True,
    strict: bool = True,
) -> nn.Module:
    """A backbone from a text (see `load_dinov2_backbone`), a mapping, a module or a function that returns a module.

    A mapping has a `type` and the keys of `sltdino.models.backbone_specs.parse_mapping`; a `freeze` in it wins over the
    argument. A module is used as it is, in its own mode, apart from `freeze` and `map_location`.

    Raises:
        SltDinoError: as `load_dinov2_backbone`; SettingsError also when `spec` is none of these.
    """
    if isinstance(spec, str | Mapping):
        source = parse_spec(spec) if isinstance(spec, str) else parse_mapping(spec)
        if isinstance(spec, Mapping) and spec.get("freeze") is not None:
            freeze = spec["freeze"]
        return _ready(_load(source, trust_repo=trust_repo, strict=strict), freeze=freeze, map_location=map_location)
    made: object = spec if isinstance(spec, nn.Module) else spec() if callable(spec) else spec
    if not isinstance(made, nn.Module):
        raise SettingsError(
            f"backbone: {printable(repr(spec))[:200]} is or gives a {type(made).__name__}; it is a text such as "
            "file::backbone.pt, a mapping, a module, or a function that returns one"
        )
    apply_freeze(made, freeze)
    return made if map_location is None else made.to(map_location)


def import_named(text: str) -> ImportedBackbone:
    """Read the weights that a path, `starter`, `file::PATH[:MODEL]` or `hf::REPO[:FILE[:MODEL]]` names, as they are.

    torchhub and torchvision are refused: they build a network, of which no file would be on record.

    Raises:
        SettingsError: it names another source, or its library is not installed.
        SltDinoError: otherwise as `import_backbone`.
    """
    if text == STARTER:
        return _import(starter_file(), "", strict=True)
    if not names_source(text):
        return _import(Path(text), "", strict=True)
    source = parse_spec(text)
    match source.kind:
        case "file":
            return _import(Path(os.path.expanduser(source.location)), source.model, strict=True)
        case "hf":
            return _import(library_backbones.download_from_hugging_face(source), source.model, strict=True)
    raise SettingsError(
        f"{printable(text)}: {source.kind} builds a network and names no file of weights; name the file, as in "
        "file::PATH or hf::REPO:FILE (torch.hub keeps what it fetched in ~/.cache/torch/hub/checkpoints)"
    )


def _load(source: BackboneSource, *, trust_repo: bool, strict: bool) -> nn.Module:
    match source.kind:
        case "file":
            return _from_file(Path(os.path.expanduser(source.location)), source.model, strict=strict)
        case "hf":
            file = library_backbones.download_from_hugging_face(source)
            return _from_file(file, source.model, strict=strict)
        case "torchvision":
            return _trainable(take_imagenet(*library_backbones.load_from_torchvision(source)))
    return library_backbones.load_from_torch_hub(source, trust_repo=trust_repo)


def _from_file(path: Path, model: str, *, strict: bool) -> VisionTransformer:
    imported = _import(path, model, strict=strict)
    _tell(path, imported, everything=not strict)
    return _trainable(take_imagenet(imported.network, imported.mean, imported.std))


def _import(path: Path, model: str, *, strict: bool) -> ImportedBackbone:
    with files.os_errors(path, reading=True):
        imported = import_backbone(path, architecture=model.lower() or None, strict=strict)
    if model.lower() in SLT_ARCHITECTURES and imported.layout != "slt":
        raise CheckpointError(
            f"{path}: in the layout of {imported.layout}, not in that of {model}, so SLT would not load it under this "
            "name; leave the name out to load it here",
            code="E-WEIGHTS",
        )
    return imported


def _trainable(network: VisionTransformer) -> VisionTransformer:
    network.requires_grad_(True)
    network.mask_token.requires_grad_(False)  # no one hides patches here; unused, it would make DDP wait for it
    return network


def _tell(path: Path, imported: ImportedBackbone, *, everything: bool) -> None:
    for note in imported.notes:
        _log.info("%s: %s", printable(str(path)), printable(note))
    assumptions = (GUESSED_HEADS, *(layout.assumes for layout in LAYOUTS if layout.assumes))
    if told := [printable(note) for note in imported.notes if everything or note.startswith(assumptions)]:
        warnings.warn(f"{printable(str(path))}: {'; '.join(told)}", stacklevel=5)  # where load_… was called


def _ready(backbone: nn.Module, *, freeze: Freeze, map_location: str | torch.device | None) -> nn.Module:
    apply_freeze(backbone, freeze)
    return backbone.eval() if map_location is None else backbone.eval().to(map_location)
