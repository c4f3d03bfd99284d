from __future__ import annotations

import numpy as np
import pytest

from upstairs.inner.rule import Categorical, Rows
from upstairs.outer.candidates import Candidate, learn_candidate
from upstairs.outer.choose import choose, relearn, rule_of
from upstairs.outer.laplace_em import learn_logistic
from upstairs.outer.pooling import Data
from upstairs.outer.reduction import Reduction, reduced, to_raw

COLUMNS = 200


def _tasks(tasks: int, seed: int, rows: int = 60, own: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows lie near a space of 5 dimensions out of 200; tasks share a mean decision in it and differ in it."""
    frame = np.random.default_rng(99).standard_normal((5, COLUMNS)) / np.sqrt(5)
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((tasks * rows, 5))
    x = hidden @ frame + 0.3 * rng.standard_normal((tasks * rows, COLUMNS))
    weights = np.array([2.0, 0, 0, 0, 0]) + own * rng.standard_normal((tasks, 5))
    y = (hidden * np.repeat(weights, rows, axis=0)).sum(axis=1) + rng.logistic(size=len(x)) > 0
    return x, y.astype(np.int64), np.arange(tasks + 1) * rows


def _data(x: np.ndarray, y: np.ndarray, offsets: np.ndarray, folds: int = 2) -> Data:
    return Data(x, y, offsets, np.arange(len(offsets) - 1) % folds, "classification", 2, 0)


def _loss(params: dict[str, np.ndarray], own: float) -> float:
    x, y, offsets = _tasks(40, 5, own=own)
    rule, found = rule_of("classification"), []
    for start in offsets[:-1]:
        support, query = slice(start, start + 10), slice(start + 10, start + 60)
        state = rule.adapt(params, Rows(x[None, support], y[None, support], np.ones((1, 10), dtype=bool)))
        predicted = rule.predict(params, state, x[None, query])
        assert isinstance(predicted, Categorical)
        found.append(-np.log(predicted.probability[0, np.arange(50), y[query]]).mean())
    return float(np.mean(found))


def test_many_columns_are_learned_on_few_and_adaptation_helps() -> None:
    x, y, offsets = _tasks(12, 0)
    choice = choose(x, y, offsets, kind="classification", ways=2, shots=10)
    assert choice.params["mean"].shape == (1, 1, 1 + COLUMNS)
    assert choice.params["factor"].shape[3] < 60
    fixed = {**choice.params, "factor": 0.0 * choice.params["factor"]}
    assert "tied" in choice.reason
    assert _loss(choice.params, 1.0) < 0.93 * _loss(fixed, 1.0)


def test_where_tasks_agree_little_is_adapted() -> None:
    x, y, offsets = _tasks(12, 0, own=0.0)
    params = choose(x, y, offsets, kind="classification", ways=2, shots=10).params
    fixed = {**params, "factor": 0.0 * params["factor"]}
    assert _loss(params, 0.0) < 1.03 * _loss(fixed, 0.0)


def test_decisions_for_a_task_are_the_mean_of_the_others() -> None:
    data = _data(*_tasks(5, 0))
    reduction = Reduction.fit(data)
    assert len(reduction.weights) == 1
    told = reduction.told(frozenset({0, 1}))
    mean = reduction.weights[0, [0, 2, 3, 4]].mean(axis=0)
    rows = data.x[60:120]
    np.testing.assert_allclose(told[60:120, :1], rows @ mean[1:] + mean[0])
    np.testing.assert_allclose(told[60:120, 1:], rows @ reduction.directions)
    np.testing.assert_allclose(reduction.coef(frozenset({0}))[0, :, :1], reduction.weights[0, [0, 2, 4]].mean(axis=0))


def test_rows_that_tasks_share_are_told_by_models_that_have_not_seen_them() -> None:
    x, y, _ = _tasks(1, 0)
    rng = np.random.default_rng(1)
    labels = np.concatenate([y, rng.integers(0, 2, 60), y])
    data = _data(np.concatenate([x, x, x]), labels, np.arange(4) * 60)
    reduction = Reduction.fit(data)
    assert len(reduction.weights) == 4
    before = reduced(reduction.coef(frozenset({0, 1})), x[:1])
    turned = labels.copy()
    turned[[0, 60, 120]] = 1 - turned[[0, 60, 120]]
    again = Reduction.fit(_data(data.x, turned, data.offsets))
    np.testing.assert_allclose(reduced(again.coef(frozenset({0, 1})), x[:1]), before, atol=1e-8)
    assert np.abs(again.weights[0] - reduction.weights[0]).max() > 1e-4


def test_raw_weights_say_the_same() -> None:
    data = _data(*_tasks(6, 0))
    reduction = Reduction.fit(data)
    every = frozenset({0, 1})
    coef = reduction.coef(every)
    few = learn_candidate(Candidate("none", "tied", "reduced"), data, reduction.told(every))
    raw, rule = to_raw(few, coef), rule_of("classification")
    mask = np.ones((1, 8), dtype=bool)
    known = []
    for params, rows in ((few, reduced(coef, data.x[:20])), (raw, data.x[:20])):
        state = rule.adapt(params, Rows(rows[None, :8], data.y[None, :8], mask))
        predicted = rule.predict(params, state, rows[None, 8:])
        assert isinstance(predicted, Categorical)
        known.append(predicted.probability)
    np.testing.assert_allclose(known[0], known[1], atol=1e-8)


def test_relearning_from_the_same_tasks_gives_the_same_prior() -> None:
    x, y, offsets = _tasks(8, 0)
    choice = choose(x, y, offsets, kind="classification", ways=2, shots=10)
    again = relearn(choice.settings, choice.params, x, y, offsets)
    for name in ("mean", "factor"):
        np.testing.assert_allclose(again[name], choice.params[name], atol=1e-9)


@pytest.mark.parametrize("ways", [2, 3])
def test_tasks_of_one_class_and_single_rows_are_enough(ways: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((14, COLUMNS))
    y = np.concatenate([[0], rng.integers(0, ways, 12), [ways - 1]])
    choice = choose(x, y, np.array([0, 1, 13, 14]), kind="classification", ways=ways)
    rule = rule_of("classification")
    state = rule.adapt(choice.params, Rows(x[None, :0], y[None, :0], np.ones((1, 0), dtype=bool)))
    predicted = rule.predict(choice.params, state, x[None])
    assert isinstance(predicted, Categorical)
    assert predicted.probability.shape == (1, 14, ways)
    np.testing.assert_allclose(predicted.probability.sum(axis=2), 1.0)


def test_tied_weights_have_one_variance() -> None:
    rng = np.random.default_rng(0)
    phi = np.concatenate([np.ones((30, 40, 1)), rng.standard_normal((30, 40, 3))], axis=2)
    weights = rng.standard_normal((30, 4)) * [0.5, 1.0, 1.0, 1.0]
    y = (np.einsum("tnp,tp->tn", phi, weights) + rng.logistic(size=(30, 40)) > 0).astype(int)
    found = learn_logistic(
        phi, y, np.ones((30, 40), dtype=bool), 2, tied=np.array([0, 1, 1, 1]), ridge=np.array([1.0, 1e8, 1e8, 1e8])
    )
    variance = np.diagonal(found.covariance[0])
    assert variance[1] == variance[2] == variance[3]
    assert 0.4 < variance[1] < 1.6
    assert np.abs(found.mean[0, 1:]).max() < 1e-5
