"""The projection from a token to prototype scores."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sltdino.core.settings_base import known
from sltdino.core.settings_network import HeadSettings


class BatchNorm(nn.Module):
    """Batch norm by the statistics of the rows at hand, in training and evaluation, for student and teacher alike."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(num_features, track_running_stats=False)

    def forward(self, x_MD: Tensor) -> Tensor:
        """`[M, D]`. A single row equals its own mean, so only the bias is left of it."""
        if len(x_MD) > 1:
            normalised: Tensor = self.bn(x_MD)
            return normalised
        return x_MD * 0.0 + self.bn.bias


class PrototypeHead(nn.Module):
    """Three layers to a normalised bottleneck, then cosines with unit prototypes (Caron et al. 2021, section 3.2).

    The prototypes are weight-normalised with a fixed norm of one, as DINO's `norm_last_layer`.
    """

    def __init__(self, embed_dim: int, num_prototypes: int, head: HeadSettings) -> None:
        super().__init__()
        hidden = known(head.hidden_dim)
        layers: list[nn.Module] = []
        for fan_in in (embed_dim, hidden):
            layers += [nn.Linear(fan_in, hidden), *([BatchNorm(hidden)] if head.batch_norm else []), nn.GELU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(hidden, head.bottleneck_dim))
        self.prototypes = nn.Linear(head.bottleneck_dim, num_prototypes, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, tokens_MD: Tensor) -> Tensor:
        """Cosine scores `[M, K]` in -1..1 of tokens `[M, D]`."""
        # in half precision the norm of a 256-wide vector loses the digits that tell neighbours apart
        bottleneck = F.normalize(self.mlp(tokens_MD).float(), dim=-1, eps=1e-6)
        weight_KD = self.prototypes.weight.float()
        # dividing the scores, not the weights: far fewer numbers where there are many prototypes
        norms_K: Tensor = torch.linalg.vector_norm(weight_KD, dim=-1)
        return F.linear(bottleneck, weight_KD) / norms_K.clamp(min=1e-12)
