"""The linear probe, against scikit-learn on the pictures of its digits."""

import builtins
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sltdino.errors import SettingsError
from sltdino.evaluation import linear_probe as module
from sltdino.evaluation.linear_probe import L2, LinearFit, check_solver, fit_with_torch, linear_probe

PIXELS, LABELS = load_digits(return_X_y=True)
ORDER = np.random.default_rng(0).permutation(len(LABELS))
X, Y = torch.from_numpy(PIXELS[ORDER]).float(), torch.from_numpy(LABELS[ORDER]).long()
TRAIN, VAL = slice(0, 300), slice(300, 1100)


def share_right(predicted: torch.Tensor) -> float:
    return (predicted == Y[VAL]).double().mean().item()


def test_its_accuracy_is_that_of_scikit_learn_at_the_same_regularisation() -> None:
    ours = linear_probe(X[TRAIN], Y[TRAIN], X[VAL], groups_N=None, solver="torch")
    scaler = StandardScaler().fit(PIXELS[ORDER][TRAIN])
    theirs = LogisticRegression(C=1 / (ours.l2 * 300), tol=1e-6, max_iter=5000)
    theirs.fit(scaler.transform(PIXELS[ORDER][TRAIN]), LABELS[ORDER][TRAIN])
    expected = theirs.score(scaler.transform(PIXELS[ORDER][VAL]), LABELS[ORDER][VAL])
    assert share_right(ours.predicted_B) == pytest.approx(expected, abs=0.005)
    assert expected > 0.9


@pytest.mark.parametrize("classes", [2, 10])
def test_both_solvers_give_the_same_within_half_a_point(classes: int) -> None:
    rows = classes > Y
    train, labels, val = X[rows][:250], Y[rows][:250], X[rows][250:]
    one, other = (linear_probe(train, labels, val, groups_N=None, solver=name) for name in ("torch", "sklearn"))
    right = [(found.predicted_B == Y[rows][250:]).double().mean().item() for found in (one, other)]
    assert one.l2 == other.l2
    assert right[0] == pytest.approx(right[1], abs=0.005)


@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
def test_the_fit_is_the_minimum(l2: float) -> None:
    x = (X[TRAIN].double() - X[TRAIN].double().mean(0)) / 4
    fit = fit_with_torch(x, Y[TRAIN], l2=l2, start=None)
    assert fit.converged
    # the gradient, written down: neither the penalty on the bias nor a sum in place of a mean would vanish here
    error = torch.softmax(x @ fit.weight_CD.T + fit.bias_C, 1) - torch.nn.functional.one_hot(Y[TRAIN], 10)
    np.testing.assert_allclose(error.T @ x / 300 + l2 * fit.weight_CD, 0, atol=1.1e-4)
    np.testing.assert_allclose(error.mean(0), 0, atol=1.1e-4)


def test_more_numbers_than_images_give_what_scikit_learn_gives_of_all_of_them() -> None:
    wide = torch.cat([X, X.square(), torch.randn(len(X), 300, generator=torch.Generator().manual_seed(0))], dim=1)
    ours = linear_probe(wide[:200], Y[:200], wide[VAL], groups_N=None, solver="torch")
    scaler = StandardScaler().fit(wide[:200].numpy())
    theirs = LogisticRegression(C=1 / (ours.l2 * 200), tol=1e-6, max_iter=5000)
    theirs.fit(scaler.transform(wide[:200].numpy()), Y[:200].numpy())
    agree = theirs.predict(scaler.transform(wide[VAL].numpy())) == ours.predicted_B.numpy()
    assert agree.mean() > 0.995


def test_regularisation_is_chosen_where_a_group_is_never_torn_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    groups_N = np.arange(300) // 10
    seen: list[Any] = []
    real = module._choose
    monkeypatch.setattr(module, "_choose", lambda *args: seen.append(args) or real(*args))
    found = linear_probe(X[TRAIN], Y[TRAIN], X[VAL], groups_N=groups_N, solver="torch")
    held_out = seen[0][2].numpy()
    assert held_out.sum() == 60
    assert not set(groups_N[held_out]) & set(groups_N[~held_out])
    assert found.l2 in L2


