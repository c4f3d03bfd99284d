"""Smoothed trees: scikit-learn's without smoothing, paths worked by hand with it, decisions, spreads."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from upstairs.inner.rule import Rows
from upstairs.inner.smoothed_tree import SmoothedTree
from upstairs.inner.tree_nodes import leaves


def support(x, y, weight=None):
    return Rows(x[None], y[None], np.ones((1, len(y)), dtype=bool), None if weight is None else weight[None])


def fitted(kind, x, y, weight=None, **settings):
    rule = SmoothedTree(kind)
    params = rule.override(rule.own_params(x, y, int(y.max()) + 1 if kind == "classification" else 0), settings)
    return rule, params, rule.adapt(params, support(x, y, weight))


def rows(seed, kind="classification", count=150, ways=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 4))
    y = x[:, 0] + np.sin(3 * x[:, 1]) + 0.5 * rng.normal(size=count)
    return x, y if kind == "regression" else np.searchsorted(np.quantile(y, [0.5, 0.8][: ways - 1]), y)


GIVEN = [
    ({}, {}),
    ({"max_depth": 3.0, "criterion": 1.0}, {"max_depth": 3}),
    ({"min_samples_leaf": 7.0, "max_features": 0.5}, {"min_samples_leaf": 7, "max_features": 0.5}),
    ({"min_samples_split": 0.3, "max_features": -1.0}, {"min_samples_split": 0.3, "max_features": "sqrt"}),
    ({"min_samples_leaf": 0.1, "max_features": 2.0}, {"min_samples_leaf": 0.1, "max_features": 2}),
    ({"ccp_alpha": 0.01, "max_features": -2.0}, {"ccp_alpha": 0.01, "max_features": "log2"}),
]


@pytest.mark.parametrize(("ours", "theirs"), GIVEN)
def test_without_smoothing_it_is_scikit_learns_tree(ours, theirs):
    x, y = rows(0)
    query = rows(1)[0]
    more = {"criterion": "entropy"} if "criterion" in ours else {}
    rule, params, state = fitted("classification", x, y, **ours)
    other = DecisionTreeClassifier(random_state=0, **theirs, **more).fit(x, y)
    assert_array_equal(rule.predict(params, state, query[None]).probability[0], other.predict_proba(query))
    assert_array_equal(rule.decide(params, state, query[None])[0].argmax(axis=1), other.predict(query))
    x, y = rows(0, "regression")
    more = {"criterion": "absolute_error"} if "criterion" in ours else {}
    rule, params, state = fitted("regression", x, y, **ours)
    other = DecisionTreeRegressor(random_state=0, **theirs, **more).fit(x, y)
    assert_allclose(rule.predict(params, state, query[None]).mean[0], other.predict(query), rtol=0, atol=1e-12)


def test_numbers_are_compared_in_single_precision():
    x = np.array([[16777216.0], [16777217.0], [16777219.0]])  # the first two are one number in single precision
    y = np.array([0, 1, 1])
    rule, params, state = fitted("classification", x, y)
    other = DecisionTreeClassifier(random_state=0).fit(x, y)
    query = np.array([[16777216.9], [16777217.5], [1e300], [-1e300]])
    want = other.predict_proba(np.clip(query, -3e38, 3e38))
    assert_array_equal(rule.predict(params, state, query[None]).probability[0], want)


def test_weights_of_rows_and_of_classes():
    x, y = rows(0)
    weight = np.random.default_rng(2).uniform(0.5, 2.0, size=len(y))
    rule, params, state = fitted("classification", x, y, weight, balanced=1.0, min_samples_leaf=5.0)
    other = DecisionTreeClassifier(random_state=0, class_weight="balanced", min_samples_leaf=5)
    other.fit(x, y, sample_weight=weight)
    assert_allclose(rule.predict(params, state, x[None]).probability[0], other.predict_proba(x), atol=1e-12)
    _, params, state = fitted("classification", x, y, min_samples_leaf=5.0, **{"class 1": 3.0})
    other = DecisionTreeClassifier(random_state=0, class_weight={0: 1, 1: 3, 2: 1}, min_samples_leaf=5).fit(x, y)
    assert_allclose(rule.predict(params, state, x[None]).probability[0], other.predict_proba(x), atol=1e-12)


def test_a_path_worked_by_hand():
    x, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 0])
    rule, params, state = fitted("classification", x, y, smoothing=2.0)
    # root: (4 x 3/4 + 1 x 1/2) / 5 = .7; right of 1.5: (2 x 1/2 + 2 x .7) / 4 = .6; row 2 alone: (0 + 2 x .6) / 3 = .4
    said = rule.predict(params, state, x[None]).probability[0, :, 0]
    assert_allclose(said, [(2 + 2 * 0.7) / 4, (2 + 2 * 0.7) / 4, 0.4, (1 + 2 * 0.6) / 3])
    view = rule.view(params, state)
    assert_array_equal(view.rows[view.feature < 0], [2, 1, 1])
    assert_allclose(view.share[[0, 1, 2]], [0.2, 0.5, 0.5])
    assert_allclose(view.value[rule.apply(params, state, x[None])[0], 0], said)
    less = SmoothedTree().override(params, {"smoothing": 0.5})  # another value costs no other tree
    want = fitted("classification", x, y, smoothing=0.5)
    assert_array_equal(rule.predict(less, state, x[None]).probability, rule.predict(*want[1:], x[None]).probability)
    x, y = np.array([[0.0], [1.0]]), np.array([-1.0, 1.0])
    rule, params, state = fitted("regression", x, y, smoothing=3.0)
    assert_allclose(rule.predict(params, state, x[None]).mean[0], [-0.25, 0.25])


def test_decisions_are_corrected_for_shares():
    x, y = rows(3, ways=2)
    rule, params, state = fitted("classification", x, y, max_depth=2.0, smoothing=5.0)
    probability, share = rule.predict(params, state, x[None]).probability[0], np.bincount(y) / len(y)
    for power in (0.0, 0.5, 1.0):
        scores = rule.decide(rule.override(params, {"decision_power": power}), state, x[None])[0]
        assert_array_equal(scores.argmax(axis=1), (probability / share**power).argmax(axis=1))


def test_neither_order_of_rows_nor_names_of_classes_matter():
    x, y = rows(4, "regression", count=60)
    x = np.round(x, 1)
    order = np.random.default_rng(0).permutation(60)
    one, two = (fitted("regression", x[which], y[which], smoothing=4.0) for which in (np.arange(60), order))
    assert_array_equal(one[0].predict(*one[1:], x[None]).mean, two[0].predict(*two[1:], x[None]).mean)
    x, y = rows(4)
    one, two = fitted("classification", x, y, smoothing=4.0), fitted("classification", x, 2 - y, smoothing=4.0)
    said = [rule.predict(params, state, x[None]).probability[0] for rule, params, state in (one, two)]
    assert_allclose(said[0], said[1][:, ::-1], atol=1e-12)


def test_spreads_are_honest_where_leaves_are_small():
    rng = np.random.default_rng(5)
    squares = []
    for _ in range(20):
        x, noise = rng.normal(size=(200, 3)), rng.normal(size=200)
        y = (x[:, 0] > 0) + noise
        y = (y - y.mean()) / y.std()
        rule, params, state = fitted("regression", x[:100], y[:100], max_depth=3.0, smoothing=8.0)
        predicted = rule.predict(params, state, x[None, 100:])
        squares.append(np.mean((y[100:] - predicted.mean[0]) ** 2 / predicted.variance[0]))
    assert 0.8 < np.mean(squares) < 1.7
    x, y = rows(6, "regression")
    y = (y - y.mean()) / y.std()
    rule, params, state = fitted("regression", x, y)  # leaves of one row each
    assert rule.predict(params, state, x[None]).variance.min() > 0
    wide = rule.override(params, {"spread": 4.0})
    ratio = rule.predict(wide, state, x[None]).variance / rule.predict(params, state, x[None]).variance
    assert_allclose(ratio, 4.0)


def test_no_rows_and_several_tasks():
    rule = SmoothedTree()
    x, y = rows(7, count=40)
    params = rule.override(rule.own_params(x, y, 3), {"smoothing": 2.0, "max_depth": 2.0})
    mask = np.array([[True] * 40, [True] * 15 + [False] * 25, [False] * 40])
    state = rule.adapt(params, Rows(np.stack([x] * 3), np.stack([y] * 3), mask))
    said = rule.predict(params, state, np.stack([x] * 3)).probability
    assert_allclose(said[2], 1.0 / 3.0)
    alone = rule.adapt(params, support(x[:15], y[:15]))
    assert_array_equal(said[1], rule.predict(params, alone, x[None]).probability[0])
    assert len(leaves({name: array[2] for name, array in state.items()})) == 1
    empty = SmoothedTree("regression")
    params = empty.own_params(np.zeros((0, 4)), np.zeros(0), 0)
    predicted = empty.predict(params, empty.adapt(params, support(np.zeros((0, 4)), np.zeros(0))), x[None])
    assert_array_equal(predicted.mean, np.zeros((1, 40)))
    assert (predicted.variance >= 1.0).all()
    assert np.isfinite(empty.evidence(params, support(x, x[:, 0])))
