"""Which programs take a file of weights as it is, and why the others do not."""

from collections.abc import Mapping
from typing import NamedTuple

from sltdino.core.foreign_weights import WEIGHTS_OF_FOLDER, WeightsFile
from sltdino.core.settings_base import known
from sltdino.exporting.backbone import network_shape
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
        "timm": _timm(file, imported),
        "Hugging Face transformers": _transformers(file, imported),
        "sltdino pretrain --init-from": "",
    }
    return tuple(Loader(name, not why, why) for name, why in reasons.items())


def _slt(file: WeightsFile, imported: ImportedBackbone) -> str:
    """COMPAT of SLT's own ViT: it loads without strictness, so that a wrong name leaves it random."""
    if imported.layout != "slt":
        return "its names are not those of SLT's own ViT"
    vit = imported.network.vit
    if known(vit.layer_scale) or known(vit.registers):
        return "SLT's ViT has neither LayerScale nor registers"
    model = file.content.get("model")
    if "state_dict" in file.content or not isinstance(model, Mapping) or "cls_token" not in model:
        return "SLT expects a torch.save of `model` and `metadata`"
    if not file.weights_only_safe:
        return "it holds objects, which SLT's reader refuses"
    said = imported.metadata.get("backbone")
    have = network_shape(imported.network)
    if not isinstance(said, dict) or {key: said.get(key) for key in _SLT_KEYS} != have:
        return "its metadata.backbone is missing, or not that of its weights"
    return ""


def _slt_dinov2(file: WeightsFile, imported: ImportedBackbone) -> str:
    if imported.layout != "dinov2":
        return "its names are not those of DINOv2's ViT-S/14"
    have = {**network_shape(imported.network), "registers": known(imported.network.vit.registers)}
    wrong = [f"{key} {have[key]}" for key, value in _VITS14.items() if have[key] != value]
    if wrong:
        return f"not a ViT-S/14: {', '.join(wrong)}"
    if imported.network.image_size != _DINOV2_SIZE:
        return f"its positions are for {imported.network.image_size} px, not {_DINOV2_SIZE}"
    if file.path.suffix == ".safetensors" or not _is_bare(file) or not file.weights_only_safe:
        return "SLT expects a torch.save of these weights alone, without objects"
    return ""


def _timm(file: WeightsFile, imported: ImportedBackbone) -> str:
    if imported.layout not in ("dino", "timm", "timm-classifier"):
        return "its names are not timm's"
    if imported.heads or not _is_bare(file) or not file.weights_only_safe:
        return "its names are timm's, but timm expects these weights alone, without heads or objects"
    return ""


def _transformers(file: WeightsFile, imported: ImportedBackbone) -> str:
    if not imported.layout.startswith("hf-"):
        return "its names are not those of transformers"
    if "model_type" not in file.config:
        return "there is no config.json with a model_type beside it"
    if file.path.name not in WEIGHTS_OF_FOLDER:
        return f"from_pretrained looks for {' or '.join(WEIGHTS_OF_FOLDER)}"
    return ""


def _is_bare(file: WeightsFile) -> bool:
    """Whether the names stand without a prefix at the top, or where every reader looks."""
    places = (file.content, file.content.get("state_dict"), file.content.get("model"))
    return any(isinstance(place, Mapping) and "cls_token" in place for place in places)
