"""Gradients through libsvm's solution against central differences, away from changes of the support vectors."""

from __future__ import annotations

import numpy as np
import pytest

from upstairs.inner.hinge_gradient import hinge_loss, solved_exactly


def problem(number):
    """One of: two classes, three, a regression; linear, Gaussian, a scale for every feature."""
    kind, form = ("binary", "multi", "regression")[number % 3], ("linear", "rbf", "ard")[(number // 3) % 3]
    rng = np.random.default_rng(number)
    x, query, w = rng.normal(size=(50, 5)), rng.normal(size=(40, 5)), rng.normal(size=5)
    signal, wanted = (rows @ w + 0.5 * np.sin(2.0 * rows[:, 0]) for rows in (x, query))
    ways = {"binary": 2, "multi": 3, "regression": 0}[kind]
    params = {
        "cost": 0.7 * rng.normal(size=max(ways, 1)),
        "scale": 0.3 * rng.normal(size=5 if form == "ard" else 1) - 1.0,
    }
    if not ways:
        params["epsilon"] = np.asarray(np.log(0.2))
        return params, x, signal + 0.2 * rng.normal(size=50), query, wanted, form, True
    params["slope"] = np.asarray(0.3)
    cut = np.quantile(signal, np.arange(1, ways) / ways)
    y = np.searchsorted(cut, signal + 0.5 * rng.normal(size=50))
    return params, x, y, query, np.searchsorted(cut, wanted), form, False


def test_fifty_problems_agree_with_central_differences():
    errors = []
    for number in range(50):
        params, x, y, query, target, form, regression = problem(number)
        kernel = "linear" if form == "linear" else "rbf"

        def loss(changed, x=x, y=y, query=query, target=target, kernel=kernel, regression=regression):
            return hinge_loss(changed, x, y, query, target, kernel=kernel, regression=regression)

        gradient = loss(params)[1]
        for name, value in params.items():
            direction = np.random.default_rng(number).normal(size=np.shape(value))
            ahead, behind = (loss(params | {name: value + sign * 1e-5 * direction})[0] for sign in (1.0, -1.0))
            want = (ahead - behind) / 2e-5
            errors.append(abs(float((gradient[name] * direction).sum()) - want) / max(abs(want), 1e-6))
    assert np.median(errors) < 1e-6
    assert np.quantile(errors, 0.95) < 1e-2


def test_a_class_without_rows_has_no_machine_and_no_gradient():
    params, x, y, query, target, _, _ = problem(1)
    keep = y < 2
    loss, gradient = hinge_loss(params, x[keep], y[keep], query, target)
    assert np.isfinite(loss)
    assert gradient["cost"][2] == 0.0


@pytest.mark.parametrize("cost", [0.01, 1.0, 100.0])
def test_the_solution_meets_its_conditions(cost):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    sign = np.sign(x[:, 0] + 0.5 * rng.normal(size=40))
    kernel = np.exp(-0.3 * np.square(x[:, None] - x).sum(axis=2))
    found = solved_exactly(kernel, sign, np.full(40, cost))
    margin = sign * (kernel @ found.beta + found.intercept)
    assert abs(found.beta.sum()) < 1e-8 * cost + 1e-10
    assert np.abs(margin[found.free] - 1.0).max(initial=0.0) < 1e-6
    assert (margin[found.beta == 0] > 1.0 - 1e-3).all()
    assert (margin[(found.beta != 0) & ~found.free] < 1.0 + 1e-3).all()
