"""Each loss term and center against the paper's formula in numpy, in float64, over a grid of shapes."""

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sltdino.objectives.centering import EmaCenter, SinkhornKnopp, standardized
from sltdino.objectives.terms import ClsDistillation, KoLeo, PatchDistillation
from sltdino.types import Outputs

Array = NDArray[np.float64]
EMPTY = torch.zeros(0)
SHAPES = [(1, 1, 2), (2, 3, 5), (6, 4, 16), (10, 2, 33)]  # student crops, images, prototypes


def log_softmax(x: Array) -> Array:
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def outputs(**given: torch.Tensor) -> Outputs:
    return Outputs(**{"cls_CBD": EMPTY, "cls_logits_CBK": EMPTY, "patch_logits_MK": EMPTY, "masks_GN": EMPTY, **given})


def array(*shape: int, seed: int = 0, scale: float = 1.0) -> Array:
    return np.random.default_rng(seed).normal(scale=scale, size=shape)


def tensor(x: Array) -> torch.Tensor:
    return torch.from_numpy(x).float()


@pytest.mark.parametrize(("crops", "images", "prototypes"), SHAPES[1:])
def test_cls_loss_is_dinos_over_pairs_of_different_crops_for_four_steps(
    crops: int, images: int, prototypes: int
) -> None:
    term = ClsDistillation(EmaCenter(prototypes, momentum=0.9), student_temp=0.1)
    center = np.zeros(prototypes)
    for step, temp in enumerate((0.04, 0.05, 0.06, 0.07)):
        student, teacher = array(crops, images, prototypes, seed=step), array(2, images, prototypes, seed=9 + step)
        q = np.exp(log_softmax((teacher - center) / temp))
        log_p = log_softmax(student / 0.1)
        pairs = [-(q[t] * log_p[s]).sum(-1).mean() for t in range(2) for s in range(crops) if s != t]
        value = term(outputs(cls_logits_CBK=tensor(student)), outputs(cls_logits_CBK=tensor(teacher)), temp)
        term.update()
        center = 0.9 * center + 0.1 * teacher.reshape(-1, prototypes).mean(axis=0)
        assert value.loss.item() == pytest.approx(np.mean(pairs), rel=1e-5)
        np.testing.assert_allclose(term.centering.center_K.numpy(), center, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(value.targets_MK.numpy(), q.reshape(-1, prototypes), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("crops", "images", "prototypes"), SHAPES[1:])
def test_cls_gradient_is_that_of_the_naive_formula(crops: int, images: int, prototypes: int) -> None:
    student = tensor(array(crops, images, prototypes)).requires_grad_()
    teacher = tensor(array(2, images, prototypes, seed=1))
    term = ClsDistillation(EmaCenter(prototypes, momentum=0.9), student_temp=0.1)
    term(outputs(cls_logits_CBK=student), outputs(cls_logits_CBK=teacher), 0.05).loss.backward()
    naive = student.detach().clone().requires_grad_()
    q, log_p = (teacher / 0.05).softmax(-1), (naive / 0.1).log_softmax(-1)
    pairs = [-(q[t] * log_p[s]).sum(-1).mean() for t, s in itertools.product(range(2), range(crops)) if s != t]
    torch.stack(pairs).mean().backward()
    torch.testing.assert_close(student.grad, naive.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("crops", "patches", "prototypes"), [(2, 4, 3), (6, 9, 16), (8, 49, 7)])
def test_patch_loss_is_the_mean_over_crops_of_the_mean_over_masked_patches(
    crops: int, patches: int, prototypes: int
) -> None:
    masks = np.random.default_rng(0).random((crops, patches)) < 0.4
    masks[0] = False  # a crop without a mask counts with loss 0
    masks[1, 0] = True
    student, teacher = array(crops, patches, prototypes), array(crops, patches, prototypes, seed=1)
    q, log_p = np.exp(log_softmax(teacher / 0.06)), log_softmax(student / 0.1)
    entropies = -(q * log_p).sum(-1)
    expected = np.mean([entropies[g][masks[g]].mean() if masks[g].any() else 0.0 for g in range(crops)])
    m = torch.from_numpy(masks)
    term = PatchDistillation(EmaCenter(prototypes, momentum=0.9), student_temp=0.1)
    value = term(
        outputs(patch_logits_MK=tensor(student)[m], masks_GN=m), outputs(patch_logits_MK=tensor(teacher)[m]), 0.06
    )
    assert value.loss.item() == pytest.approx(expected, rel=1e-5)


def test_patch_loss_without_a_masked_patch_is_zero_and_leaves_the_center() -> None:
    term = PatchDistillation(EmaCenter(3, momentum=0.9), student_temp=0.1)
    rows, m = torch.zeros(0, 3, requires_grad=True), torch.zeros(4, 9, dtype=torch.bool)
    value = term(outputs(patch_logits_MK=rows, masks_GN=m), outputs(patch_logits_MK=rows.detach()), 0.06)
    value.loss.backward()
    term.update()
    assert value.loss.item() == 0
    assert torch.equal(term.centering.center_K, torch.zeros(3))


@pytest.mark.parametrize(("images", "width"), [(2, 3), (7, 16), (32, 8)])
def test_koleo_is_the_log_distance_to_the_nearest_neighbour(images: int, width: int) -> None:
    features = array(4, images, width)
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    expected = 0.0
    for crop in range(2):  # the global crops
        for i in range(images):
            others = [j for j in range(images) if j != i]
            nearest = max(others, key=lambda j, crop=crop, i=i: float(unit[crop, i] @ unit[crop, j]))
            # DINOv2 adds epsilon inside the distance and again before the logarithm
            distance = np.linalg.norm(unit[crop, i] - unit[crop, nearest] + 1e-4)
            expected -= np.log(distance + 1e-4) / images
    value = KoLeo(epsilon=1e-4)(outputs(cls_CBD=tensor(features)), outputs(), 0.05)
    assert value.loss.item() == pytest.approx(expected, rel=1e-4)


def test_koleo_stays_finite_with_duplicate_images() -> None:
    features = torch.ones(2, 6, 8, requires_grad=True)
    loss = KoLeo(epsilon=1e-4)(outputs(cls_CBD=features), outputs(), 0.05).loss
    loss.backward()
    assert loss.isfinite()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_koleo_of_a_single_image_is_zero() -> None:
    assert KoLeo(epsilon=1e-4)(outputs(cls_CBD=torch.randn(2, 1, 8)), outputs(), 0.05).loss.item() == 0


@pytest.mark.parametrize(("rows", "prototypes"), [(4, 3), (8, 8), (6, 40)])
def test_sinkhorn_equals_the_matrix_scaling_of_swav(rows: int, prototypes: int) -> None:
    logits = array(rows, prototypes)
    q = np.exp(logits / 0.5).T
    q /= q.sum()
    for _ in range(3):
        q /= q.sum(axis=1, keepdims=True) * prototypes
        q /= q.sum(axis=0, keepdims=True) * rows
    expected = (q * rows).T
    found = SinkhornKnopp(iterations=3)(tensor(logits), 0.5)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-7)


