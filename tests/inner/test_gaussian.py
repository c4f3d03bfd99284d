from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.linear_model import BayesianRidge

from upstairs.inner.gaussian import BayesianLinear, _inverse, factor, log_evidence, posterior
from upstairs.inner.rule import Rows

RULE = BayesianLinear()


def _prior(seed: int, columns: int = 4, components: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "weight": rng.dirichlet(np.ones(components)),
        "mean": rng.standard_normal((components, columns + 1)),
        "factor": rng.standard_normal((components, columns + 1, columns + 1)),
        "noise": rng.uniform(0.2, 1.0, components),
    }


def _rows(seed: int, counts: list[int], columns: int = 4, longest: int | None = None) -> Rows:
    rng = np.random.default_rng(seed)
    longest = max(counts) if longest is None else longest
    x, y = np.zeros((len(counts), longest, columns)), np.zeros((len(counts), longest))
    mask = np.zeros((len(counts), longest), dtype=bool)
    for t, count in enumerate(counts):
        x[t, :count], y[t, :count] = rng.standard_normal((count, columns)), rng.standard_normal(count)
        mask[t, :count] = True
    return Rows(x, y, mask)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12), st.integers(1, 8), st.integers(0, 1000))
def test_posterior_is_the_textbook_formula(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((columns, columns))
    covariance = half @ half.T + 0.1 * np.eye(columns)
    mean, noise = rng.standard_normal(columns), 0.3
    phi, y = rng.standard_normal((rows, columns)), rng.standard_normal(rows)
    precision = np.linalg.inv(covariance) + phi.T @ phi / noise
    expected = np.linalg.solve(precision, np.linalg.solve(covariance, mean) + phi.T @ y / noise)
    found, spread = posterior(mean, covariance, noise, phi, y)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(spread, np.linalg.inv(precision), rtol=0, atol=1e-9)


def test_log_evidence_is_the_marginal_normal_density() -> None:
    rng = np.random.default_rng(1)
    covariance, mean, phi, y = (
        np.diag([2.0, 0.5, 0.0]),
        rng.standard_normal(3),
        rng.standard_normal((6, 3)),
        rng.standard_normal(6),
    )
    expected = multivariate_normal(phi @ mean, phi @ covariance @ phi.T + 0.4 * np.eye(6)).logpdf(y)
    assert log_evidence(mean, covariance, 0.4, phi, y) == pytest.approx(expected, abs=1e-10)


def test_factor_leaves_out_directions_without_variance() -> None:
    covariance = np.outer([1.0, 2.0], [1.0, 2.0])
    half = factor(covariance)
    assert half.shape == (2, 1)
    np.testing.assert_allclose(half @ half.T, covariance, atol=1e-12)


@pytest.mark.parametrize("components", [1, 3])
def test_batch_equals_single_and_padding_changes_nothing(components: int) -> None:
    params = _prior(0, components=components)
    counts = [7, 1, 0, 20]
    batch = _rows(3, counts, longest=25)
    query = np.random.default_rng(9).standard_normal((4, 5, 4))
    together = RULE.predict(params, RULE.adapt(params, batch), query)
    evidence = RULE.evidence(params, batch)
    for t, count in enumerate(counts):
        alone = Rows(batch.x[t : t + 1, :count], batch.y[t : t + 1, :count], batch.mask[t : t + 1, :count])
        single = RULE.predict(params, RULE.adapt(params, alone), query[t : t + 1])
        np.testing.assert_allclose(together.mean[t], single.mean[0], rtol=0, atol=1e-10)
        np.testing.assert_allclose(together.variance[t], single.variance[0], rtol=0, atol=1e-10)
        np.testing.assert_allclose(evidence[t], RULE.evidence(params, alone)[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("components", [1, 2])
def test_update_equals_refit(components: int) -> None:
    params = _prior(1, components=components)
    whole = _rows(4, [12, 12])
    state = RULE.adapt(params, Rows(whole.x[:, :0], whole.y[:, :0], whole.mask[:, :0]))
    for part in (slice(0, 1), slice(1, 6), slice(6, 12)):
        state = RULE.update(params, state, Rows(whole.x[:, part], whole.y[:, part], whole.mask[:, part]))
    expected = RULE.adapt(params, whole)
    for name, value in expected.items():
        np.testing.assert_allclose(state[name], value, rtol=0, atol=1e-9, err_msg=name)


def test_no_rows_give_the_prior() -> None:
    params = _prior(3)
    state = RULE.adapt(params, _rows(0, [0]))
    np.testing.assert_allclose(state["mean"][0], params["mean"], atol=1e-12)


@pytest.mark.parametrize(("rows", "columns"), [(1, 3), (2, 3), (4, 10), (30, 3)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_own_params_are_free_in_the_scale_of_the_target(rows: int, columns: int, scale: float) -> None:
    rng = np.random.default_rng(rows)
    x, y = rng.standard_normal((rows, columns)), rng.standard_normal(rows)
    query = rng.standard_normal((1, 5, columns))

    def fitted(target: np.ndarray) -> np.ndarray:
        params = RULE.own_params(x, target, 0)
        batch = Rows(x[None], target[None], np.ones((1, rows), dtype=bool))
        return RULE.predict(params, RULE.adapt(params, batch), query).mean

    np.testing.assert_allclose(fitted(scale * y) / scale, fitted(y), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("level", [0.0, 5.0, -1e8])
@pytest.mark.parametrize("rows", [1, 4])
def test_own_params_of_a_constant_target_predict_it(level: float, rows: int) -> None:
    x = np.random.default_rng(0).standard_normal((rows, 3))
    y = np.full(rows, level)
    params = RULE.own_params(x, y, 0)
    state = RULE.adapt(params, Rows(x[None], y[None], np.ones((1, rows), dtype=bool)))
    predicted = RULE.predict(params, state, x[None] + 1.0)
    np.testing.assert_allclose(predicted.mean, level, rtol=1e-5, atol=1e-8)
    assert (predicted.variance > 0).all()


def test_own_params_are_close_to_bayesian_ridge() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 5))
    y = x @ rng.standard_normal(5) + 0.5 * rng.standard_normal(40) + 3.0
    params = RULE.own_params(x, y, 0)
    state = RULE.adapt(params, Rows(x[None], y[None], np.ones((1, 40), dtype=bool)))
    mine = RULE.predict(params, state, x[None])
    theirs = BayesianRidge().fit(x, y).predict(x)
    assert np.abs(mine.mean[0] - theirs).max() < 0.05


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_many_triangular_inverses_equal_those_one_by_one(rank):
    rng = np.random.default_rng(rank)
    root = rng.normal(size=(40, 2, rank, rank))
    lower = np.linalg.cholesky(root @ root.swapaxes(2, 3) + np.eye(rank))
    together = _inverse(lower)
    for number in range(40):
        np.testing.assert_allclose(together[number], _inverse(lower[number : number + 1])[0], rtol=1e-10, atol=1e-12)
