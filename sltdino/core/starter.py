"""The starter weights that come with the package: where they lie, and what they say about themselves."""

from collections.abc import Iterator, Mapping
from importlib.resources import files as package_files
from pathlib import Path
from typing import NamedTuple

from sltdino.core import json_files
from sltdino.core.auto_network import InitialNetwork, contradictions
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_presets import STARTER
from sltdino.errors import MissingInputError, SltDinoError

_AT_RANDOM = ", at random: "
"""In the origin of a preset's `init_from` that gave way, before the reason."""


class Starter(NamedTuple):
    """What the JSON beside the weights says."""

    text: str
    """What messages call them."""
    network: InitialNetwork
    image_size: int
    """Side in pixels of the drawings that they have seen."""


def starter_file() -> Path:
    """The file of the weights.

    Raises:
        MissingInputError: the installation lacks it.
    """
    path = Path(str(package_files("sltdino"))) / "starter" / "starter.pt"
    if not path.is_file():
        raise MissingInputError(f"{path}: the starter weights are not there; install sltdino again")
    return path


def weights_path(path: Path) -> Path:
    """The path itself; that of the starter weights for `starter`, where nothing of that name lies here.

    Raises:
        MissingInputError: as `starter_file`.
    """
    return starter_file() if str(path) == STARTER and not path.exists() else path


def read_starter() -> Starter:
    """What is known about the weights without reading them.

    Raises:
        MissingInputError: the installation lacks them, or what they are cannot be read.
    """
    path = starter_file().with_suffix(".json")
    try:
        said = json_files.read(path)
        network = InitialNetwork(
            name="the starter",
            **{key: said["backbone"][key] for key in ("patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")},
            registers=0,
            layer_scale=0.0,
            layer_norm_eps=said["trained_with"]["layer_norm_eps"],
        )
        text = f"the starter weights of sltdino {said['sltdino']} (drawn hands and faces)"
        image_size = int(said["backbone"]["image_size"])
    except (SltDinoError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__} {error}".rstrip()
        raise MissingInputError(
            f"{path}: does not say what the starter weights are ({reason}); install sltdino again"
        ) from error
    return Starter(text, network, image_size)


def comes_with_preset(settings: PretrainSettings, origins: Mapping[str, str]) -> bool:
    """Whether a preset starts the run from the starter, or would if other settings fitted it; nobody asked for it."""
    return origins.get("init_from", "").partition(_AT_RANDOM)[0] == f"preset {settings.preset}"


def gives_way(settings: PretrainSettings, origins: Mapping[str, str]) -> str:
    """What is added to the origin of `init_from` where a preset asks for the starter and other settings do not fit it;
    else nothing. What a person asked for does not give way.

    Raises:
        MissingInputError: as `read_starter`; it names the way to start without them.
    """
    if settings.init_from != STARTER or not comes_with_preset(settings, origins):
        return ""
    try:
        starter = read_starter()
    except MissingInputError as error:
        raise MissingInputError(f"{error}, or pass --init-from none to start at random") from error
    reason = next(_misfits(settings, starter), "")
    return f"{_AT_RANDOM}{reason}" if reason else ""


def _misfits(settings: PretrainSettings, starter: Starter) -> Iterator[str]:
    """What is against the starter where nobody asked for it."""
    for problem in contradictions(settings, starter.network):
        yield problem.partition(";")[0]
    if settings.vit.weight_init != "auto":
        yield f"--vit-weight-init: {settings.vit.weight_init} is another start"
    if settings.vit.positions != "sincos":
        yield f"--vit-positions: {settings.vit.positions}, and the starter has learned its own from sincos"
    if settings.augmentation.image_size != starter.image_size:
        yield f"--image-size: {settings.augmentation.image_size}, and the starter has seen {starter.image_size} pixels"


def why_at_random(origins: Mapping[str, str]) -> str:
    """Why a run does not start from its preset's starter; empty where it does, or has none."""
    return origins.get("init_from", "").partition(_AT_RANDOM)[2]
