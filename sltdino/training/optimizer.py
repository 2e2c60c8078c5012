"""AdamW over two groups of parameters."""

import torch
from torch import nn


def build_optimizer(student: nn.Module) -> torch.optim.AdamW:
    """Fused AdamW; learning rate and weight decay are set by the schedules at each step.

    Biases, norms, tokens and other parameters of at most one dimension larger than one are not decayed.
    """
    decayed: list[nn.Parameter] = []
    not_decayed: list[nn.Parameter] = []
    for name, parameter in student.named_parameters():
        is_vector = sum(size > 1 for size in parameter.shape) <= 1 or name.endswith("pos_embed")
        (not_decayed if is_vector else decayed).append(parameter)
    groups = [{"params": decayed, "decays": True}, {"params": not_decayed, "decays": False}]
    return torch.optim.AdamW(groups, lr=0.0, fused=True)
