"""The dual solver: gap, optimality conditions, other solvers, and derivatives against central differences."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.svm import LinearSVC

from upstairs.inner.svm_dual import duality_gap, solve_dual

ROWS, WAYS, FEATURES = 12, 3, 4
SOLVE = jax.jit(solve_dual)
GAP = jax.jit(duality_gap)


def _squares(kernel: Any, cost: Any, target: Any, valid: Any) -> Any:
    alpha = solve_dual(kernel, cost, target, valid)
    return jnp.square(alpha).sum(), alpha


SLOPE = jax.jit(jax.grad(_squares, has_aux=True))


def problem(seed: int, regulariser: float = 1.0, spread: float = 1.0, ways: int = WAYS) -> tuple[np.ndarray, ...]:
    """Unequal shots, two masked rows (the last), and no row of the last class if there are more than three."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.array([0] * 6 + [1] * 4 + [min(2, ways - 1)] * 2))
    features = spread * (rng.normal(size=(ROWS, FEATURES)) + rng.normal(size=(WAYS, FEATURES))[y])
    mask = np.arange(ROWS) < ROWS - 2
    target = np.eye(ways)[y].T * mask
    valid = (target.sum(axis=1) > 0)[:, None] & mask
    return features, features @ features.T + regulariser * np.eye(ROWS), target, valid


