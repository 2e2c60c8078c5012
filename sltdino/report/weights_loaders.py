"""Which programs take a file of weights as it is, and why the others do not."""

from typing import Any, NamedTuple

from sltdino.core.foreign_weights import WeightsFile
from sltdino.core.settings_base import known
from sltdino.models.import_weights import ImportedBackbone

_SLT_KEYS = ("image_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")
_VITS14 = {"patch_size": 14, "embed_dim": 384, "depth": 12, "num_heads": 6, "mlp_ratio": 4.0, "registers": 0}
_DINOV2_SIZE = 518


class Loader(NamedTuple):
    """A program, whether it takes the file, and why not."""

    name: str
    takes: bool
    why: str = ""


def loaders(file: WeightsFile, imported: ImportedBackbone) -> tuple[Loader, ...]:
    """What takes a file from which `imported` was read."""
    reasons = {
        "SLT, as slt_vitsmall_patch16": _slt(file, imported),
        "SLT, as dinov2_vits14": _slt_dinov2(file, imported),
        "timm": "" if imported.layout in ("dino", "timm", "timm-classifier") else "its names are not timm's",
        "Hugging Face transformers": _transformers(file, imported),
        "sltdino pretrain --init-from": "",
    }
    return tuple(Loader(name, not why, why) for name, why in reasons.items())


def _slt(file: WeightsFile, imported: ImportedBackbone) -> str:
    """COMPAT of SLT's own ViT: it loads without strictness, so that a wrong name leaves it random."""
    if imported.layout != "slt":
        return "its names are not those of SLT's own ViT"
    if imported.network.vit.layer_scale or imported.network.vit.registers:
        return "SLT's ViT has neither LayerScale nor registers"
    if file.path.suffix == ".safetensors" or "model" not in file.content or "state_dict" in file.content:
        return "SLT expects a torch.save of `model` and `metadata`"
    if not file.weights_only_safe:
        return "it holds objects, which SLT's reader refuses"
    said = imported.metadata.get("backbone")
    have = _shape(imported)
    if not isinstance(said, dict) or {key: said.get(key) for key in _SLT_KEYS} != have:
        return "its metadata.backbone is missing, or not that of its weights"
    return ""


def _slt_dinov2(file: WeightsFile, imported: ImportedBackbone) -> str:
    if imported.layout != "dinov2":
        return "its names are not those of DINOv2's ViT-S/14"
    have = {**_shape(imported), "registers": imported.network.vit.registers}
    wrong = [f"{key} {have[key]}" for key, value in _VITS14.items() if have[key] != value]
    if wrong:
        return f"not a ViT-S/14: {', '.join(wrong)}"
    if imported.network.image_size != _DINOV2_SIZE:
        return f"its positions are for {imported.network.image_size} px, not {_DINOV2_SIZE}"
    if file.path.suffix == ".safetensors" or not file.weights_only_safe:
        return "SLT expects a torch.save of tensors and plain values"
    return ""


def _transformers(file: WeightsFile, imported: ImportedBackbone) -> str:
    if not imported.layout.startswith("hf-"):
        return "its names are not those of transformers"
    if "model_type" not in file.config:
        return "there is no config.json with a model_type beside it"
    if file.path.name not in ("model.safetensors", "pytorch_model.bin"):
        return "from_pretrained looks for model.safetensors or pytorch_model.bin"
    return ""


def _shape(imported: ImportedBackbone) -> dict[str, Any]:
    vit = imported.network.vit
    return {
        "image_size": imported.network.image_size,
        "patch_size": vit.patch_size,
        "embed_dim": known(vit.embed_dim),
        "depth": known(vit.depth),
        "num_heads": known(vit.num_heads),
        "mlp_ratio": vit.mlp_ratio,
    }
