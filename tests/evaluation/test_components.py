"""Principal components against a singular value decomposition."""

import numpy as np
import torch

from sltdino.evaluation.components import principal_components

ROWS = torch.from_numpy(np.random.default_rng(0).normal(size=(40, 6)) @ np.diag((9, 5, 3, 2, 1, 0.5)) + 7).float()


def test_scores_and_shares_are_those_of_numpy_s_svd() -> None:
    found = principal_components(ROWS, 3)
    centered = ROWS.numpy().astype(float) - ROWS.numpy().mean(axis=0)
    left, values, directions = np.linalg.svd(centered, full_matrices=False)
    signs = np.sign(directions[np.arange(3), np.abs(directions[:3]).argmax(axis=1)])
    np.testing.assert_allclose(found.scores_MC, (left * values)[:, :3] * signs, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.shares_C, (values**2 / (values**2).sum())[:3], rtol=1e-4)


def test_the_signs_follow_the_rows_and_not_the_order() -> None:
    whole, turned = principal_components(ROWS, 2), principal_components(ROWS.flip(0), 2)
    torch.testing.assert_close(turned.scores_MC.flip(0), whole.scores_MC, rtol=1e-4, atol=1e-4)


def test_there_are_no_more_than_rows_or_columns() -> None:
    assert principal_components(ROWS, 9).scores_MC.shape == (40, 6)
    assert principal_components(ROWS[:2], 9).scores_MC.shape == (2, 2)


def test_rows_that_are_alike_have_no_variance_to_share() -> None:
    found = principal_components(torch.full((5, 4), 0.1), 2)
    assert torch.equal(found.shares_C, torch.zeros(2))
    assert found.scores_MC.abs().max() < 1e-6
