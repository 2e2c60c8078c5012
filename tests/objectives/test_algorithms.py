"""Which terms an algorithm has, and where its gradients go."""

import pytest
import torch

from sltdino.core.settings import LossSettings
from sltdino.objectives.algorithms import ALGORITHMS, build_objective
from sltdino.objectives.centering import EmaCenter, SinkhornKnopp
from sltdino.types import Outputs


def settings(**changes: object) -> LossSettings:
    return LossSettings(**{"use_sinkhorn": False, "standardize_teacher": False, "koleo_weight": 0.1, **changes})


def random_outputs(seed: int = 0) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(8, 9, generator=generator) < 0.3
    return Outputs(
        torch.randn(4, 4, 6, generator=generator, requires_grad=True),
        torch.randn(4, 4, 5, generator=generator, requires_grad=True),
        torch.randn(int(masks.sum()), 5, generator=generator, requires_grad=True),
        masks,
    )


@pytest.mark.parametrize(
    ("algorithm", "terms"),
    [("dino", {"cls", "koleo"}), ("ibot", {"cls", "koleo", "patch"}), ("dinov2", {"cls", "koleo", "patch"})],
)
def test_terms_of_an_algorithm(algorithm: str, terms: set[str]) -> None:
    objective = build_objective(algorithm, settings(), num_prototypes=5, num_patch_prototypes=5)
    assert set(objective.terms) == terms
    assert set(ALGORITHMS) == {"dino", "ibot", "dinov2"}


def test_a_term_of_weight_zero_is_left_out() -> None:
    objective = build_objective("dino", settings(koleo_weight=0.0), num_prototypes=5, num_patch_prototypes=5)
    assert set(objective.terms) == {"cls"}


def test_the_total_is_the_weighted_sum_of_the_terms() -> None:
    loss = settings(koleo_weight=0.3, patch_loss_weight=2.0)
    value = build_objective("ibot", loss, num_prototypes=5, num_patch_prototypes=5)(
        random_outputs(0), random_outputs(0), 0.05
    )
    expected = value.terms["cls"] + 0.3 * value.terms["koleo"] + 2.0 * value.terms["patch"]
    assert value.total.item() == pytest.approx(expected.item())


@pytest.mark.parametrize(("use", "kind"), [(False, EmaCenter), (True, SinkhornKnopp)])
def test_the_centering_is_chosen_by_the_settings(use: bool, kind: type) -> None:
    objective = build_objective("ibot", settings(use_sinkhorn=use), num_prototypes=5, num_patch_prototypes=5)
    assert isinstance(objective.terms["cls"].centering, kind)
    assert isinstance(objective.terms["patch"].centering, kind)


@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_no_gradient_reaches_the_teacher(algorithm: str) -> None:
    student, teacher = random_outputs(0), random_outputs(1)
    objective = build_objective(algorithm, settings(), num_prototypes=5, num_patch_prototypes=5)
    objective(student, teacher._replace(patch_logits_MK=student.patch_logits_MK.detach()), 0.05).total.backward()
    assert teacher.cls_logits_CBK.grad is None
    assert student.cls_logits_CBK.grad is not None


def test_only_the_centers_are_state() -> None:
    objective = build_objective("ibot", settings(), num_prototypes=5, num_patch_prototypes=7)
    assert {key: tuple(value.shape) for key, value in objective.state_dict().items()} == {
        "terms.cls.centering.center_K": (5,),
        "terms.patch.centering.center_K": (7,),
    }
