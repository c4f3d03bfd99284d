from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from upstairs.errors import PriorMismatchError
from upstairs.inner.definite import solve_definite
from upstairs.inner.gaussian import posterior
from upstairs.inner.logistic import find_mode
from upstairs.inner.recursive import (
    linear_learn,
    linear_mean,
    linear_moments,
    linear_predict,
    linear_start,
    linear_weights,
    recursive_params,
)
from upstairs.inner.recursive_logistic import (
    logistic_learn,
    logistic_params,
    logistic_predict,
    logistic_start,
    logistic_weights,
)


def _prior(seed: int, columns: int, rates: list[float], noise_rows: float = np.inf) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((columns, columns))
    covariance = half @ half.T + 0.1 * np.eye(columns)
    return recursive_params(rng.standard_normal((columns, 1)), covariance, 0.3, np.array(rates), noise_rows)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 12), st.integers(0, 1000))
def test_without_forgetting_it_is_the_batch_posterior(rows: int, columns: int, chunk: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    params = _prior(seed, columns, [1.0])
    x, y = rng.standard_normal((rows, columns)), rng.standard_normal((rows, 1))
    state = linear_start(params)
    for first in range(0, rows, chunk):
        state = linear_learn(params, state, x[first : first + chunk], y[first : first + chunk])
    spread = params["factor"] @ params["factor"].T
    mean, covariance = posterior(params["mean"][:, 0], spread, 0.3, x, y[:, 0])
    found, around = linear_weights(params, state)
    np.testing.assert_allclose(found[0, :, 0], mean, rtol=0, atol=1e-8)
    np.testing.assert_allclose(around[0], covariance, rtol=0, atol=1e-8)


@pytest.mark.parametrize("chunk", [1, 3, 7, 50])
def test_forgetting_is_the_weighted_batch_solution_with_the_whole_prior(chunk: int) -> None:
    rng = np.random.default_rng(0)
    rates = [1.0, 0.99, 0.8]
    params = _prior(1, 3, rates)
    x, y = rng.standard_normal((50, 3)), rng.standard_normal((50, 1))
    state = linear_start(params)
    for first in range(0, 50, chunk):
        state = linear_learn(params, state, x[first : first + chunk], y[first : first + chunk])
    prior = np.linalg.inv(params["factor"] @ params["factor"].T)
    found, around = linear_weights(params, state)
    for k, rate in enumerate(rates):
        weight = np.diag(rate ** np.arange(49, -1, -1.0))
        precision = prior + x.T @ weight @ x / 0.3
        expected = np.linalg.solve(precision, prior @ params["mean"] + x.T @ weight @ y / 0.3)
        np.testing.assert_allclose(found[k], expected, rtol=0, atol=1e-8)
        np.testing.assert_allclose(around[k], np.linalg.inv(precision), rtol=0, atol=1e-8)
        new = rng.standard_normal((4, 3))
        predicted = linear_predict(params, state, new)
        np.testing.assert_allclose(predicted.mean[k], (new @ expected)[:, 0], atol=1e-8)
        spread = 0.3 + np.einsum("nr,rs,ns->n", new, np.linalg.inv(precision), new)
        np.testing.assert_allclose(predicted.variance[k], spread, atol=1e-8)
        np.testing.assert_allclose(linear_mean(params, state, new)[k], new @ expected, atol=1e-8)


def test_learned_noise_is_the_conjugate_one() -> None:
    rng = np.random.default_rng(2)
    params = recursive_params(np.zeros((2, 1)), np.eye(2), 0.5, np.array([1.0]), noise_rows=4.0)
    x = rng.standard_normal((2000, 2))
    y = x @ np.array([[1.0], [-1.0]]) + 3.0 * rng.standard_normal((2000, 1))
    state = linear_learn(params, linear_start(params), x, y)
    # scale of the inverse gamma posterior: (rows0 noise0 + residuals + what the prior pays) / (rows0 + rows)
    mean = linear_weights(params, state)[0][0]
    paid = np.square(y - x @ mean).sum() + 0.5 * np.square(mean).sum()
    expected = (4.0 * 0.5 + paid) / (4.0 + 2000)
    known = recursive_params(np.zeros((2, 1)), np.eye(2), 0.5, np.array([1.0]))
    ratio = linear_moments(params, state, x[:1])[1] / linear_moments(known, state, x[:1])[1]
    np.testing.assert_allclose(0.5 * ratio[0, 0, 0], expected, rtol=1e-10)


def test_what_is_not_visited_falls_back_to_the_prior_and_does_not_wind_up() -> None:
    params = recursive_params(np.ones((2, 1)), np.eye(2), 1.0, np.array([0.9]))
    state = linear_learn(params, linear_start(params), np.eye(2)[[1, 1, 1]], np.full((3, 1), 5.0))
    only = np.tile([[1.0, 0.0]], (1000, 1))
    state = linear_learn(params, state, only, np.full((1000, 1), 2.0))
    mean, covariance = linear_weights(params, state)
    np.testing.assert_allclose(mean[0, 1], 1.0, atol=1e-12)
    np.testing.assert_allclose(covariance[0, 1, 1], 1.0, atol=1e-12)


def test_sums_stay_symmetric_and_finite_on_columns_that_say_the_same() -> None:
    rng = np.random.default_rng(3)
    params = recursive_params(np.zeros((4, 1)), 1e4 * np.eye(4), 1e-4, np.array([1.0, 0.97]), 5.0)
    state = linear_start(params)
    for _ in range(30):
        one = 1e6 * rng.standard_normal((50, 1))
        state = linear_learn(params, state, np.tile(one, (1, 4)), one)
    assert all(np.isfinite(value).all() for value in state.values())
    np.testing.assert_array_equal(state["gram"], state["gram"].swapaxes(1, 2))
    mean, variance = linear_moments(params, state, np.ones((1, 4)))
    np.testing.assert_allclose(mean, 1.0, rtol=1e-4)
    assert (variance > 0).all()


def test_an_indefinite_matrix_is_solved_with_a_little_more_on_its_diagonal() -> None:
    matrix = np.array([[1.0, 1.0], [1.0, 1.0 - 1e-12]])
    found = solve_definite(matrix[None].copy(), np.ones((1, 1, 2)))[0, 0]
    np.testing.assert_allclose(matrix @ found, 1.0, atol=1e-2)


@pytest.mark.parametrize(
    ("noise", "rates", "noise_rows", "named"),
    [
        (0.0, [1.0], 1.0, "noise=0.0"),
        (1.0, [1.0], 0.0, "noise_rows=0.0"),
        (1.0, [1.5], 1.0, "holds 1.5"),
        (1.0, [np.nan], 1.0, "holds nan"),
        (1.0, [], 1.0, "is empty"),
    ],
)
def test_errors_name_the_value(noise: float, rates: list[float], noise_rows: float, named: str) -> None:
    with pytest.raises(PriorMismatchError, match=named):
        recursive_params(np.zeros((1, 1)), np.eye(1), noise, np.array(rates), noise_rows)


def test_one_chunk_of_logistic_rows_is_laplaces_posterior() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((30, 3)), rng.integers(0, 2, 30)
    params = logistic_params(rng.standard_normal((3, 1)), np.eye(3), np.array([1.0]))
    found, around = logistic_weights(params, logistic_learn(params, logistic_start(params), x, y))
    scaled = x @ params["factor"]
    start = (x @ params["mean"])[None]
    mode = find_mode(scaled[None, :, None, :], start, y[None, :, None].astype(float), np.ones((1, 30)))
    np.testing.assert_allclose(found[0], params["mean"] + params["factor"] @ mode.z.T, atol=1e-4)
    precision = (mode.lower @ mode.lower.swapaxes(1, 2))[0]
    expected = params["factor"] @ np.linalg.inv(precision) @ params["factor"].T
    np.testing.assert_allclose(around[0, 0], expected, atol=1e-4)


def test_forgotten_logistic_rows_weigh_less_within_a_chunk() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((25, 2)), rng.integers(0, 2, 25)
    params = logistic_params(np.zeros((2, 1)), np.eye(2), np.array([0.9]))
    found = logistic_weights(params, logistic_learn(params, logistic_start(params), x, y))[0][0, :, 0]
    weight = 0.9 ** np.arange(24, -1, -1.0)

    def loss(w: np.ndarray) -> float:
        return float((weight * (np.logaddexp(0.0, x @ w) - y * (x @ w))).sum() + 0.5 * w @ w)

    np.testing.assert_allclose(found, minimize(loss, np.zeros(2)).x, atol=1e-3)


def test_a_row_alone_is_a_chunk_of_one_row() -> None:
    """A row beside one that says nothing takes the general way."""
    rng = np.random.default_rng(6)
    params = logistic_params(rng.standard_normal((3, 1)), 4.0 * np.eye(3), np.array([0.99, 1.0]))
    state = logistic_learn(params, logistic_start(params), rng.standard_normal((20, 3)), rng.integers(0, 2, 20))
    row = rng.standard_normal((1, 3))
    alone = logistic_learn(params, state, row, np.array([1]))
    kept = {name: value.copy() for name, value in state.items()}
    kept["curvature"][0] /= 0.99
    kept["natural"][0] /= 0.99
    pair = logistic_learn(params, kept, np.concatenate([np.zeros((1, 3)), row]), np.array([0, 1]))
    for name in ("curvature", "natural"):
        np.testing.assert_allclose(alone[name], pair[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("chunk", [1, 10, 100])
@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_chunks_come_near_the_batch_and_never_diverge(chunk: int, classes: int) -> None:
    rng = np.random.default_rng(7)
    x = np.concatenate([np.ones((600, 1)), rng.standard_normal((600, 2))], axis=1)
    score = x @ rng.standard_normal((3, classes)) + rng.gumbel(size=(600, classes))
    y = score.argmax(axis=1)
    params = logistic_params(np.zeros((3, 1 if classes == 2 else 3)), np.eye(3), np.array([1.0, 0.99]))
    state, whole = logistic_start(params), logistic_learn(params, logistic_start(params), x, y)
    for first in range(0, 600, chunk):
        state = logistic_learn(params, state, x[first : first + chunk], y[first : first + chunk])
    near = logistic_predict(params, state, x).probability[0]
    batch = logistic_predict(params, whole, x).probability[0]
    np.testing.assert_allclose(near.sum(axis=1), 1.0)
    assert np.abs(near - batch).max() < 0.06


@pytest.mark.parametrize("chunk", [1, 25])
def test_logistic_survives_columns_that_are_not_scaled(chunk: int) -> None:
    rng = np.random.default_rng(8)
    plain = 300.0 * rng.standard_normal((200, 2))
    x = np.concatenate([plain, plain**2], axis=1)
    y = (plain[:, 0] > 0).astype(int)
    params = logistic_params(np.zeros((4, 1)), np.eye(4), np.array([0.9, 1.0]))
    state = logistic_start(params)
    for first in range(0, 200, chunk):
        probability = logistic_predict(params, state, x[first : first + chunk]).probability
        assert np.isfinite(probability).all()
        state = logistic_learn(params, state, x[first : first + chunk], y[first : first + chunk])
    assert all(np.isfinite(value).all() for value in state.values())
    assert (probability[:, -1].argmax(axis=1) == y[-1]).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_what_logistic_predictions_keep_is_the_posterior(classes: int) -> None:
    rng = np.random.default_rng(3)
    params = logistic_params(np.zeros((3, 1 if classes == 2 else 3)), 2.0 * np.eye(3), np.array([1.0, 0.95]))
    state = logistic_start(params)
    for rows in (5, 1, 1, 4, 1):
        state = logistic_learn(params, state, rng.standard_normal((rows, 3)), rng.integers(0, classes, rows))
        precision = state["curvature"] + np.eye(3)
        np.testing.assert_allclose(np.linalg.solve(precision, state["natural"][..., None])[..., 0], state["white"])
        root = np.triu(state["root"])
        covariance = np.linalg.inv(root.swapaxes(2, 3) @ root)
        covariance -= state["spike"][..., :, None] * state["spike"][..., None, :]
        np.testing.assert_allclose(covariance, np.linalg.inv(precision), atol=1e-12)
