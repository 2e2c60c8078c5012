"""Weights as consumers take them: copies, and for those without LayerScale an exact change."""

from torch import Tensor

from sltdino.exporting.backbone import TrainedBackbone


def float_weights(backbone: TrainedBackbone, *, without: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """A copy of the weights in our names, float32 and contiguous, without the keys named."""
    state = backbone.network.state_dict()
    return {key: value.detach().float().clone().contiguous() for key, value in state.items() if key not in without}


def fold_layer_scale(weights: dict[str, Tensor]) -> None:
    """Multiply each LayerScale, in place, into the last linear layer of its branch, where it is the same map."""
    for key in [key for key in weights if key.endswith(".gamma")]:
        block, branch, _ = key.rsplit(".", 2)
        layer = f"{block}.attn.proj" if branch == "ls1" else f"{block}.mlp.fc2"
        gamma = weights.pop(key)
        weights[f"{layer}.weight"] = weights[f"{layer}.weight"] * gamma[:, None]
        weights[f"{layer}.bias"] = weights[f"{layer}.bias"] * gamma
