from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from upstairs.outer.empirical_bayes import learn_gaussian, moments


def _family(tasks: int = 30, rows: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, rows, tasks)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    phi = np.column_stack([np.ones(offsets[-1]), rng.standard_normal((offsets[-1], 3))])
    weights = np.array([1.0, 2.0, 0.0, -1.0]) + rng.standard_normal((tasks, 4)) * [1.0, 0.5, 0.3, 0.0]
    y = (phi * np.repeat(weights, counts, axis=0)).sum(axis=1) + 0.3 * rng.standard_normal(offsets[-1])
    return phi, y, offsets, weights


def test_moments_are_sums_over_the_rows_of_a_task() -> None:
    phi, y, offsets, _ = _family()
    stats = moments(phi, y, offsets)
    rows = slice(offsets[3], offsets[4])
    np.testing.assert_allclose(stats.gram[3], phi[rows].T @ phi[rows])
    np.testing.assert_allclose(stats.cross[3], phi[rows].T @ y[rows])
    np.testing.assert_allclose(stats.square[3], y[rows] @ y[rows])


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("strength", [0.0, 5.0])
@pytest.mark.parametrize("random", [None, np.array([0]), np.array([0, 3])])
def test_every_step_raises_the_objective(diagonal: bool, strength: float, random: np.ndarray | None) -> None:
    phi, y, offsets, _ = _family()
    found = learn_gaussian(
        moments(phi, y, offsets), random=random, diagonal=diagonal, strength=strength, target=0.01, tolerance=0.0
    )
    assert len(found.history) > 10
    assert np.diff(found.history).min() > -1e-8


def test_collinear_columns_keep_the_objective_rising() -> None:
    phi, y, offsets, _ = _family()
    onehot = (np.arange(len(y))[:, None] % 3 == np.arange(3)).astype(float)  # adds up to the first column
    found = learn_gaussian(moments(np.column_stack([phi, onehot]), y, offsets), strength=5.0, target=0.01)
    assert np.diff(found.history).min() > -1e-6
    assert np.isfinite(found.mean).all()


def test_the_objective_is_the_log_marginal_likelihood() -> None:
    phi, y, offsets, _ = _family(tasks=6)
    found = learn_gaussian(moments(phi, y, offsets), max_iter=60, tolerance=0.0, ridge=1e-10)
    expected = 0.0
    for start, end in pairwise(offsets):
        rows = phi[start:end]
        cover = rows @ found.covariance @ rows.T + found.noise * np.eye(end - start)
        expected += multivariate_normal(rows @ found.mean, cover).logpdf(y[start:end])
    # the last entry was computed just before the last step
    assert found.history[-1] == pytest.approx(expected, abs=0.2)
    assert expected >= found.history[-1] - 1e-6


def test_the_truth_is_found_with_many_tasks() -> None:
    phi, y, offsets, _ = _family(tasks=800, rows=20)
    found = learn_gaussian(moments(phi, y, offsets), max_iter=500)
    np.testing.assert_allclose(found.mean, [1.0, 2.0, 0.0, -1.0], atol=0.15)
    np.testing.assert_allclose(np.diag(found.covariance), np.square([1.0, 0.5, 0.3, 0.0]), atol=0.1)
    assert found.noise == pytest.approx(0.09, rel=0.1)


def test_two_tasks_of_one_row_and_constant_targets_are_finite() -> None:
    phi, offsets = np.ones((2, 3)), np.array([0, 1, 2])
    for y in (np.array([1.0, 2.0]), np.array([0.0, 0.0])):
        found = learn_gaussian(moments(phi, y, offsets), strength=5.0, target=0.01)
        assert np.isfinite(found.mean).all()
        assert np.isfinite(found.covariance).all()
        assert found.noise > 0