@pytest.mark.parametrize("cost", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_optimality_conditions_hold(cost: float, spread: float) -> None:
    with jax.enable_x64(True):
        for seed in range(3):
            _, kernel, target, valid = problem(seed, spread=spread)
            alpha = np.asarray(SOLVE(kernel, jnp.asarray(cost), target, valid))
            assert 0.0 <= float(GAP(kernel, jnp.asarray(cost), target, valid, alpha)) < 1e-8
            np.testing.assert_allclose(alpha.sum(axis=0), 0.0, atol=1e-12 * cost)
            assert (alpha <= cost * target + 1e-12 * cost).all()
            np.testing.assert_array_equal(alpha[~valid], 0.0)
            # every variable below its bound has the largest reach of its row, which makes the objective stationary
            reach = np.where(valid, alpha @ kernel - target, -np.inf)
            below = (cost * target - alpha) > 1e-6 * cost
            top = np.broadcast_to(reach.max(axis=0), reach.shape)
            np.testing.assert_allclose(reach[below & valid], top[below & valid], atol=1e-6)


def test_the_gap_is_primal_minus_dual() -> None:
    with jax.enable_x64(True):
        features, kernel, target, valid = problem(0, regulariser=1e-9)
        cost, rng = 0.3, np.random.default_rng(0)
        others = np.where(valid & (target == 0), rng.uniform(0.0, 0.1, target.shape), 0.0)
        alpha = target * others.sum(axis=0) - others
        weights = alpha @ features
        margins = np.where(valid, weights @ features.T + 1.0 - target, -np.inf)[:, :-2]
        hinge = margins.max(axis=0) - (weights @ features.T * target).sum(axis=0)[:-2]
        primal = 0.5 * (weights**2).sum() + cost * hinge.sum()
        dual = (alpha * target).sum() - 0.5 * (weights**2).sum()
        found = float(GAP(kernel, jnp.asarray(cost), target, valid, alpha))
        assert found == pytest.approx(primal - dual, rel=1e-6)


def test_general_solvers_find_the_same() -> None:
    with jax.enable_x64(True):
        cost = 0.5
        _, kernel, target, valid = problem(1)
        alpha = np.asarray(SOLVE(kernel, jnp.asarray(cost), target, valid))
        bounds = [(None if v else 0.0, cost * t if v else 0.0) for t, v in zip(target.flat, valid.flat, strict=True)]

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            a = flat.reshape(target.shape)
            return 0.5 * np.einsum("kn,nm,km", a, kernel, a) - (a * target).sum(), (a @ kernel - target).ravel()

        sums = {
            "type": "eq",
            "fun": lambda flat: flat.reshape(target.shape)[:, :-2].sum(axis=0),
            "jac": lambda _: np.tile(np.eye(ROWS), WAYS)[:-2],
        }
        start = np.zeros(target.size)
        options = {"maxiter": 500, "ftol": 1e-14}
        other = minimize(objective, start, jac=True, bounds=bounds, constraints=sums, method="SLSQP", options=options)
        assert objective(alpha.ravel())[0] <= other.fun + 1e-10
        np.testing.assert_allclose(alpha.ravel(), other.x, atol=1e-5)


def test_scikit_learn_finds_the_same_weights() -> None:
    with jax.enable_x64(True):
        features, _, target, valid = problem(2)
        kernel = features @ features.T + 1e-7 * np.eye(ROWS)
        weights = np.asarray(SOLVE(kernel, jnp.asarray(0.2), target, valid)) @ features
        other = LinearSVC(
            multi_class="crammer_singer", C=0.2, fit_intercept=False, tol=1e-10, max_iter=200_000, random_state=0
        ).fit(features[:-2], target.argmax(axis=0)[:-2])
        np.testing.assert_allclose(weights, other.coef_, rtol=1e-4, atol=1e-4)


def test_derivatives_are_central_differences() -> None:
    with jax.enable_x64(True):
        features, _, target, valid = problem(3)
        rng = np.random.default_rng(0)
        weight, direction = rng.normal(size=target.shape), rng.normal(size=features.shape)

        def value(features: Any, cost: Any) -> Any:
            kernel = features @ features.T + jnp.eye(ROWS)
            return (weight * solve_dual(kernel, cost, jnp.asarray(target), jnp.asarray(valid))).sum()

        both, step = jax.jit(jax.value_and_grad(value, (0, 1))), 1e-6
        for cost in (0.02, 0.2, 5.0):
            by_features, by_cost = both(jnp.asarray(features), jnp.asarray(cost))[1]
            ends = [float(both(features + sign * step * direction, jnp.asarray(cost))[0]) for sign in (1.0, -1.0)]
            expected = (ends[0] - ends[1]) / (2 * step)
            assert float((by_features * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-9)
            ends = [float(both(jnp.asarray(features), jnp.asarray(cost * (1.0 + s)))[0]) for s in (step, -step)]
            expected = (ends[0] - ends[1]) / (2 * step * cost)
            assert float(by_cost) == pytest.approx(expected, rel=1e-5, abs=1e-9)
            np.testing.assert_array_equal(by_features[-2:], 0.0)


def test_rows_and_classes_that_take_no_part() -> None:
    with jax.enable_x64(True):
        _, kernel, target, valid = problem(4, ways=2)
        whole = SOLVE(kernel, jnp.asarray(0.1), target, valid)
        other = np.where(valid.any(axis=0), kernel, 123.0)  # what is masked out counts for nothing
        np.testing.assert_allclose(SOLVE(other, jnp.asarray(0.1), target, valid), whole, atol=1e-12)
        empty = np.concatenate([target, np.zeros((1, ROWS))])
        wider = SOLVE(kernel, jnp.asarray(0.1), empty, np.concatenate([valid, np.zeros((1, ROWS), bool)]))
        np.testing.assert_allclose(wider[:2], whole, atol=1e-12)
        np.testing.assert_array_equal(wider[2], 0.0)
        # no rows at all, and rows of one class alone
        np.testing.assert_array_equal(SOLVE(kernel, jnp.asarray(0.1), 0.0 * target, valid & False), 0.0)
        one = (np.arange(2) == 0)[:, None] & valid
        np.testing.assert_allclose(SOLVE(kernel, jnp.asarray(0.1), 1.0 * one, one), 0.0, atol=1e-12)


def test_single_precision_is_near_double() -> None:
    for spread in (0.3, 1.0, 10.0):
        _, kernel, target, valid = problem(5, spread=spread)
        slope, found = SLOPE(*(jnp.asarray(array, jnp.float32) for array in (kernel, 0.1, target)), valid)
        with jax.enable_x64(True):
            exact_slope, exact = map(np.asarray, SLOPE(kernel, jnp.asarray(0.1), target, valid))
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, exact, atol=1e-4 * np.abs(exact).max())
        np.testing.assert_allclose(slope, exact_slope, atol=2e-3 * np.abs(exact_slope).max())
