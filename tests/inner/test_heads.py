"""Closed-form heads agree with the NumPy rules, and their gradients with finite differences."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upstairs.inner.gaussian import BayesianLinear
from upstairs.inner.heads import BayesianLinearHead, PrototypeHead, linear_params, prototype_params
from upstairs.inner.prototype import Prototype
from upstairs.inner.rule import Rows
from upstairs.inner.traced import Spec, TaskRows
from upstairs.nets import NetSpec

NET = NetSpec("mlp", (3,), (4,), 5, "tanh", True)
RNG = np.random.default_rng(0)
X, X_NEW = RNG.normal(size=(9, 3)), RNG.normal(size=(4, 3))
MASK = np.arange(9) < 7


def _params(head: Any, spec: Spec) -> dict[str, jax.Array]:
    params = {k: jnp.asarray(v, jnp.float64) for k, v in head.init(jax.random.key(0), spec).items()}
    noisy = np.random.default_rng(1)
    return {k: v + 0.1 * noisy.normal(size=v.shape) for k, v in params.items()}


def _features(params: dict[str, jax.Array], x: np.ndarray) -> np.ndarray:
    return np.asarray(NET({k[4:]: v for k, v in params.items() if k.startswith("net/")}, jnp.asarray(x)))


def test_bayesian_linear_head_is_the_numpy_rule_on_its_features() -> None:
    with jax.enable_x64(True):
        head, y = BayesianLinearHead(NET), np.sin(X.sum(axis=1))
        params = _params(head, Spec((3,)))
        state = head.adapt(params, jnp.asarray(X), jnp.asarray(y), jnp.asarray(MASK))
        predicted = head.predict(params, state, jnp.asarray(X_NEW))
        rule, held = BayesianLinear(), linear_params({k: np.asarray(v) for k, v in params.items()})
        rows = Rows(_features(params, X)[None] * MASK[None, :, None], y[None], MASK[None])
        exact = rule.predict(held, rule.adapt(held, rows), _features(params, X_NEW)[None])
        np.testing.assert_allclose(predicted.mean, exact.mean[0], rtol=1e-9)
        np.testing.assert_allclose(predicted.variance, exact.variance[0], rtol=1e-9)


@pytest.mark.parametrize("diagonal", [False, True])
def test_prototype_head_is_the_numpy_rule_on_its_features(diagonal: bool) -> None:
    with jax.enable_x64(True):
        head, y = PrototypeHead(NET, 4, diagonal), np.arange(9) % 3  # class 3 has no rows
        params = _params(head, Spec((3,), 4))
        state = head.adapt(params, jnp.asarray(X), jnp.asarray(y), jnp.asarray(MASK))
        probability = jax.nn.softmax(head.predict(params, state, jnp.asarray(X_NEW)).value)
        rule, held = Prototype(), prototype_params({k: np.asarray(v) for k, v in params.items()}, _features(params, X))
        rows = Rows(_features(params, X)[None], y[None], MASK[None])
        exact = rule.predict(held, rule.adapt(held, rows), _features(params, X_NEW)[None])
        np.testing.assert_allclose(probability[:, :3], exact.probability[0], rtol=1e-9)
        assert probability[:, 3].max() == 0.0
        score = rule.evidence(held, rows)[0]  # distances to the centre in units of the spread know no scale
        plain = prototype_params({"temperature": np.zeros(())}, _features(params, X))
        assert score == pytest.approx(rule.evidence(plain, rows)[0], rel=1e-9)


def test_scales_of_one_are_the_prototypes_without() -> None:
    plain, scaled = PrototypeHead(NET, 3), PrototypeHead(NET, 3, diagonal=True)
    params = plain.init(jax.random.key(0), Spec((3,), 3))
    more = scaled.init(jax.random.key(0), Spec((3,), 3))
    assert set(more) - set(params) == {"scale"}
    x, y, mask = jnp.asarray(X, jnp.float32), jnp.arange(9) % 3, jnp.asarray(MASK)
    for name, array in plain.adapt(params, x, y, mask).items():
        np.testing.assert_array_equal(array, scaled.adapt(more, x, y, mask)[name])


@pytest.mark.parametrize(("ways", "diagonal"), [(0, False), (3, False), (3, True)])
def test_gradients_are_central_differences(ways: int, diagonal: bool) -> None:
    with jax.enable_x64(True):
        head = PrototypeHead(NET, ways, diagonal) if ways else BayesianLinearHead(NET)
        params = _params(head, Spec((3,), ways))
        y = np.arange(9) % 3 if ways else np.sin(X.sum(axis=1))
        rows = TaskRows(jnp.asarray(X), jnp.asarray(y), jnp.asarray(MASK))
        new = TaskRows(jnp.asarray(X_NEW), jnp.asarray(y[:4]), jnp.ones(4, bool))
        loss = jax.jit(lambda p: head.outer_loss(p, rows, new, jax.random.key(0)))
        gradient = jax.jit(jax.grad(loss))(params)
        for number, (name, array) in enumerate(params.items()):
            direction = np.random.default_rng(number).normal(size=array.shape)
            up, down = (loss(params | {name: array + sign * 1e-5 * direction}) for sign in (1.0, -1.0))
            expected = float(up - down) / 2e-5
            assert float((gradient[name] * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-8), name