def test_identical_images_of_a_group_do_not_lead_it_astray() -> None:
    """Labels that only the group knows: by image, a weak penalty looks best, which learns the groups by heart."""
    generator = torch.Generator().manual_seed(0)
    groups = np.repeat(np.arange(30), 20)
    base, noise = torch.randn(30, 60, generator=generator), torch.randn(600, 60, generator=generator)
    labels = torch.arange(30)[groups] % 2
    features = base[groups] + 0.05 * noise
    features[:, 0] = 0.7 * (2 * labels - 1) + torch.randn(600, generator=generator)
    by_group, by_image = (
        linear_probe(features, labels, features, groups_N=given, solver="torch").l2 for given in (groups, None)
    )
    assert by_group > by_image


def test_a_constant_feature_changes_nothing() -> None:
    padded = torch.cat([X, torch.full((len(X), 1), 3.0)], dim=1)
    one, other = (linear_probe(x[TRAIN], Y[TRAIN], x[VAL], groups_N=None, solver="torch") for x in (X, padded))
    assert torch.equal(one.predicted_B, other.predicted_B)


def test_the_same_call_gives_the_same_numbers() -> None:
    one, other = (linear_probe(X[TRAIN], Y[TRAIN], X[VAL], groups_N=None, solver="torch") for _ in range(2))
    assert torch.equal(one.predicted_B, other.predicted_B)


def test_classes_that_no_training_image_has_are_never_predicted() -> None:
    kept = (Y[TRAIN] != 3) & (Y[TRAIN] != 0)
    found = linear_probe(X[TRAIN][kept], Y[TRAIN][kept], X[VAL], groups_N=None, solver="torch")
    assert set(found.predicted_B.tolist()) == {1, 2, 4, 5, 6, 7, 8, 9}


def test_one_image_a_class_leaves_nothing_to_choose_by_and_that_is_said() -> None:
    rows = [int((label == Y).nonzero()[0]) for label in range(10)]
    found = linear_probe(X[rows], Y[rows], X[VAL], groups_N=None, solver="torch")
    assert found.notes == ("linear probe: l2 = 0.01 without a choice, because no class has two training images",)
    assert share_right(found.predicted_B) > 0.3


def test_one_group_is_too_few_to_choose_by_and_that_is_said() -> None:
    found = linear_probe(X[TRAIN], Y[TRAIN], X[VAL], groups_N=np.zeros(300, dtype=np.int64), solver="torch")
    assert "linear probe: too few groups to choose l2 by group, so it is chosen by image" in found.notes


def test_a_fit_that_has_not_converged_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_ITERATIONS", 3)
    notes = linear_probe(X[TRAIN], Y[TRAIN], X[VAL], groups_N=None, solver="torch").notes
    assert [note for note in notes if "its fit had not converged after 3 iterations" in note]


def test_too_few_iterations_have_not_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_ITERATIONS", 5)
    for solver in module.SOLVERS.values():
        fit: LinearFit = solver(X[TRAIN].double(), Y[TRAIN], l2=1e-3, start=None)
        assert not fit.converged


def test_without_scikit_learn_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "sklearn":
            raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(SettingsError, match=r"is not installed; pip install 'sltdino\[sklearn\]', or take --solver"):
        check_solver("sklearn")
    check_solver("torch")


def test_what_varies_by_rounding_alone_is_no_feature() -> None:
    """A collapsed network: the same feature for every image, but for the last bits of float32."""
    noise = torch.rand(400, 64, generator=torch.Generator().manual_seed(0)) - 0.5
    features = 5 * (1 + 2e-7 * noise)
    labels = (noise[:, 0] > 0.2).long()  # which those bits know
    found = linear_probe(features[:300], labels[:300], features[300:], groups_N=None, solver="torch")
    assert features.std(dim=0).min() > 0
    assert found.predicted_B.unique().tolist() == [0]


def test_in_parts_the_fit_is_that_of_all_images_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = fit_with_torch(X[TRAIN].double(), Y[TRAIN], l2=0.1, start=None)
    monkeypatch.setattr(module, "_MOST_SCORES", 10 * 7)
    in_parts = fit_with_torch(X[TRAIN].double(), Y[TRAIN], l2=0.1, start=None)
    torch.testing.assert_close(in_parts.weight_CD, at_once.weight_CD, rtol=0, atol=1e-2)
    assert in_parts.converged


def test_the_given_features_are_left_as_they_are() -> None:
    features, before = X[TRAIN].double(), X[TRAIN].double().clone()
    linear_probe(features, Y[TRAIN], X[VAL], groups_N=None, solver="torch")
    assert torch.equal(features, before)


def test_of_one_class_alone_all_queries_are() -> None:
    found = linear_probe(X[:5], torch.full((5,), 3), X[VAL], groups_N=None, solver="torch")
    assert set(found.predicted_B.tolist()) == {3}
