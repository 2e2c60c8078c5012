"""For SLT's `load_dinov2_backbone("file::PATH:slt_vitsmall_patch16")`, the loader of the original guide.

That loader builds its network from `metadata.backbone` and loads without strictness, so a wrong key would leave it
random with only a warning. It always feeds RGB under ImageNet's mean and std, and its LayerNorms use 1e-5.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sltdino.core import files, json_files
from sltdino.errors import CheckpointError, SettingsError
from sltdino.exporting.backbone import TrainedBackbone
from sltdino.exporting.slt_network import SltNetwork
from sltdino.exporting.verify import Proof, compare_features

SLT_MEAN, SLT_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_RENAMES = {"attn.qkv.": "attn.in_proj_", "attn.proj.": "attn.out_proj.", "mlp.fc1.": "mlp.0.", "mlp.fc2.": "mlp.3."}


def write(backbone: TrainedBackbone, path: Path) -> Proof:
    """Write `path` (`{"model": …, "metadata": …}`) and its metadata as JSON beside it, then prove the file.

    Raises:
        SettingsError: the backbone has registers, which SLT's network cannot hold.
        CheckpointError: what was written does not compute the same features.
    """
    sidecar = path.with_suffix(".json")
    model = slt_state_dict(backbone)
    metadata = {key: value for key, value in backbone.metadata.items() if value is not None}
    proofs: list[Proof] = []
    with files.new_file(path, before_rename=lambda written: proofs.append(_check(backbone, written))) as file:
        torch.save({"model": model, "metadata": metadata}, file)
    (proof,) = proofs
    json_files.write(sidecar, metadata | {"verification": proof._asdict(), "num_tensors": len(model)})
    return proof


def slt_state_dict(backbone: TrainedBackbone) -> dict[str, Tensor]:
    """The weights in SLT's names, float32 and contiguous, for input under ImageNet's mean and std."""
    network = backbone.network
    if network.reg_token is not None:
        raise SettingsError("--format slt: SLT's network has no register tokens; train with --vit-registers 0 for it")
    weights = {key: value.detach().float() for key, value in network.state_dict().items() if key != "mask_token"}
    fold_layer_scale(weights)
    fold_normalisation(weights, backbone, mean=SLT_MEAN, std=SLT_STD)
    return {_renamed(key): value.clone().contiguous() for key, value in weights.items()}


def fold_layer_scale(weights: dict[str, Tensor]) -> None:
    """Multiply each LayerScale, in place, into the last linear layer of its branch, where it is the same map."""
    for key in [key for key in weights if key.endswith(".gamma")]:
        block, branch, _ = key.rsplit(".", 2)
        layer = f"{block}.attn.proj" if branch == "ls1" else f"{block}.mlp.fc2"
        gamma = weights.pop(key)
        weights[f"{layer}.weight"] = weights[f"{layer}.weight"] * gamma[:, None]
        weights[f"{layer}.bias"] = weights[f"{layer}.bias"] * gamma


def fold_normalisation(
    weights: dict[str, Tensor], backbone: TrainedBackbone, *, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    """Change the patch embedding, in place, so that input under `mean` and `std` gives what training's gave.

    With u = (x - m) / s for the consumer and v = (x - m_t) / s_t in training, v = u·s/s_t + (m - m_t)/s_t per channel.
    """
    if backbone.mean == mean and backbone.std == std:
        return
    weight = weights["patch_embed.proj.weight"].double()
    trained_mean, trained_std = torch.tensor(backbone.mean).double(), torch.tensor(backbone.std).double()
    shift_C = (torch.tensor(mean).double() - trained_mean) / trained_std
    scale_C = torch.tensor(std).double() / trained_std
    bias = weights["patch_embed.proj.bias"].double() + torch.einsum("dcij,c->d", weight, shift_C)
    weights["patch_embed.proj.weight"] = (weight * scale_C[:, None, None]).float()
    weights["patch_embed.proj.bias"] = bias.float()


def _renamed(key: str) -> str:
    for ours, theirs in _RENAMES.items():
        key = key.replace(ours, theirs)
    return key


def _check(backbone: TrainedBackbone, path: Path) -> Proof:
    payload: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    network = SltNetwork(payload["metadata"]["backbone"]).eval()
    try:
        network.load_state_dict(payload["model"], strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"the export is not what SLT's network loads ({error}); nothing was written", code="E-EXPORT"
        ) from error
    return compare_features(backbone, network.forward_features, mean=SLT_MEAN, std=SLT_STD, consumer_eps=1e-5)
