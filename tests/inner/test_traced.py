"""The NumPy face of traced rules: buckets, compilations, scores; and a rule as a stranger would write it."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upstairs.inner import features, traced
from upstairs.inner.descent import SGD
from upstairs.inner.gaussian import BayesianLinear
from upstairs.inner.gradient import Maml
from upstairs.inner.rule import Categorical, Gaussian, Rows
from upstairs.inner.traced import Arrays, Normal, Spec, Traced, TracedRule
from upstairs.nets import NetSpec


@final
@dataclass(frozen=True)
class Shrunk(TracedRule):
    """Predict a task by its mean, shrunk towards a learned one: exact by hand."""

    def init(self, key: Any, spec: Spec) -> dict[str, Any]:
        return {"mean": jnp.zeros(()), "weight": jnp.ones(())}

    def adapt(self, params: Arrays, x: Any, y: Any, mask: Any) -> dict[str, Any]:
        total = params["weight"] * params["mean"] + jnp.where(mask, y, 0.0).sum()
        return {"mean": total / (params["weight"] + mask.sum())}

    def predict(self, params: Arrays, state: Arrays, x: Any, mask: Any = None) -> Normal:
        return Normal(jnp.broadcast_to(state["mean"], x.shape[:1]), jnp.ones(x.shape[:1]))


def _rows(tasks: int, rows: int, ways: int = 0, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, ways, size=(tasks, rows)) if ways else rng.normal(size=(tasks, rows))
    return Rows(rng.normal(size=(tasks, rows, 3)), y, np.ones((tasks, rows), dtype=bool))


RULE = Maml(NetSpec("mlp", (3,), (8,), 3), 3, 5, SGD(0.1))
FRESH = jax.jit(RULE.init, static_argnums=1)(jax.random.key(0), Spec((3,), 3))
PARAMS = {name: np.asarray(array) for name, array in FRESH.items()}


def test_a_simple_rule_by_hand() -> None:
    rule = Traced(Shrunk(), Spec((3,)))
    params = {"mean": np.zeros((), np.float32), "weight": np.ones((), np.float32)}
    rows = _rows(2, 5)
    state = rule.adapt(params, rows)
    predicted = rule.predict(params, state, rows.x[:, :2])
    assert isinstance(predicted, Gaussian)
    np.testing.assert_allclose(predicted.mean, np.repeat(rows.y.sum(axis=1, keepdims=True) / 6, 2, axis=1), rtol=1e-5)
    np.testing.assert_allclose(
        rule.evidence(params, rows), (-0.5 * (rows.y**2 + np.log(2 * np.pi))).mean(axis=1), rtol=1e-5
    )


def test_a_size_in_the_same_bucket_compiles_nothing_and_changes_nothing() -> None:
    rule = Traced(RULE, Spec((3,), 3))
    compiled = (traced._adapt, traced._predict, traced._evidence)

    def use(tasks: int, rows: int, new: int) -> Any:
        support = _rows(tasks, rows, 3)
        state = rule.adapt(PARAMS, support)
        rule.evidence(PARAMS, support)
        return rule.predict(PARAMS, state, _rows(tasks, new, 3, seed=1).x)

    first = use(1, 8, 8)
    assert isinstance(first, Categorical)
    before = [function._cache_size() for function in compiled]
    for rows, new in ((5, 6), (6, 5), (7, 7), (8, 8)):
        found = use(1, rows, new)
        assert found.probability.shape == (1, new, 3)
        np.testing.assert_allclose(found.probability.sum(axis=2), 1.0, rtol=1e-6)
    assert [function._cache_size() for function in compiled] == before
    use(2, 8, 8)
    after = [function._cache_size() for function in compiled]
    use(3, 7, 5), use(4, 5, 8)
    assert [function._cache_size() for function in compiled] == after
    support = _rows(3, 7, 3)
    together = rule.adapt(PARAMS, support)
    alone = rule.adapt(PARAMS, Rows(support.x[1:2], support.y[1:2], support.mask[1:2]))
    for name in together:
        np.testing.assert_allclose(together[name][1], alone[name][0], rtol=1e-4, atol=1e-6)


def test_no_rows_give_the_prior_itself() -> None:
    rule = Traced(RULE, Spec((3,), 3))
    empty = Rows(np.zeros((1, 1, 3)), np.zeros((1, 1), dtype=np.int64), np.zeros((1, 1), dtype=bool))
    state = rule.adapt(PARAMS, empty)
    for name, array in state.items():
        np.testing.assert_array_equal(array[0], PARAMS[f"net/{name}"])
    assert rule.evidence(PARAMS, empty).tolist() == [0.0]


def test_five_steps_and_ten_rows_are_fast() -> None:
    rule = Traced(RULE, Spec((3,), 3))
    support, new = _rows(1, 8, 3), _rows(1, 10, 3).x

    def once() -> float:
        begun = time.perf_counter()
        rule.predict(PARAMS, rule.adapt(PARAMS, support), new)
        return time.perf_counter() - begun

    once()
    assert statistics.median(once() for _ in range(9)) < 0.02


def test_numpy_rule_on_features() -> None:
    net = NetSpec("mlp", (3,), (4,), 6, "tanh", True)
    arrays = {f"net/{name}": np.asarray(array) for name, array in jax.jit(net.init)(jax.random.key(0)).items()}
    rule = features.OnFeatures(BayesianLinear(), net, raw=True)
    rows = _rows(2, 7)
    plain = BayesianLinear()
    prior = {"weight": np.ones(1), "mean": np.zeros((1, 10)), "factor": np.eye(10)[None], "noise": np.ones(1)}
    found = features.features_of(net, {k[4:]: v for k, v in arrays.items()}, rows.x.reshape(-1, 3))
    mapped = np.concatenate([rows.x, found.reshape(2, 7, 6)], axis=2)
    direct = plain.adapt(prior, Rows(mapped, rows.y, rows.mask))
    through = rule.adapt(prior | arrays, rows)
    np.testing.assert_allclose(through["mean"], direct["mean"], rtol=1e-9)
    np.testing.assert_allclose(
        rule.evidence(prior | arrays, rows), plain.evidence(prior, Rows(mapped, rows.y, rows.mask))
    )
    more = rule.update(prior | arrays, rule.adapt(prior | arrays, rows), rows)
    assert more is not None
    assert more["rows"].tolist() == [14.0, 14.0]


def test_too_many_classes_are_refused() -> None:
    from upstairs.errors import PriorMismatchError

    rows = Rows(np.zeros((1, 4, 3)), np.arange(4)[None], np.ones((1, 4), dtype=bool))
    with pytest.raises(PriorMismatchError, match="at most 3 classes, but the task has 4; learn one with ways=4"):
        Traced(RULE, Spec((3,), 3)).adapt(PARAMS, rows)
