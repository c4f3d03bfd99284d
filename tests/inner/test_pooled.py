from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from upstairs.inner.columns import features
from upstairs.inner.pooled import from_boosting, from_linear, pooled_prediction, width

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.standard_normal((600, 4)), RNG.integers(0, 3, (600, 2)).astype(float)], axis=1)
Y = X[:, 0] ** 2 + X[:, 1] * X[:, 4] + 0.1 * RNG.standard_normal(600)


@pytest.mark.parametrize("rows", [1, 30, 600])
@pytest.mark.parametrize("leaves", [2, 31])
def test_regression_trees_equal_predict(rows: int, leaves: int) -> None:
    model = HistGradientBoostingRegressor(max_iter=25, max_leaf_nodes=leaves, random_state=0).fit(X, Y)
    np.testing.assert_allclose(
        pooled_prediction(from_boosting(model), X[:rows])[:, 0], model.predict(X[:rows]), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("ways", [2, 3])
@pytest.mark.parametrize("rows", [30, 600])
def test_classification_trees_equal_decision_function(ways: int, rows: int) -> None:
    y = np.digitize(Y, [0.0, 1.0][: ways - 1])
    model = HistGradientBoostingClassifier(max_iter=15, random_state=0).fit(X, y)
    arrays = from_boosting(model)
    expected = model.decision_function(X[:rows]).reshape(rows, -1)
    np.testing.assert_allclose(pooled_prediction(arrays, X[:rows]), expected, rtol=0, atol=1e-12)
    assert width(arrays) == expected.shape[1]


def test_values_on_a_threshold_and_trees_without_a_split() -> None:
    model = HistGradientBoostingRegressor(max_iter=8, min_samples_leaf=20, random_state=0).fit(X[:, 4:], Y)
    exact = np.array([[t, u] for t in (0.0, 0.5, 1.0, 1.5, 2.0) for u in (0.5, 1.5)])
    np.testing.assert_allclose(pooled_prediction(from_boosting(model), exact)[:, 0], model.predict(exact), atol=1e-12)
    flat = HistGradientBoostingRegressor(max_iter=3, min_samples_leaf=500, random_state=0).fit(X, Y)
    np.testing.assert_allclose(pooled_prediction(from_boosting(flat), X)[:, 0], flat.predict(X), atol=1e-12)


def test_more_than_32_leaves_are_refused() -> None:
    model = HistGradientBoostingRegressor(max_iter=2, max_leaf_nodes=60, min_samples_leaf=1).fit(X, Y)
    with pytest.raises(ValueError, match="at most 32 leaves"):
        from_boosting(model)


def test_features_hold_one_x_and_m_and_are_zero_in_padding() -> None:
    arrays = from_linear(np.ones((6, 1)), np.array([2.0]))
    x = X[:6].reshape(2, 3, 6)
    mask = np.array([[True, True, False], [True, True, True]])
    phi = features(arrays, x, mask)
    assert phi.shape == (2, 3, 8)
    np.testing.assert_allclose(phi[1, :, -1], x[1].sum(axis=1) + 2.0)
    assert (phi[0, 2] == 0).all()
    assert (phi[1, :, 0] == 1).all()
    assert features({}, x).shape == (2, 3, 7)
