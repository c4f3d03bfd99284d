"""The plain machine as arrays: equal to scikit-learn's, rows left out, probabilities, very many rows."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from sklearn.svm import SVC, SVR

from upstairs.errors import ApproximationWarning, UnsolvedWarning
from upstairs.inner import support_vectors
from upstairs.inner.coupling import coupled, pairs_of
from upstairs.inner.left_out import left_out
from upstairs.inner.nystroem import newton
from upstairs.inner.rule import Rows
from upstairs.inner.support_vectors import SupportVectors, pair_scores


def classes(rows=90, ways=3, columns=4, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, ways, rows)
    return rng.normal(size=(rows, columns)) + 1.2 * rng.normal(size=(ways, columns))[y], y


def fitted(x, y, ways, settings=None, weight=None, kind="classification"):
    rule = SupportVectors(kind)
    params = rule.override(rule.own_params(x, y, ways), settings or {})
    rows = Rows(x[None], y[None], np.ones((1, len(y)), bool), None if weight is None else weight[None])
    return rule, params, rule.adapt(params, rows)


@pytest.mark.parametrize("ways", [2, 3, 4])
@pytest.mark.parametrize("kernel", [0.0, 1.0, 2.0])
def test_decisions_are_those_of_scikit_learn(ways, kernel):
    x, y = classes(ways=ways)
    weight = np.linspace(0.5, 2.0, len(y))
    settings = {"C": 3.0, "kernel": kernel, "coef0": 1.0, "degree": 2.0}
    name = ["linear", "rbf", "poly"][int(kernel)]
    for given, also, balance in ((weight, {}, None), (None, {"balanced": 1.0}, "balanced")):
        _, params, state = fitted(x, y, ways, settings | also, given)
        other = SVC(
            C=3.0, kernel=name, class_weight=balance, coef0=1.0, degree=2, tol=1e-7, decision_function_shape="ovo"
        )
        want = other.fit(x, y, sample_weight=given).decision_function(x)
        got = pair_scores(params, {key: array[0] for key, array in state.items()}, x)
        assert_allclose(got, -want[:, None] if ways == 2 else want, atol=1e-4)


def test_a_regression_is_that_of_scikit_learn():
    x, _ = classes()
    y = np.sin(x[:, 0]) + 0.1 * x[:, 1]
    rule, params, state = fitted(x, y, 0, {"C": 2.0, "epsilon": 0.05}, kind="regression")
    want = SVR(C=2.0, epsilon=0.05, tol=1e-7).fit(x, y).predict(x)
    found = rule.predict(params, state, x[None])
    assert_allclose(found.mean[0], want, atol=1e-4)
    assert np.square(y - want).mean() < found.variance[0, 0] < y.var()


@pytest.mark.parametrize(
    ("kernel", "cost", "share"), [("linear", 0.1, 0.8), ("linear", 5.0, 1.3), ("rbf", 1.0, 0.4), ("rbf", 30.0, 0.4)]
)
def test_rows_left_out_are_near_those_of_fits_without_them(kernel, cost, share):
    gap, naive = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(60, 4))
        y = (x @ rng.normal(size=4) + 0.5 * np.sin(3.0 * x[:, 0]) + rng.normal(size=60) > 0).astype(int)
        model = SVC(C=cost, kernel=kernel, gamma=0.125, tol=1e-7).fit(x, y)
        rows = model.support_
        between = x[rows] @ x[rows].T
        if kernel == "rbf":
            between = np.exp(-0.125 * np.square(x[rows][:, None] - x[rows]).sum(axis=2))
        inside = model.decision_function(x[rows])
        got = left_out(between, model.dual_coef_[0], inside, np.full(len(rows), cost))
        for row, said, own in zip(rows, got, inside, strict=True):
            rest = np.arange(60) != row
            other = SVC(C=cost, kernel=kernel, gamma=0.125, tol=1e-7).fit(x[rest], y[rest])
            want = other.decision_function(x[row : row + 1])[0]
            gap.append(abs(said - want))
            naive.append(abs(own - want))
    assert np.mean(gap) < share * np.mean(naive)


def test_probabilities_are_calibrated_where_decisions_on_own_rows_are_too_sure():
    rng = np.random.default_rng(0)
    lost, naive = [], []
    for _ in range(20):
        x = rng.normal(size=(120, 8))
        p = 1.0 / (1.0 + np.exp(-1.5 * x[:, 0]))
        y = (rng.random(120) < p).astype(int)
        new = rng.normal(size=(400, 8))
        target = (rng.random(400) < 1.0 / (1.0 + np.exp(-1.5 * new[:, 0]))).astype(int)
        rule, params, state = fitted(x, y, 2, {"C": 10.0})
        said = rule.predict(params, state, new[None]).probability[0]
        lost.append(-np.log(said[np.arange(400), target]).mean())
        score = -pair_scores(params, {key: array[0] for key, array in state.items()}, new)[:, 0]
        naive.append(np.logaddexp(0.0, -np.exp(1.1) * score * np.where(target == 1, 1, -1)).mean())
    assert np.mean(lost) < np.log(2.0)
    assert np.mean(lost) < 0.8 * np.mean(naive)


def test_coupling_is_exact_where_pairs_agree_and_proper_where_not():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(5), size=20)
    i, j = pairs_of(5).T
    assert_allclose(coupled(p[:, i] / (p[:, i] + p[:, j]), 5), p, atol=1e-5)
    odd = coupled(rng.random((30, 10)), 5)
    assert_allclose(odd.sum(axis=1), 1.0)
    assert (odd > 0).all()


def test_neither_order_of_rows_nor_names_of_classes_matter():
    x, y = classes(rows=300)
    turn = np.random.default_rng(1).permutation(300)
    rename = np.array([2, 0, 1])
    rule, params, state = fitted(x, y, 3)
    first = rule.predict(params, state, x[None]).probability[0]
    rule, params, state = fitted(x[turn], rename[y[turn]], 3)
    second = rule.predict(params, state, x[None]).probability[0]
    assert_allclose(second[:, rename], first, atol=1e-8)


def test_classes_without_rows_are_possible_and_unlikely():
    x, y = classes(rows=20, ways=2)
    rule, params, state = fitted(x, y, 3)
    probability = rule.predict(params, state, x[None]).probability[0]
    assert_allclose(probability.sum(axis=1), 1.0)
    assert (probability[:, 2] < 0.2).all()
    rule, params, state = fitted(x, np.ones(20, dtype=np.int64), 3)
    assert (rule.predict(params, state, x[None]).probability[0].argmax(axis=1) == 1).all()


def test_very_many_rows_are_approximated_and_said_so(monkeypatch):
    x, y = classes(rows=400, ways=3)
    exact = fitted(x, y, 3)
    want = exact[0].predict(exact[1], exact[2], x[None]).probability[0].argmax(axis=1)
    monkeypatch.setattr(support_vectors, "MOST_ROWS", 300)
    with pytest.warns(ApproximationWarning, match="400 rows are more than"):
        rule, params, state = fitted(x, y, 3)
    got = rule.predict(params, state, x[None]).probability[0].argmax(axis=1)
    assert np.mean(got == want) > 0.93
    target = np.sin(x[:, 0])
    with pytest.warns(ApproximationWarning):
        rule, params, state = fitted(x, target, 0, {"C": 10.0}, kind="regression")
    assert np.square(rule.predict(params, state, x[None]).mean[0] - target).mean() < 0.05


def test_newton_meets_the_optimality_conditions():
    x, y = classes(rows=200, ways=2)
    sign, bound = np.where(y == 1, 1.0, -1.0), np.full(200, 0.7)
    weights, intercept = newton(x, sign, bound, None)
    miss = sign * np.maximum(1.0 - sign * (x @ weights + intercept), 0.0)
    assert_allclose(weights, x.T @ (bound * miss), rtol=1e-6, atol=1e-8)
    assert abs((bound * miss).sum()) < 1e-4


def test_sparse_rows_give_what_dense_ones_do():
    x, y = classes()
    x = x * (x > 0.5)
    params = SupportVectors().override(SupportVectors().own_params(x, y, 3), {"kernel": 0.0, "C": 0.5})
    dense = support_vectors.machine(params, x, y, None, "classification")
    sparse = support_vectors.machine(params, csr_matrix(x), y, None, "classification")
    assert_allclose(pair_scores(params, sparse, csr_matrix(x)), pair_scores(params, dense, x), atol=1e-8)
    assert len(sparse["vectors"]) == 3  # one an output
    assert_array_equal(sparse["shift"], dense["shift"])


def test_a_solver_that_is_stopped_says_so(monkeypatch):
    x, y = classes(rows=300)
    monkeypatch.setattr(support_vectors, "_ITERATIONS", (3, 3))
    with pytest.warns(UnsolvedWarning, match="stopped after 3 iterations"):
        fitted(x, y, 3, {"C": 1e4})
