"""Linear probe: multinomial logistic regression on frozen features, its regularisation chosen on training images."""

import math
import warnings
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sltdino.core.rng import generator
from sltdino.errors import SettingsError

L2 = tuple(10.0**exponent for exponent in range(1, -6, -1))
"""Weights tried for half the squared norm of the matrix, beside the mean cross-entropy; the strongest first."""
HELD_OUT = 0.2
"""Share of the training images, or of their groups, on which it is chosen."""
_DEFAULT_L2 = 1e-2
_MOST_ITERATIONS = 1000
_ROUNDING = 1e-6  # eight times that of float32
_MOST_SCORES = 1 << 24  # held at once, 128 MB: of 100,000 images and 1,000 classes they would be 800 MB


def _rows(num_classes: int) -> int:
    """Images whose scores are computed at once."""
    return max(1, _MOST_SCORES // num_classes)


def _tolerance(l2: float) -> float:
    """Largest entry of the gradient at the end: divided by `l2` it bounds how far the weights are from the minimum."""
    return min(1e-4, l2 / 100)


class LinearFit(NamedTuple):
    """Scores `x @ weight.T + bias` of classes 0, 1, …, in float64."""

    weight_CD: Tensor
    bias_C: Tensor
    converged: bool


class Solver(Protocol):
    """Minimises mean cross-entropy + l2 / 2 · |weight|² over weight and bias, of `[N, D]` features in float64."""

    def __call__(self, x_ND: Tensor, labels_N: Tensor, *, l2: float, start: LinearFit | None) -> LinearFit: ...


class Probed(NamedTuple):
    """What the probe says."""

    predicted_B: Tensor
    """Class numbers of the queries."""
    l2: float
    """The regularisation that was chosen."""
    notes: tuple[str, ...]
    """What was not as it should be."""


def linear_probe(
    train_ND: Tensor,
    labels_N: Tensor,
    queries_BD: Tensor,
    *,
    groups_N: NDArray[np.int64] | None,
    solver: str,
) -> Probed:
    """Classify the queries by a linear map fitted to the training features.

    The regularisation is the one of `L2` with the lowest cross-entropy on a fifth of the training images, or of their
    groups, which the fits of the choice do not see; the final fit sees all. The queries take no part in it. Features
    are standardised by mean and standard deviation of the images that a fit sees. Of one class alone nothing is
    fitted: all queries are of it.

    Memory: the training features in float64, and some hundred MB.

    Args:
        labels_N: class numbers, 0-based.
        groups_N: groups of the training images that must not be torn apart, such as signers.
        solver: a row of `SOLVERS`; each gives the same numbers up to rounding.
    """
    if (labels_N == labels_N[0]).all():
        return Probed(labels_N[:1].expand(len(queries_BD)), _DEFAULT_L2, ())
    held_out_N, notes = _held_out(labels_N.numpy(), groups_N)
    l2 = _DEFAULT_L2
    if held_out_N.any():
        l2 = _choose(train_ND, labels_N, torch.from_numpy(held_out_N), SOLVERS[solver])
    fit = _Classifier(train_ND, labels_N, SOLVERS[solver])
    for strength in (value for value in L2 if value >= l2):  # from strong to weak, each the start of the next
        fit.fit(strength)
    if not fit.converged:
        notes += (f"linear probe: its fit had not converged after {_MOST_ITERATIONS:,} iterations (l2 = {l2:g})",)
    if l2 in (L2[0], L2[-1]):
        notes += (f"linear probe: l2 = {l2:g} is at the end of what is tried",)
    predicted = [fit.scores(part_bD).argmax(dim=-1) for part_bD in torch.split(queries_BD, _rows(fit.num_all))]
    return Probed(torch.cat(predicted), l2, notes)


class _Classifier:
    """Standardisation and a fit, over the classes that occur: an absent one would drive its bias to minus infinity."""

    def __init__(self, x_ND: Tensor, labels_N: Tensor, solver: Solver) -> None:
        x_ND = x_ND.to(torch.float64, copy=True)
        self._solver = solver
        self._fit: LinearFit | None = None
        self._mean_D, std_D = x_ND.mean(dim=0), x_ND.std(dim=0, correction=0)
        # what varies by the rounding of float32 alone is constant, else a collapsed network's noise is its features
        least_D = _ROUNDING * torch.maximum(std_D.max(), self._mean_D.abs())
        self._std_D = torch.where(std_D > least_D, std_D, torch.full_like(std_D, math.inf))
        self._x_ND = x_ND.sub_(self._mean_D).div_(self._std_D)
        self._basis_DN: Tensor | None = None
        if x_ND.shape[1] > len(x_ND):  # a penalty on the norm keeps the solution in the span of the images
            self._basis_DN = torch.linalg.qr(self._x_ND.T).Q
            self._x_ND = self._x_ND @ self._basis_DN
        self._classes, self._labels_N = torch.unique(labels_N, return_inverse=True)
        self.num_all = int(labels_N.max()) + 1

    @property
    def converged(self) -> bool:
        return self._fit is not None and self._fit.converged

    def fit(self, l2: float) -> None:
        self._fit = self._solver(self._x_ND, self._labels_N, l2=l2, start=self._fit)

    def scores(self, x_BD: Tensor) -> Tensor:
        """`[B, classes]`: minus infinity for classes that no training image has."""
        assert self._fit is not None
        x_BD = (x_BD.double() - self._mean_D) / self._std_D
        x_BD = x_BD if self._basis_DN is None else x_BD @ self._basis_DN
        known = x_BD @ self._fit.weight_CD.T + self._fit.bias_C
        scores = torch.full((len(x_BD), self.num_all), float("-inf"), dtype=torch.float64)
        scores[:, self._classes] = known
        return scores


def _choose(train_ND: Tensor, labels_N: Tensor, held_out_N: Tensor, solver: Solver) -> float:
    """The `l2` of lowest cross-entropy on the part held out, which is steadier there than the accuracy of few images.

    From strong to weak it falls and then rises: two values above the lowest end the search, before the slow fits.
    """
    fit = _Classifier(train_ND[~held_out_N], labels_N[~held_out_N], solver)
    known_N = torch.isin(labels_N, labels_N[~held_out_N]) & held_out_N
    found = list[float]()
    for l2 in L2:
        fit.fit(l2)
        found.append(F.cross_entropy(fit.scores(train_ND[known_N]), labels_N[known_N]).item())
        if len(found) - 1 - found.index(min(found)) == 2:
            break
    return L2[found.index(min(found))]


def _held_out(
    labels_N: NDArray[np.int64], groups_N: NDArray[np.int64] | None
) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Which training images the regularisation is chosen on: whole groups, or a fifth of each class."""
    rng, notes = generator(0, "linear probe"), tuple[str, ...]()
    if groups_N is not None:
        groups = rng.permutation(np.unique(groups_N))
        held_out = np.isin(groups_N, groups[: max(1, round(HELD_OUT * len(groups)))])
        if len(groups) > 1 and len(np.unique(labels_N[~held_out])) > 1 and _serves(labels_N, held_out):
            return held_out, ()
        notes = ("linear probe: too few groups to choose l2 by group, so it is chosen by image",)
    held_out = np.zeros(len(labels_N), dtype=bool)
    for label in np.unique(labels_N):
        rows = rng.permutation(np.flatnonzero(labels_N == label))
        held_out[rows[: min(len(rows) - 1, max(1, round(HELD_OUT * len(rows))))]] = True
    if not held_out.any():
        notes += (f"linear probe: l2 = {_DEFAULT_L2:g} without a choice, because no class has two training images",)
    return held_out, notes


def _serves(labels_N: NDArray[np.int64], held_out_N: NDArray[np.bool_]) -> bool:
    return bool(np.isin(labels_N[held_out_N], labels_N[~held_out_N]).any())


def fit_with_torch(x_ND: Tensor, labels_N: Tensor, *, l2: float, start: LinearFit | None) -> LinearFit:
    """`Solver` by torch's L-BFGS with the strong Wolfe line search, in float64 on the CPU."""
    num_classes = int(labels_N.max()) + 1
    if start is None:
        start = LinearFit(x_ND.new_zeros(num_classes, x_ND.shape[1]), x_ND.new_zeros(num_classes), False)
    weight, bias = start.weight_CD.clone().requires_grad_(), start.bias_C.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_MOST_ITERATIONS,
        max_eval=2 * _MOST_ITERATIONS,
        history_size=20,
        tolerance_grad=_tolerance(l2),
        tolerance_change=0.0,  # a short step is no reason to stop
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = l2 / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        rows = _rows(num_classes)
        for x_nD, labels_n in zip(torch.split(x_ND, rows), torch.split(labels_N, rows), strict=True):
            part = F.cross_entropy(F.linear(x_nD, weight, bias), labels_n, reduction="sum") / len(x_ND)
            part.backward()  # type: ignore[no-untyped-call]
            value = value.detach() + part.detach()
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
        loss()
    assert weight.grad is not None
    assert bias.grad is not None
    largest = max(weight.grad.abs().max().item(), bias.grad.abs().max().item())
    return LinearFit(weight.detach(), bias.detach(), largest <= _tolerance(l2))


def fit_with_sklearn(x_ND: Tensor, labels_N: Tensor, *, l2: float, start: LinearFit | None) -> LinearFit:
    """`Solver` by scikit-learn, which knows no start."""
    linear_model, exceptions = _sklearn()
    # it minimises |weight|² / 2 + C · (sum of cross-entropies); of two classes it fits the difference, whose squared
    # norm is twice that of a pair of opposite rows
    num_classes = int(labels_N.max()) + 1
    strength = (2 if num_classes == 2 else 1) / (l2 * len(labels_N))
    model = linear_model.LogisticRegression(C=strength, tol=_tolerance(l2), max_iter=_MOST_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)  # told by the number of iterations
        model.fit(x_ND.numpy(), labels_N.numpy())
    weight, bias = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
    if num_classes == 2:
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    return LinearFit(weight, bias, bool(model.n_iter_.max() < _MOST_ITERATIONS))


SOLVERS: dict[str, Solver] = {"torch": fit_with_torch, "sklearn": fit_with_sklearn}


def check_solver(solver: str) -> None:
    """Refuse a solver that is not installed.

    Raises:
        SettingsError: with the line that installs it.
    """
    if solver not in SOLVERS:
        raise SettingsError(f"--solver: {solver} is none; choose {' or '.join(SOLVERS)}")
    if solver == "sklearn":
        _sklearn()


def _sklearn() -> tuple[Any, Any]:
    try:
        from sklearn import exceptions, linear_model
    except ImportError as error:
        reason = "is not installed" if error.name == "sklearn" else f"does not import ({error})"
        raise SettingsError(
            f"--solver sklearn: scikit-learn {reason}; pip install 'sltdino[sklearn]', or take --solver torch"
        ) from error
    return linear_model, exceptions
