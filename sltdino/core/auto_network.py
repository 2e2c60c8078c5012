"""The network's `auto` values: as the weights that a run starts from, else of the named size."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_checks import FALLBACK_PATCH_SIZE, against_layout

_SIZE = ("embed_dim", "depth", "num_heads")
_NAMED_SIZES = {"vit-tiny": (192, 12, 3), "vit-small": (384, 12, 6), "vit-base": (768, 12, 12)}
_RANDOM_START = {
    "patch_size": FALLBACK_PATCH_SIZE, "mlp_ratio": 4.0, "registers": 0, "layer_scale": 0.0, "layer_norm_eps": 1e-5,
}  # fmt: skip


Rules = dict[tuple[str, str], tuple[Any, str]]
"""From section and key to the value, and what it follows from."""


class InitialNetwork(NamedTuple):
    """The network of the weights that a run starts from."""

    name: str
    """Of the file, or `the starter`; for the record."""
    patch_size: int
    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float
    registers: int
    layer_scale: float
    layer_norm_eps: float


def network_rules(
    settings: PretrainSettings, initial: InitialNetwork | None, *, num_images: int, has_few: bool
) -> Rules:
    """As the weights it starts from; else of the named size, with the values of a random start.

    Args:
        has_few: whether the images are too few for the papers' start.
    """
    if initial is not None:
        vit = initial._asdict()
        named = [name for name, size in _NAMED_SIZES.items() if size == tuple(vit[key] for key in _SIZE)]
        vit |= {"backbone": named[0]} if named else {}
        source = vit.pop("name")
    else:
        vit = _RANDOM_START | _named_size(settings)
        source = vit["backbone"]
    embed_dim, patch_size = (vit[key] if getattr(settings.vit, key) == "auto" else getattr(settings.vit, key)
                             for key in ("embed_dim", "patch_size"))  # fmt: skip
    local_crop_size = max(2, round(settings.augmentation.image_size * 3 / 7 / patch_size)) * patch_size
    return {("vit", key): (value, source) for key, value in vit.items()} | {
        ("vit", "num_heads"): (vit["num_heads"], source if initial else f"width {embed_dim}"),
        ("head", "hidden_dim"): (min(2048, 4 * embed_dim), f"width {embed_dim}"),
        ("vit", "weight_init"): _weight_init(settings, initial, embed_dim, num_images=num_images, has_few=has_few),
        ("augmentation", "local_crop_size"): (local_crop_size, "3/7 of the image size"),
    }


def _weight_init(
    settings: PretrainSettings, initial: InitialNetwork | None, embed_dim: int, *, num_images: int, has_few: bool
) -> tuple[str, str]:
    if initial is not None:
        return "trunc_normal", initial.name
    if not has_few:
        return "trunc_normal", f"{num_images:,} images"
    obstacle = against_layout(settings.vit.model_copy(update={"embed_dim": embed_dim}))
    if obstacle is not None:
        return "xavier", f"{num_images:,} images, {obstacle.name}"
    return "layout", f"{num_images:,} images"


def _named_size(settings: PretrainSettings) -> dict[str, Any]:
    vit = settings.vit
    name = "vit-small" if vit.backbone == "auto" else vit.backbone
    width, depth, heads = _NAMED_SIZES[name]
    embed_dim = width if vit.embed_dim == "auto" else vit.embed_dim
    per_64 = range(max(1, embed_dim // 64), 0, -1)
    num_heads = heads if embed_dim == width else next(number for number in per_64 if embed_dim % number == 0)
    return {"backbone": name, "embed_dim": embed_dim, "depth": depth, "num_heads": num_heads}


def contradictions(settings: PretrainSettings, initial: InitialNetwork) -> Iterator[str]:
    """Given values that the weights cannot have, each with both values. Registers and epsilon may differ."""
    vit, weights = settings.vit, f"the weights in {initial.name}"
    if vit.backbone != "auto":
        size = dict(zip(_SIZE, _NAMED_SIZES[vit.backbone], strict=True))
        if wrong := [key for key in _SIZE if getattr(vit, key) == "auto" and getattr(initial, key) != size[key]]:
            asked, found = (", ".join(f"{key} {row[key]}" for key in wrong) for row in (size, initial._asdict()))
            yield f"--backbone: {vit.backbone} has {asked}, and {weights} have {found}; {_way_out('--backbone')}"
    for key in (*_SIZE, "mlp_ratio"):
        given, found = getattr(vit, key), getattr(initial, key)
        if given not in ("auto", found):
            flag = f"--vit-{key.replace('_', '-')}"
            yield f"{flag}: {given}, and {weights} have {found}; {_way_out(flag)}"
    if vit.patch_size not in ("auto", initial.patch_size) and not settings.init_resample_patch:
        yield (
            f"--patch-size: {vit.patch_size}, and {weights} have {initial.patch_size}; "
            f"{_way_out('--patch-size')}, or add --init-resample-patch, which resamples their patch kernels"
        )
    if vit.layer_scale != "auto" and bool(vit.layer_scale) != bool(initial.layer_scale):
        found = "one" if initial.layer_scale else "none"
        yield f"--vit-layer-scale: {vit.layer_scale}, and {weights} have {found}; {_way_out('--vit-layer-scale')}"
    if vit.weight_init == "layout":
        yield f"--vit-weight-init: layout would replace {weights}; leave it out"


def _way_out(flag: str) -> str:
    return f"leave it out, or over a preset pass {flag} auto"
