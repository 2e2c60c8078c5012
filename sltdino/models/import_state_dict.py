"""Find the backbone in a checkpoint: which mapping, which of its networks, under which prefix."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from sltdino.core.foreign_weights import WeightsFile, plain_tensors
from sltdino.core.restricted_pickle import StoredTensor
from sltdino.errors import CheckpointError

_CONTAINERS = ("teacher", "state_dict", "model", "student", "module", "backbone")
"""Keys under which programs put a state dict, the better one first."""
_DEEPEST = 4
_WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")
"""What torch's wrappers put into names, anywhere."""
_CLASS_TOKENS = ("embeddings.cls_token", "cls_token", "class_token")


class FoundNetwork(NamedTuple):
    """A backbone under its own names, and what stands beside it."""

    backbone: dict[str, Tensor]
    beside: dict[str, Tensor]
    """Under the names they have beside the backbone: heads, centers."""
    notes: list[str]

    @property
    def width(self) -> int:
        """Of the class token."""
        return next(value.flatten().shape[0] for key, value in self.backbone.items() if key in _CLASS_TOKENS)


def find_network(file: WeightsFile) -> FoundNetwork:
    """The teacher's backbone, else the student's, else the only one.

    Raises:
        CheckpointError: there is none or more than one, or its weights are damaged.
    """
    notes: list[str] = []
    state_dict = _state_dict(file.path, file.content, (), notes)
    named = {_unwrapped(str(key)): value for key, value in state_dict.items()}
    prefix = _prefix(file.path, named)
    # the heads stand beside `backbone.`; the other networks of the file do not belong to them
    parent = prefix.removesuffix("backbone.")
    others = {key for key in named if not key.startswith(parent)}
    tensors = plain_tensors(file.path, {key: value for key, value in named.items() if key not in others})
    backbone = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    beside = {key.removeprefix(parent): value for key, value in tensors.items() if not key.startswith(prefix)}
    if not any(token in backbone for token in _CLASS_TOKENS):
        raise _error(file.path, "its class token is no tensor; use another copy of it")
    if prefix not in ("", "backbone."):
        notes.append(f"names: taken from under {prefix}")
    if others:
        groups = sorted({key.partition(".")[0] for key in others})
        notes.append(f"left out: {', '.join(groups[:8])}, beside the network that was taken")
    return FoundNetwork(backbone, beside, notes)


def _state_dict(path: Path, content: Mapping[str, Any], where: tuple[str, ...], notes: list[str]) -> Mapping[str, Any]:
    for key in _CONTAINERS if len(where) < _DEEPEST else ():
        inner = content.get(key)
        if not isinstance(inner, Mapping) or not inner:
            continue
        left_out = [str(other) for other in content if other not in (key, "metadata")]
        if left_out:
            notes.append(f"taken: {key}; left out: {', '.join(left_out[:8])}{' …' if len(left_out) > 8 else ''}")
        return _state_dict(path, inner, (*where, key), notes)
    if any(isinstance(value, Tensor | StoredTensor) for value in content.values()):
        return content
    inside = f" under {'.'.join(where)}" if where else ""
    keys = ", ".join(str(key) for key in list(content)[:8]) or "nothing"
    if content and all(isinstance(value, Mapping) for value in content.values()):
        raise _error(
            path, f"holds {len(content)} networks{inside} ({keys}); save the one to start from in a file of its own"
        )
    raise _error(path, f"holds no weights{inside}: only {keys}; name a checkpoint or an export of a vision transformer")


def _unwrapped(key: str) -> str:
    for wrapper in _WRAPPERS:
        key = key.replace(wrapper, "")
    return key


def _prefix(path: Path, named: Mapping[str, Any]) -> str:
    """What stands before the names of the backbone."""
    found: dict[str, None] = {}
    for token in _CLASS_TOKENS:
        found |= {key.removesuffix(token): None for key in named if key == token or key.endswith(f".{token}")}
    prefixes = [prefix for prefix in found if not prefix.endswith("embeddings.")]
    for preferred in ("teacher", "student"):
        of_it = [prefix for prefix in prefixes if preferred in prefix.split(".")]
        prefixes = of_it or prefixes
    if len(prefixes) == 1:
        return prefixes[0]
    if prefixes:
        several = ", ".join(prefix.rstrip(".") or "the top" for prefix in prefixes)
        raise _error(
            path, f"holds {len(prefixes)} networks ({several}); save the one to start from in a file of its own"
        )
    if any(key.endswith(("patch_embed.proj.weight", "patch_embeddings.projection.weight")) for key in named):
        raise _error(
            path, "a vision transformer without a class token, which is what DINO compares; take one that has it"
        )
    keys = ", ".join(list(named)[:4])
    raise _error(path, f"no vision transformer; its weights are called {keys} …; name a checkpoint of one")


def _error(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: {reason}", code="E-WEIGHTS")
