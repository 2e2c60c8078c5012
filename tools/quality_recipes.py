"""The recipes that `quality.py` compares: a name, and the flags of `sltdino pretrain` that it stands for."""

import re
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from sltdino.core.settings_presets import PRESETS
from sltdino.errors import SettingsError

_LAPTOP_VIT, _LAPTOP_CROPS = PRESETS["laptop"]["vit"], PRESETS["laptop"]["augmentation"]
_LAPTOP_SIZE = (
    "--image-size", str(_LAPTOP_CROPS["image_size"]), "--local-crop-size", "auto", "--batch-size", "32",
    "--patch-size", str(_LAPTOP_VIT["patch_size"]), "--vit-embed-dim", str(_LAPTOP_VIT["embed_dim"]),
    "--vit-depth", str(_LAPTOP_VIT["depth"]), "--vit-num-heads", str(_LAPTOP_VIT["num_heads"]),
    "--out-dim", "1024", "--head-hidden-dim", "auto",
)  # fmt: skip
"""Network, pixels, batch and heads of `--preset laptop`: two cores make about one image a second of the papers'."""

_SCRATCH = ("--preset", "laptop", "--init-from", "none")

RECIPES: dict[str, tuple[str, ...]] = {
    "laptop": ("--preset", "laptop"),
    "laptop-ibot": ("--preset", "laptop", "--algorithm", "ibot"),
    "laptop-dinov2": ("--preset", "laptop", "--algorithm", "dinov2"),
    "dino": ("--preset", "dino", *_LAPTOP_SIZE),
    "ibot": ("--preset", "ibot", *_LAPTOP_SIZE),
    "dinov2": ("--preset", "dinov2", *_LAPTOP_SIZE, "--patch-out-dim", "1024"),
    "scratch": _SCRATCH,
    # scratch with one thing changed: what each is worth
    **{
        f"scratch-{name}": (*_SCRATCH, *flags.split())
        for name, flags in {
            "ibot": "--algorithm ibot",
            "dinov2": "--algorithm dinov2",
            "xavier": "--vit-weight-init xavier",
            "nokoleo": "--koleo-weight 0",
            "koleo.02": "--koleo-weight 0.02",
            "center": "--no-use-sinkhorn",
            "nobatchnorm": "--no-head-batch-norm",
            "prototypes256": "--out-dim 256",
            "solarize": "--aug-solarize-prob dino",
            "noturn": "--aug-rotation 0",
            "nolight": "--aug-light 0",
            "nocolour": "--aug-color-jitter-prob 0 --aug-grayscale-prob 0",
            "local4": "--num-local-crops 4",
            "batch64": "--batch-size 64",
            "lr.001": "--learning-rate 1e-3",
            "droppath.1": "--vit-drop-path 0.1",
            "layerdecay.75": "--layer-decay 0.75",
            "depth6": "--vit-depth 6",
            "width128": "--vit-embed-dim 128 --vit-num-heads 4",
            "patch8": "--patch-size 8 --vit-num-heads 12",
        }.items()
    },
}
"""Of training. `laptop` starts from the starter weights, `scratch` is the same without them; the papers' differ from
scratch in everything but the size."""

BASELINES = {
    "untrained": (_SCRATCH, "untrained"),
    "starter": (RECIPES["laptop"], "untrained"),
    "raw-pixels": (_SCRATCH, "raw pixels"),
}
"""What is not trained: the network that scratch or laptop starts as, and no network. Flags of a run, and which of the
rows that `sltdino evaluate` makes of it."""

_OF_THE_STUDY = (
    "--train-dir", "--val-dir", "--output-dir", "--seed", "--epochs", "--pseudo-epochs", "--train-minutes", "--resume",
    "--overwrite", "--dry-run", "--print-config", "--json", "--exclude",
)  # fmt: skip


class Recipe(NamedTuple):
    """A row of the comparison."""

    name: str
    flags: tuple[str, ...]
    judged: str = "trained"
    """Which features are: `trained`, or those of a baseline."""

    @property
    def is_trained(self) -> bool:
        """Whether it has a budget; a baseline has none."""
        return self.judged == "trained"


def recipes_of(names: Sequence[str], own: Sequence[str] = ()) -> list[Recipe]:
    """The recipes of those names, then the user's own, each once.

    Args:
        own: `NAME=--flag value ...`.

    Raises:
        SettingsError: there is no such recipe, or what an own one says cannot be.
    """
    found = {}
    for name in names:
        if name in BASELINES:
            found[name] = Recipe(name, *BASELINES[name])
        elif name in RECIPES:
            found[name] = Recipe(name, RECIPES[name])
        else:
            known = ", ".join([*RECIPES, *BASELINES])
            raise SettingsError(
                f"--recipes: no recipe {name!r}; choose of {known}, or add --recipe {name}='--flag ...'"
            )
    for text in own:
        recipe = _own(text)
        if recipe.name in found:
            raise SettingsError(f"--recipe: {recipe.name!r} is there twice; choose another name")
        found[recipe.name] = recipe
    for recipe in found.values():
        _refuse_absent_preset(recipe)
    return list(found.values())


def _own(text: str) -> Recipe:
    name, is_given, words = text.partition("=")
    if not is_given or not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise SettingsError(
            f"--recipe: write NAME='--flag value ...', with a name of letters, digits, '.', '_' and '-' (got {text!r})"
        )
    if name in RECIPES or name in BASELINES:
        raise SettingsError(f"--recipe: {name!r} is a recipe of ours; choose another name")
    try:
        flags = tuple(shlex.split(words))
    except ValueError as error:
        raise SettingsError(f"--recipe {name}: {error} in {words!r}; quote it for a shell") from error
    if taken := [flag for flag in flags if flag.partition("=")[0] in _OF_THE_STUDY]:
        raise SettingsError(f"--recipe {name}: {', '.join(taken)} is for the study to say; leave it out")
    return Recipe(name, flags)


def _refuse_absent_preset(recipe: Recipe) -> None:
    """Say it before anything runs, and not once for every run."""
    for flag, value in zip(recipe.flags, recipe.flags[1:], strict=False):
        if flag == "--preset" and value not in PRESETS:
            raise SettingsError(f"--recipe {recipe.name}: no --preset {value}; there are {', '.join(PRESETS)}")
