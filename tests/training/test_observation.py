"""What is measured in a step, against the formulas in numpy."""

import math

import numpy as np
import pytest
import torch

from sltdino.objectives.centering import SinkhornKnopp
from sltdino.training.observation import Health, PrototypeUsage, observe
from sltdino.training.trainer import StepResult

K = 16


def entropy(p: np.ndarray) -> float:
    return float(-sum(x * math.log(x) for x in p if x > 0))


def measured(scores_MK: torch.Tensor, targets_MK: torch.Tensor | None = None, *, temp: float = 0.1) -> Health:
    features_CBD = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(1))
    targets_MK = scores_MK.softmax(dim=-1) if targets_MK is None else targets_MK
    metrics = {"loss_cls": torch.tensor(1.25)}
    return observe(StepResult(metrics, features_CBD, targets_MK, scores_MK), student_temp=temp)


def test_entropies_and_divergence_are_those_of_the_formulas() -> None:
    rng = np.random.default_rng(0)
    scores, targets = rng.normal(size=(8, K)), rng.dirichlet(np.full(K, 0.2), size=8)
    targets[0] = np.eye(K)[3]  # 0 ln 0 is 0
    found = measured(torch.tensor(scores).float(), torch.tensor(targets).float(), temp=0.5)
    answers = np.exp(scores / 0.5) / np.exp(scores / 0.5).sum(axis=1, keepdims=True)
    mean = answers.mean(axis=0)
    assert found.loss_gap == pytest.approx(math.log(K) - 1.25)
    assert found.target_entropy == pytest.approx(np.mean([entropy(row) for row in targets]), rel=1e-5)
    assert found.assignment_entropy == pytest.approx(entropy(targets.mean(axis=0)), rel=1e-5)
    assert found.assignment_kl == pytest.approx((mean * np.log(mean * K)).sum(), rel=1e-4)


def test_sinkhorn_hides_from_the_targets_what_the_divergence_of_the_scores_shows() -> None:
    scores_MK = 0.01 * torch.randn(8, K, generator=torch.Generator().manual_seed(2))
    scores_MK[:, 5] += 1.0  # every image says prototype 5
    found = measured(scores_MK, SinkhornKnopp(iterations=3)(scores_MK, 0.1))
    assert found.assignment_entropy == pytest.approx(math.log(K), rel=1e-2)
    assert found.assignment_kl > 0.95 * math.log(K)


def test_features_that_are_all_the_same_have_a_cosine_of_one_and_no_spread() -> None:
    same_CBD = torch.ones(2, 8, 4) * torch.tensor([1.0, 2.0, 3.0, 4.0])
    scores_MK = torch.zeros(16, K)
    result = StepResult({"loss_cls": torch.tensor(0.0)}, same_CBD, scores_MK.softmax(-1), scores_MK)
    found = observe(result, student_temp=0.1)
    assert found.cosine_to_mean == pytest.approx(1.0, abs=1e-6)
    assert found.feature_spread == pytest.approx(0.0, abs=1e-3)


def test_prototypes_are_used_that_won_for_an_image_in_the_last_steps() -> None:
    rng = np.random.default_rng(3)
    usage, winners = PrototypeUsage(K, first_step=0, device="cpu"), []
    for step in range(1, 31):
        scores = rng.normal(size=(3, K))
        winners.append(set(scores.argmax(axis=1).tolist()))
        usage.see(step, torch.tensor(scores))
        expected = len(set().union(*winners[-7:])) if step >= 7 else None
        assert usage.count(step, window=7) == expected


def test_a_run_that_goes_on_without_its_counts_waits_for_a_whole_window() -> None:
    usage = PrototypeUsage(K, first_step=100, device="cpu")
    usage.see(106, torch.eye(K))
    assert usage.count(106, window=7) is None
    assert usage.count(107, window=7) == K
