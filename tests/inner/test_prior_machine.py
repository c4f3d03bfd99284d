"""Squared-hinge machines with a prior: solved exactly, in NumPy and JAX alike, with exact gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from scipy.special import softmax
from tests.inner.gradient_cases import agrees_with_central_differences

from upstairs.inner.gaussian import BayesianLinear
from upstairs.inner.prior_machine import PriorMachine
from upstairs.inner.rule import Rows
from upstairs.inner.squared_hinge import solve_squared
from upstairs.inner.traced import Spec, TaskRows
from upstairs.inner.traced_machine import TracedMachine, natural

CASES = {
    "regression": (0, ("linear", "rbf", "poly"), False),
    "two classes": (2, ("linear", "rbf"), False),
    "three classes": (3, ("rbf",), False),
    "own classes": (3, ("linear", "rbf"), True),
}


def problem(name, rows=12):
    """A rule, params none of which is special, and one task with rows that are masked out."""
    ways, parts, own = CASES[name]
    rule = TracedMachine(
        ways, parts, own=own, trained=("cost", "lift", "spread", "level", "rbf", "map", "factor", "mean")
    )
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        made = rule.init(jax.random.key(0), Spec((4,), ways))
    params = {key: np.asarray(value, np.float64) for key, value in made.items()}
    params["mean"] = params["mean"] + (0.0 if own else 0.2)
    params["cost"] = params["cost"] + 0.7
    if ways == 0:
        params["epsilon"] = np.asarray(-2.0)
    x, query = rng.normal(size=(rows, 4)), rng.normal(size=(5, 4))
    y = np.sin(x.sum(axis=1)) if ways == 0 else np.arange(rows) % ways
    target = np.sin(query.sum(axis=1)) if ways == 0 else np.arange(5) % ways
    return rule, params, (x, y, np.arange(rows) < rows - 1), (query, target, np.ones(5, bool))


@pytest.mark.parametrize("name", CASES)
def test_numpy_and_jax_agree_and_gradients_are_exact(name):
    rule, params, support, query = problem(name)
    with jax.enable_x64(True):
        rows = TaskRows(*map(jnp.asarray, support))
        other = TaskRows(*map(jnp.asarray, query))
        double = {key: jnp.asarray(value) for key, value in params.items()}
        traced = rule.predict(double, rule.adapt(double, *rows), other.x)
        said = [np.asarray(part) for part in traced]
        agrees_with_central_differences(lambda p: rule.outer_loss(p, rows, other, jax.random.key(0)), double, rel=1e-5)
    plain = PriorMachine("classification" if rule.ways else "regression", rule.own)
    flat = natural(params, np)
    found = plain.predict(flat, plain.adapt(flat, Rows(*(part[None] for part in support))), query[0][None])
    if rule.ways == 0:
        assert_allclose(found.mean[0], said[0], atol=1e-10)
        assert_allclose(found.variance[0], said[1], atol=1e-10)
    else:
        assert_allclose(found.probability[0], softmax(said[0], axis=1), atol=1e-10)


@pytest.mark.parametrize("epsilon", [None, 0.0, 0.3])
def test_the_solution_is_the_optimum(epsilon):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(25, 6))
    kernel, cost = root @ root.T, rng.uniform(0.5, 3.0, 25)
    target = np.sign(rng.normal(size=25)) if epsilon is None else rng.normal(size=25)
    rest = target - 0.2 * rng.normal(size=25)
    sign = None if epsilon is not None else target[None]
    found = solve_squared(kernel[None], rest[None], sign, cost[None], epsilon or 0.0)

    def objective(w):
        left = rest - root @ w
        lost = np.maximum(target * left, 0.0) if epsilon is None else np.maximum(np.abs(left) - epsilon, 0.0)
        return 0.5 * w @ w + 0.5 * (cost * lost**2).sum()

    best = minimize(objective, np.zeros(6), method="BFGS", options={"gtol": 1e-9, "maxiter": 5000})
    assert found.objective[0] == pytest.approx(best.fun, rel=1e-8)
    assert_allclose(kernel @ found.alpha[0], root @ best.x, atol=1e-5)
    warm = solve_squared(kernel[None], rest[None], sign, cost[None], epsilon or 0.0, found.active)
    assert_allclose(warm.alpha, found.alpha, atol=1e-10)


def test_a_regression_without_epsilon_is_the_gaussian_prior():
    rng = np.random.default_rng(0)
    x, y, new = rng.normal(size=(1, 7, 3)), rng.normal(size=(1, 7)), rng.normal(size=(1, 4, 3))
    mean, factor = rng.normal(size=(1, 4)), rng.normal(size=(1, 4, 4))
    rows = Rows(x, y, np.ones((1, 7), bool))
    linear = {"weight": np.ones(1), "mean": mean, "factor": factor, "noise": np.array([0.3])}
    want = BayesianLinear().predict(linear, BayesianLinear().adapt(linear, rows), new)
    params = {"mean": mean, "factor": factor, "cost": np.array([1 / 0.3]), "noise": np.asarray(0.3)}
    rule = PriorMachine("regression")
    found = rule.predict(params, rule.adapt(params, rows), new)
    assert_allclose(found.mean, want.mean, rtol=1e-9)
    assert_allclose(found.variance, want.variance, rtol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_more_rows_are_as_if_they_had_been_there(name):
    rule, params, (x, y, _), (query, _, _) = problem(name, rows=20)
    flat = natural(params, np)
    plain = PriorMachine("classification" if rule.ways else "regression", rule.own)
    whole = Rows(x[None], y[None], np.ones((1, 20), bool))
    first = Rows(x[None, :11], y[None, :11], np.ones((1, 11), bool))
    rest = Rows(x[None, 11:], y[None, 11:], np.ones((1, 9), bool))
    told = plain.update(flat, plain.adapt(flat, first), rest)
    want = plain.predict(flat, plain.adapt(flat, whole), query[None])
    got = plain.predict(flat, told, query[None])
    for part in ("mean", "variance") if rule.ways == 0 else ("probability",):
        assert_allclose(getattr(got, part), getattr(want, part), atol=1e-9)


def test_parts_of_the_kernel_are_checked():
    with pytest.raises(ValueError, match="parts of the kernel must be some of linear, rbf, poly"):
        TracedMachine(2, ("sigmoid",))
