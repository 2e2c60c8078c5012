"""Teacher scores into targets that do not collapse onto one prototype."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Centering(nn.Module, ABC):
    """Scores to probabilities over the K prototypes."""

    @abstractmethod
    def forward(self, logits_BK: Tensor, temp: float) -> Tensor:
        """Targets `[B, K]` of a batch of scores `[B, K]`, float32; each row sums to one."""

    @abstractmethod
    def update(self) -> None:
        """Learn from the scores seen since the last update; called once a step."""


def standardized(logits_BK: Tensor) -> Tensor:
    """Scores with the mean of each row and each prototype taken out, divided by the standard deviation of what is left.

    A temperature then counts in standard deviations: targets are equally sharp from the first step to the last, however
    much alike an untrained network makes the images, so the uniform answer is no fixed point.
    """
    centered_BK = logits_BK - logits_BK.mean(dim=0, keepdim=True)
    centered_BK = centered_BK - centered_BK.mean(dim=1, keepdim=True)
    return centered_BK / centered_BK.square().mean().sqrt().clamp(min=1e-6)


class EmaCenter(Centering):
    """Subtract a running mean of the scores (DINO, Caron et al. 2021, algorithm 1).

    `standardize` applies `standardized` after the center.
    """

    center_K: Tensor

    def __init__(self, num_prototypes: int, *, momentum: float, standardize: bool = False) -> None:
        super().__init__()
        self.momentum = momentum
        self.standardize = standardize
        self.register_buffer("center_K", torch.zeros(num_prototypes))
        self._seen: list[Tensor] = []

    @torch.no_grad()
    def forward(self, logits_BK: Tensor, temp: float) -> Tensor:
        """`softmax((logits - center) / temp)` with the center of the steps before this one."""
        logits_BK = logits_BK.float()
        if self.training:
            self._seen.append(logits_BK)
        centered_BK = logits_BK - self.center_K
        if self.standardize and len(logits_BK):
            centered_BK = standardized(centered_BK)
        return (centered_BK / temp).softmax(dim=-1)

    @torch.no_grad()
    def update(self) -> None:
        """`center ← momentum · center + (1 - momentum) · mean of the step's scores`; unmoved by a step without rows."""
        num_rows = sum(len(rows) for rows in self._seen)
        if num_rows:
            total_K = torch.stack([rows.sum(dim=0) for rows in self._seen]).sum(dim=0)
            self.center_K.lerp_(total_K / num_rows, 1.0 - self.momentum)
        self._seen.clear()


class SinkhornKnopp(Centering):
    """Spread the batch evenly over the prototypes (Cuturi 2013, as in SwAV and DINOv2), in log space.

    `eps`, where given, takes the place of the teacher temperature; `standardize` applies `standardized` first.
    """

    def __init__(self, *, iterations: int, eps: float | None = None, standardize: bool = False) -> None:
        super().__init__()
        self.iterations = iterations
        self.eps = eps
        self.standardize = standardize

    @torch.no_grad()
    def forward(self, logits_BK: Tensor, temp: float) -> Tensor:
        """Alternately give every prototype mass 1/K and every row mass 1/B; rows last, then scaled to one.

        Log space keeps scores of ±1000 finite, where subtracting one global maximum gives 0/0.
        """
        log_q_BK = logits_BK.float()
        if self.standardize and len(logits_BK):
            log_q_BK = standardized(log_q_BK)
        log_q_BK = log_q_BK / (temp if self.eps is None else self.eps)
        for _ in range(self.iterations):
            log_q_BK = log_q_BK - log_q_BK.logsumexp(dim=0, keepdim=True)
            log_q_BK = log_q_BK - log_q_BK.logsumexp(dim=1, keepdim=True)
        return log_q_BK.exp()

    def update(self) -> None:
        """Nothing to learn: every batch is balanced by itself."""
