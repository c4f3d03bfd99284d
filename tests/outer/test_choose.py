from __future__ import annotations

import json

import numpy as np
import pytest

from upstairs.inner.rule import Categorical, Gaussian, Rows
from upstairs.outer.candidates import Candidate, learn_candidate, mixture
from upstairs.outer.choose import Choice, choose, relearn, rule_of
from upstairs.outer.pooling import Data


def _subspace(
    tasks: int, seed: int, kind: str = "regression", rows: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights of ten columns lie on a plane that all tasks share."""
    plane = np.random.default_rng(99).standard_normal((2, 10))
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((tasks * rows, 10))
    weights = rng.standard_normal((tasks, 2)) @ plane
    y = (x * np.repeat(weights, rows, axis=0)).sum(axis=1) + 0.3 * rng.standard_normal(len(x))
    if kind == "classification":
        y = (y > 0).astype(np.int64)
    return x, y, np.arange(tasks + 1) * rows


def _loss(kind: str, params: dict[str, np.ndarray] | None, seed: int = 5, size: int = 6) -> float:
    x, y, offsets = _subspace(30, seed, kind)
    rule, total = rule_of(kind), []
    for start in offsets[:-1]:
        support, query = slice(start, start + size), slice(start + size, start + 15)
        known = rule.own_params(x[support], y[support], 2) if params is None else params
        state = rule.adapt(known, Rows(x[None, support], y[None, support], np.ones((1, size), dtype=bool)))
        predicted = rule.predict(known, state, x[None, query])
        if isinstance(predicted, Gaussian):
            total.append(np.square(predicted.mean[0] - y[query]).mean())
        else:
            assert isinstance(predicted, Categorical)
            total.append(-np.log(predicted.probability[0, np.arange(15 - size), y[query]]).mean())
    return float(np.mean(total))


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_the_prior_of_a_shared_subspace_beats_a_task_alone(kind: str) -> None:
    x, y, offsets = _subspace(40, 0, kind)
    choice = choose(x, y, offsets, kind=kind, ways=2, prior_mean="none")
    assert _loss(kind, choice.params) < (0.2 if kind == "regression" else 0.8) * _loss(kind, None)


def _full(choice: Choice, tasks: int) -> None:
    json.dumps([choice.settings, choice.report, choice.reason])
    assert sum(entry["weight"] for entry in choice.report) == pytest.approx(1.0)
    assert choice.params["weight"].sum() == pytest.approx(1.0)
    assert sorted(np.concatenate([numbers for _, numbers in choice.folds]).tolist()) == list(range(tasks))
    assert all(value.dtype == np.float64 for value in choice.params.values())


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_auto_compares_forms_on_unseen_tasks(kind: str) -> None:
    x, y, offsets = _subspace(8, 0, kind)
    choice = choose(x, y, offsets, kind=kind, ways=2, shots=(2, 8))
    _full(choice, 8)
    assert len(choice.report) == 6
    assert choice.reason


def test_the_same_seed_gives_the_same_prior() -> None:
    x, y, offsets = _subspace(6, 0)
    first, second = (choose(x, y, offsets, spread="diagonal", shots=3, random_state=1).params for _ in range(2))
    assert all((first[name] == second[name]).all() for name in first)


def test_validation_tasks_are_used_instead_of_folds() -> None:
    x, y, offsets = _subspace(12, 0)
    choice = choose(x, y, offsets, validation=_subspace(5, 1), prior_mean="none", shots=3)
    _full(choice, 5)
    assert len(choice.folds) == 1


def test_a_regression_prior_follows_the_units_of_the_target() -> None:
    x, y, offsets = _subspace(8, 0)
    query = np.random.default_rng(0).standard_normal((1, 4, 10))
    found = []
    for scale, level in ((1.0, 0.0), (1e4, 3e4)):
        params = choose(x, scale * y + level, offsets, prior_mean="none", spread="full").params
        rows = Rows(x[None, :5], scale * y[None, :5] + level, np.ones((1, 5), dtype=bool))
        found.append(
            (rule_of("regression").predict(params, rule_of("regression").adapt(params, rows), query).mean - level)
            / scale
        )
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


@pytest.mark.parametrize("prior_mean", ["auto", "ridge", "boosting"])
@pytest.mark.parametrize(("kind", "ways"), [("regression", 0), ("classification", 3)])
def test_two_tasks_constant_columns_and_single_rows_are_enough(prior_mean: str, kind: str, ways: int) -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.standard_normal(8), np.ones(8)])
    y = rng.integers(0, 3, 8) if ways else rng.standard_normal(8)
    choice = choose(x, y, np.array([0, 1, 8]), kind=kind, ways=ways, prior_mean=prior_mean)
    rule = rule_of(kind)
    state = rule.adapt(choice.params, Rows(x[None, :0], y[None, :0], np.ones((1, 0), dtype=bool)))
    predicted = rule.predict(choice.params, state, x[None])
    values = predicted.mean if isinstance(predicted, Gaussian) else predicted.probability
    assert np.isfinite(values).all()


def test_relearn_from_the_same_tasks_gives_the_same_linear_prior() -> None:
    x, y, offsets = _subspace(10, 0)
    choice = choose(x, y, offsets, prior_mean="none", spread="full")
    again = relearn(choice.settings, choice.params, x, y, offsets)
    np.testing.assert_allclose(again["mean"], choice.params["mean"], atol=1e-9)
    np.testing.assert_allclose(again["noise"], choice.params["noise"], atol=1e-9)


def test_a_mixture_holds_priors_with_and_without_the_pooled_column() -> None:
    x, y, offsets = _subspace(10, 0)
    data = Data(x, y, offsets, np.zeros(10, dtype=np.int64), "regression", 0, 0)
    narrow = learn_candidate(Candidate("none", "level"), data, None)
    wide = learn_candidate(Candidate("ridge", "full"), data, y[:, None] + 1.0)
    joined = mixture([narrow, wide], [0.25, 0.75], [np.arange(12)] * 2)
    assert joined["mean"].shape == (2, 12)
    assert joined["mean"][0, -1] == 0
    np.testing.assert_allclose(joined["factor"][0, :11, :1], narrow["factor"][0])
