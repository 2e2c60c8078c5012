"""Which parameters of a backbone stay as they are: SLT's `freeze` argument."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from sltdino.core.settings_schema import printable
from sltdino.errors import SettingsError

Freeze = bool | int | str | Iterable[str] | Mapping[str, Any]
"""See `apply_freeze`."""

_EMBEDDINGS = (
    "patch_embed", "patch_embedding", "stem", "pos_embed", "position_embedding", "cls_token", "class_token",
    "reg_token", "register_tokens",
)  # fmt: skip
_HEADS = ("head", "mlp_head", "linear_head", "classifier")


def apply_freeze(network: nn.Module, freeze: Freeze) -> None:
    """Clear `requires_grad` of the parameters that `freeze` names; the others stay as they are.

    * True: every parameter. False: none.
    * A number N: the first N of `network.blocks`.
    * A text: directives separated by `,` or `;`, each one of `all`, `full` or `backbone`; `embed`, `patch` or
      `patch_embed` (patch embedding, positions, CLS and register tokens); `head` or `classifier`; `blocks[:N]`; or the
      name of a parameter or module.
    * A list of names of parameters or modules.
    * A mapping: `all`, `full`, `backbone`, `patch_embed` and `head` with True or False, `blocks` with a number, and
      `modules` or `layers`, `prefixes` or `parameters`, `names` (of parameters only), `exclude` or `unfreeze` (which
      train after all), each with a name or a list of names.

    A name stands for itself and what lies below it: `blocks.1` is the second block, not also the eleventh. One that
    nothing has is the beginning of names, as in SLT: `blocks.0.norm` is both norms of the first block.

    Raises:
        SettingsError: a directive, key or name means nothing for this network, or it has too few blocks.
    """
    match freeze:
        case bool():
            if freeze:
                _freeze_everything(network)
        case int():
            _freeze_blocks(network, freeze)
        case str():
            for directive in filter(None, (part.strip() for part in re.split("[,;]", freeze))):
                _freeze_directive(network, directive)
        case Mapping():
            _freeze_mapping(network, freeze)
        case _:
            for name in _names(freeze, "freeze"):
                _freeze(_parameters(network, name))


def is_frozen(network: nn.Module) -> bool:
    """Whether nothing in it learns."""
    return not any(parameter.requires_grad for parameter in network.parameters())


def _freeze_everything(network: nn.Module) -> None:
    network.requires_grad_(False)


def _freeze_embeddings(network: nn.Module) -> None:
    if not _freeze_attributes(network, _EMBEDDINGS):
        raise SettingsError(f"freeze: a {type(network).__name__} has no patch_embed to freeze; name its parameters")


def _freeze_head(network: nn.Module) -> None:
    """A backbone without a head, as ours, is already what was asked for."""
    _freeze_attributes(network, _HEADS)


_DIRECTIVES: dict[str, Callable[[nn.Module], None]] = {
    **dict.fromkeys(("all", "full", "backbone"), _freeze_everything),
    **dict.fromkeys(("embed", "patch", "patch_embed"), _freeze_embeddings),
    **dict.fromkeys(("head", "classifier"), _freeze_head),
}


def _freeze_directive(network: nn.Module, directive: str) -> None:
    if directive.lower() in _DIRECTIVES:
        _DIRECTIVES[directive.lower()](network)
    elif directive.startswith("blocks["):
        if (count := re.fullmatch(r"blocks\[:(\d+)\]", directive)) is None:
            raise SettingsError(f"freeze: {printable(directive)!r} is not blocks[:N] with a whole number N")
        _freeze_blocks(network, int(count[1]))
    else:
        _freeze(_parameters(network, directive))


def _freeze_mapping(network: nn.Module, freeze: Mapping[str, Any]) -> None:
    keys = [*_SWITCHES, "blocks", *_NAMED, *_TRAINS_AFTER_ALL]
    if unknown := [key for key in freeze if key not in keys]:
        raise SettingsError(f"freeze: unknown key {printable(str(unknown[0]))!r}; the keys are {', '.join(keys)}")
    for key in filter(freeze.__contains__, _SWITCHES):
        if not isinstance(freeze[key], bool):
            raise SettingsError(f"freeze: {key} is True or False, not {printable(repr(freeze[key]))}")
        if freeze[key]:
            _DIRECTIVES[key](network)
    _freeze_blocks(network, freeze.get("blocks", 0))
    for key, find in _NAMED.items():
        for name in _names(freeze.get(key, ()), f"freeze: {key}"):
            _freeze(find(network, name))
    for key in _TRAINS_AFTER_ALL:
        for name in _names(freeze.get(key, ()), f"freeze: {key}"):
            for parameter in _parameters(network, name):
                parameter.requires_grad_(True)


def _freeze_blocks(network: nn.Module, count: object) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise SettingsError(f"freeze: the number of blocks is a whole number from 0, not {printable(repr(count))}")
    if count == 0:
        return
    blocks = getattr(network, "blocks", None)
    if not isinstance(blocks, nn.ModuleList | nn.Sequential):
        raise SettingsError(f"freeze: a {type(network).__name__} has no list of blocks; name its parameters instead")
    if count > len(blocks):
        raise SettingsError(f"freeze: {count} blocks are to be frozen and the backbone has {len(blocks)}")
    for index in range(count):
        blocks[index].requires_grad_(False)


def _freeze_attributes(network: nn.Module, names: Iterable[str]) -> bool:
    found = [value for name in names if isinstance(value := getattr(network, name, None), nn.Module | Tensor)]
    for value in found:
        value.requires_grad_(False)
    return bool(found)


def _freeze(parameters: Iterable[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.requires_grad_(False)


def _parameters(network: nn.Module, name: str) -> list[nn.Parameter]:
    """The parameter of that name and those below it, else those whose names begin with it."""
    stem = name.rstrip(".")
    parameters = list(network.named_parameters())
    found = [value for key, value in parameters if f"{key}.".startswith(f"{stem}.")]
    found = found or [value for key, value in parameters if key.startswith(name)]
    if not found:
        raise _nothing_called(network, name, "parameter or module with parameters")
    return found


def _modules(network: nn.Module, name: str) -> list[nn.Parameter]:
    modules = dict(network.named_modules())
    if name not in modules:
        raise _nothing_called(network, name, "module")
    return list(modules[name].parameters())


def _exactly(network: nn.Module, name: str) -> list[nn.Parameter]:
    parameters = dict(network.named_parameters())
    if name not in parameters:
        raise _nothing_called(network, name, "parameter")
    return [parameters[name]]


def _names(value: object, where: str) -> list[str]:
    names = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
    if wrong := [name for name in names if not isinstance(name, str) or not name]:
        raise SettingsError(f"{where}: {printable(repr(wrong[0]))} is not a name in the backbone")
    return [str(name) for name in names]


def _nothing_called(network: nn.Module, name: str, kind: str) -> SettingsError:
    top = ", ".join(dict.fromkeys(key.split(".")[0] for key, _ in network.named_parameters()))
    return SettingsError(f"freeze: the backbone has no {kind} called {printable(name)!r}; it has {top}")


_SWITCHES = ("all", "full", "backbone", "patch_embed", "head")
_NAMED: dict[str, Callable[[nn.Module, str], list[nn.Parameter]]] = {
    "modules": _modules, "layers": _modules, "prefixes": _parameters, "parameters": _parameters, "names": _exactly,
}  # fmt: skip
_TRAINS_AFTER_ALL = ("exclude", "unfreeze")