def test_sinkhorn_is_finite_for_huge_scores_and_rows_sum_to_one() -> None:
    logits = torch.where(torch.rand(16, 32, generator=torch.Generator().manual_seed(0)) < 0.5, 1000.0, -1000.0)
    found = SinkhornKnopp(iterations=3)(logits, 0.04)
    assert found.isfinite().all()
    torch.testing.assert_close(found.sum(dim=1), torch.ones(16))


def test_sinkhorn_converges_to_equal_use_of_the_prototypes() -> None:
    found = SinkhornKnopp(iterations=200)(tensor(array(64, 8)), 0.5)
    torch.testing.assert_close(found.sum(dim=0), torch.full((8,), 8.0), rtol=1e-3, atol=1e-3)


def test_sinkhorn_eps_takes_the_place_of_the_teacher_temperature() -> None:
    logits = tensor(array(6, 5))
    assert torch.equal(SinkhornKnopp(iterations=3, eps=0.3)(logits, 0.04), SinkhornKnopp(iterations=3)(logits, 0.3))


def test_the_center_moves_once_a_step_by_the_mean_of_all_micro_batches() -> None:
    logits = tensor(array(8, 5))
    whole, parts = EmaCenter(5, momentum=0.7), EmaCenter(5, momentum=0.7)
    whole(logits, 0.1)
    parts(logits[:2], 0.1)
    parts(logits[2:], 0.1)
    assert torch.equal(parts.center_K, torch.zeros(5))
    whole.update()
    parts.update()
    torch.testing.assert_close(parts.center_K, whole.center_K)
    torch.testing.assert_close(whole.center_K, 0.3 * logits.mean(dim=0))


def test_the_center_does_not_move_in_evaluation() -> None:
    center = EmaCenter(5, momentum=0.7).eval()
    center(torch.ones(3, 5), 0.1)
    center.update()
    assert torch.equal(center.center_K, torch.zeros(5))


def test_standardized_scores_are_doubly_centered_with_unit_deviation() -> None:
    logits = array(12, 7, scale=0.01) + array(1, 7, seed=1) + array(12, 1, seed=2)
    centered = logits - logits.mean(axis=0, keepdims=True)
    centered -= centered.mean(axis=1, keepdims=True)
    expected = centered / centered.std()
    np.testing.assert_allclose(standardized(tensor(logits)).numpy(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "centering", [EmaCenter(64, momentum=0.9, standardize=True), SinkhornKnopp(iterations=3, standardize=True)]
)
def test_targets_of_nearly_equal_scores_are_as_sharp_as_of_different_ones(
    centering: EmaCenter | SinkhornKnopp,
) -> None:
    logits = tensor(array(32, 64))
    torch.testing.assert_close(centering(logits * 1e-3, 0.3), centering(logits, 0.3), rtol=1e-3, atol=1e-5)


def test_standardized_targets_of_equal_images_are_finite() -> None:
    found = SinkhornKnopp(iterations=3, standardize=True)(torch.ones(4, 8), 0.3)
    torch.testing.assert_close(found, torch.full((4, 8), 1 / 8))
