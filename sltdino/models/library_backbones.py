"""Backbones that other libraries fetch: huggingface_hub, torch.hub and torchvision, where they are installed."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sltdino.core.foreign_weights import WEIGHTS_OF_FOLDER
from sltdino.core.settings_network import VitSettings
from sltdino.core.settings_schema import printable
from sltdino.errors import CheckpointError, MissingInputError, SettingsError
from sltdino.models.backbone_specs import BackboneSource
from sltdino.models.import_layouts import TORCHVISION, to_our_names
from sltdino.models.normalisation import IMAGENET_MEAN, IMAGENET_STD
from sltdino.models.vit import VisionTransformer

_HF_FACTS = ("config.json", "preprocessor_config.json")


def download_from_hugging_face(source: BackboneSource) -> Path:
    """The file of weights in Hugging Face's cache, fetched when it is not there, and beside it what describes it.

    Raises:
        SettingsError: huggingface_hub is not installed, or the repository's name is no name.
        MissingInputError: there is no such repository or file, or it is not in the cache and the network not there.
    """
    where = f"hf::{printable(source.location)}"
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise SettingsError(f"{where}: needs huggingface_hub ({_reason(error)}): pip install 'sltdino[hf]'") from error
    unreachable = False

    def fetch(name: str) -> Path | None:
        nonlocal unreachable
        try:
            return Path(hf_hub_download(source.location, name, local_files_only=unreachable))
        except LocalEntryNotFoundError:
            unreachable = True  # its retries take half a minute: only the cache is looked at from here on
        except EntryNotFoundError:
            pass
        return None

    wanted = (source.file,) if source.file else WEIGHTS_OF_FOLDER
    try:
        weights = next(filter(None, map(fetch, wanted)), None)
        if weights is not None:
            for name in _HF_FACTS:
                fetch(name)
            return weights
    except HFValidationError as error:
        raise SettingsError(f"{where}: is not the name of a repository ({_reason(error)})") from error
    except OSError as error:
        raise _not_fetched(where, error) from error
    names = " or ".join(map(printable, wanted))
    if unreachable:
        raise MissingInputError(
            f"{where}: {names} is not in the cache, and Hugging Face is out of reach or switched off; check the "
            "name, the network and HF_HUB_OFFLINE"
        )
    raise MissingInputError(f"{where}: has no {names}; name the file as hf::REPO:FILE")


def load_from_torch_hub(source: BackboneSource, *, trust_repo: bool) -> nn.Module:
    """What a repository's own code builds; an existing folder is a repository on this machine.

    Raises:
        MissingInputError: torch.hub cannot fetch the repository, or it has no such model.
        CheckpointError: what it built is no network.
    """
    where = f"torchhub::{printable(source.location)}:{printable(source.model)}"
    folder = os.path.expanduser(source.location)
    is_local = os.path.isdir(folder)
    try:
        network: object = torch.hub.load(  # type: ignore[no-untyped-call]
            folder if is_local else source.location,
            source.model,
            source="local" if is_local else "github",
            trust_repo=trust_repo,
            verbose=False,
            pretrained=source.variant == "pretrained",
        )
    except Exception as error:  # the repository's code can raise anything
        raise MissingInputError(
            f"{where}: torch.hub cannot give it ({type(error).__name__}: {_reason(error)}); check the names and the "
            "network, or name the folder of a clone"
        ) from error
    if not isinstance(network, nn.Module):
        raise CheckpointError(f"{where}: its code gave a {type(network).__name__}, not a network", code="E-WEIGHTS")
    return network


def load_from_torchvision(source: BackboneSource) -> tuple[VisionTransformer, tuple[float, ...], tuple[float, ...]]:
    """A ViT of torchvision as our network, and the mean and std of its weights (ImageNet's when it has none).

    Raises:
        SettingsError: torchvision is not installed, or does not know the model or its weights.
        CheckpointError: it is not a ViT. MissingInputError: the weights cannot be fetched.
    """
    where = f"torchvision::{printable(source.model)}"
    try:
        from torchvision.models import get_model, get_model_weights
    except ImportError as error:
        raise SettingsError(
            f"{where}: needs torchvision 0.14 or newer ({_reason(error)}): pip install torchvision"
        ) from error
    try:
        available = get_model_weights(source.model)
    except ValueError as error:
        raise SettingsError(f"{where}: torchvision has no such model ({_reason(error)})") from error
    weights = _choose_weights(available, source.variant, where)
    try:
        network = get_model(source.model, weights=weights)
    except OSError as error:
        raise _not_fetched(where, error) from error
    if not hasattr(network, "conv_proj") or not hasattr(network, "class_token"):
        raise CheckpointError(
            f"{where}: a {type(network).__name__} has no class token and patches; take one of the vit_* models",
            code="E-WEIGHTS",
        )
    ours = _from_torchvision(network)
    if weights is None:
        return ours, IMAGENET_MEAN, IMAGENET_STD
    preset = weights.transforms()
    return ours, tuple(preset.mean), tuple(preset.std)


def _choose_weights(available: Any, name: str, where: str) -> Any:
    """The member of torchvision's enumeration, in any case and with or without its `_V1`; None for random weights."""
    if name.lower() in ("none", "random"):
        return None
    wanted = "DEFAULT" if name.lower() == "pretrained" else name.upper()
    for candidate in (wanted, f"{wanted}_V1"):
        if candidate in available.__members__:
            return available[candidate]
    names = ", ".join((*available.__members__, "random"))
    raise SettingsError(f"{where}: has no weights {printable(name)!r}; it has {names}")


def _from_torchvision(network: Any) -> VisionTransformer:
    state: dict[str, Tensor] = network.state_dict()
    backbone = {key: value for key, value in state.items() if not key.startswith("heads.")}
    weights = to_our_names(backbone, TORCHVISION, notes=[])
    width = network.hidden_dim
    vit = VitSettings(
        patch_size=network.patch_size,
        embed_dim=width,
        depth=len(network.encoder.layers),
        num_heads=network.encoder.layers[0].num_heads,
        mlp_ratio=network.mlp_dim / width,
        registers=0,
        layer_scale=0.0,
        layer_norm_eps=network.encoder.ln.eps,
        positions="random",
        weight_init="trunc_normal",
    )
    ours = VisionTransformer(vit, image_size=network.image_size)
    ours.load_state_dict({**weights, "mask_token": torch.zeros(1, width)})
    return ours


def _not_fetched(where: str, error: Exception) -> MissingInputError:
    return MissingInputError(f"{where}: cannot be fetched ({_reason(error)}); check its name and the network")


def _reason(error: Exception) -> str:
    return printable((str(error).splitlines() or [""])[0][:200])
