"""t-SNE against scikit-learn's."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sltdino.evaluation.tsne import trustworthiness, tsne, usable_perplexity

manifold = pytest.importorskip("sklearn.manifold")


@pytest.fixture(scope="module")
def points() -> NDArray[np.float32]:
    """150 points in 5 overlapping clouds in 12 dimensions."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(5, 12)).repeat(30, axis=0) * 2 + rng.normal(size=(150, 12))).astype(np.float32)


@pytest.fixture(scope="module")
def places(points: NDArray[np.float32]) -> NDArray[np.float64]:
    return tsne(points, perplexity=20)


def test_trustworthiness_is_scikit_learn_s(points: NDArray[np.float32], places: NDArray[np.float64]) -> None:
    for count in (3, 10):
        for candidate in (places, places[::-1], points[:, :2].astype(float)):
            theirs = manifold.trustworthiness(points, candidate, n_neighbors=count)
            assert trustworthiness(points, candidate, num_neighbours=count) == pytest.approx(theirs, abs=1e-9)


def test_it_keeps_neighbours_as_well_as_scikit_learn_s_and_better_than_two_components(
    points: NDArray[np.float32], places: NDArray[np.float64]
) -> None:
    theirs = manifold.TSNE(init="pca", method="exact", perplexity=20, random_state=0, max_iter=500)
    reference = trustworthiness(points, theirs.fit_transform(points).astype(float), num_neighbours=10)
    centered = points - points.mean(axis=0)
    flat = centered @ np.linalg.svd(centered, full_matrices=False)[2][:2].T
    ours = trustworthiness(points, places, num_neighbours=10)
    assert ours > reference - 0.01
    assert ours > trustworthiness(points, flat.astype(float), num_neighbours=10) + 0.02


def test_the_neighbourhoods_are_those_of_scikit_learn(points: NDArray[np.float32]) -> None:
    t_sne = pytest.importorskip("sklearn.manifold._t_sne")
    from scipy.spatial.distance import squareform

    from sltdino.evaluation import tsne as ours

    distances = ours._squared_distances(points.astype(float))
    theirs = squareform(t_sne._joint_probabilities(distances, 20, 0))
    np.testing.assert_allclose(ours._joint_probabilities(distances, 20), theirs, rtol=1e-3, atol=1e-9)


def test_the_gradient_is_that_of_the_divergence() -> None:
    from sltdino.evaluation import tsne as ours

    rng = np.random.default_rng(1)
    places = rng.normal(size=(7, 2))
    joint = ours._joint_probabilities(ours._squared_distances(rng.normal(size=(7, 4))), 2)

    def divergence(spots: NDArray[np.float64]) -> float:
        kernel = 1 / (1 + ((spots[:, None] - spots[None]) ** 2).sum(axis=-1))
        np.fill_diagonal(kernel, 0)
        apart = ~np.eye(7, dtype=bool)
        return float((joint[apart] * np.log(joint[apart] / (kernel / kernel.sum())[apart])).sum())

    numeric = np.zeros((7, 2))
    for where in np.ndindex(7, 2):
        step = np.zeros((7, 2))
        step[where] = 1e-5
        numeric[where] = (divergence(places + step) - divergence(places - step)) / 2e-5
    np.testing.assert_allclose(ours._gradient(joint, places), numeric, atol=1e-7)


def test_the_same_points_have_the_same_places(points: NDArray[np.float32]) -> None:
    assert np.array_equal(tsne(points[:40], perplexity=10), tsne(points[:40], perplexity=10))


@pytest.mark.parametrize("count", [8, 30])
def test_copies_and_few_points_have_finite_places(points: NDArray[np.float32], count: int) -> None:
    copies = points[:2].repeat(count // 2, axis=0)
    assert np.isfinite(tsne(copies, perplexity=usable_perplexity(count))).all()
    assert np.isfinite(tsne(points[:count], perplexity=usable_perplexity(count))).all()
