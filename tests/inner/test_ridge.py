"""The ridge head against the primal closed form and finite differences; masks, classes, and what a stranger needs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upstairs.inner.ridge import LEAST_PENALTY, RidgeHead
from upstairs.inner.traced import Logits, Normal, Spec, TaskRows
from upstairs.nets import NetSpec

NET = NetSpec("mlp", (3,), (4,), 5, "tanh", True)
RNG = np.random.default_rng(0)
X, X_NEW = RNG.normal(size=(9, 3)), RNG.normal(size=(4, 3))
MASK = np.arange(9) < 7


def _params(head: RidgeHead) -> dict[str, jax.Array]:
    start = head.init(jax.random.key(0), Spec((3,), head.ways))
    params = {k: jnp.asarray(v, jnp.float64) for k, v in start.items()}
    noisy = np.random.default_rng(1)
    return {k: v + 0.1 * noisy.normal(size=v.shape) for k, v in params.items()}


def _phi(params: dict[str, jax.Array], x: np.ndarray) -> np.ndarray:
    features = np.asarray(NET({k[4:]: v for k, v in params.items() if k.startswith("net/")}, jnp.asarray(x)))
    return np.column_stack([np.ones(len(x)), features])


@pytest.mark.parametrize("rows", [4, 9])  # fewer rows than the six columns, and more
@pytest.mark.parametrize("ways", [0, 3])
def test_it_is_the_primal_closed_form(rows: int, ways: int) -> None:
    with jax.enable_x64(True):
        head, x, mask = RidgeHead(NET, ways), X[:rows], MASK[:rows]
        y = np.arange(rows) % 3 if ways else np.sin(x.sum(axis=1))
        params = _params(head)
        state = head.adapt(params, jnp.asarray(x), jnp.asarray(y), jnp.asarray(mask))
        phi, target = _phi(params, x)[mask], (np.eye(3)[y[mask]] if ways else y[mask, None])
        penalty = float(np.exp(params["penalty"])) + LEAST_PENALTY
        exact = np.linalg.solve(phi.T @ phi + penalty * np.eye(6), phi.T @ target)
        np.testing.assert_allclose(state["weights"], exact, rtol=1e-10, atol=1e-12)
        predicted, scale = head.predict(params, state, jnp.asarray(X_NEW)), float(np.exp(params["scale"]))
        if ways:
            assert isinstance(predicted, Logits)
            np.testing.assert_allclose(predicted.value, scale * _phi(params, X_NEW) @ exact, rtol=1e-9, atol=1e-12)
        else:
            assert isinstance(predicted, Normal)
            mean = scale * (_phi(params, X_NEW) @ exact)[:, 0] + float(params["shift"])
            np.testing.assert_allclose(predicted.mean, mean, rtol=1e-9)
            np.testing.assert_allclose(predicted.variance, np.exp(params["noise"]) + 1e-6, rtol=1e-9)


@pytest.mark.parametrize("ways", [0, 3])
def test_gradients_are_central_differences(ways: int) -> None:
    with jax.enable_x64(True):
        head = RidgeHead(NET, ways)
        params = _params(head)
        y = np.arange(9) % max(ways, 1) if ways else np.sin(X.sum(axis=1))
        rows = TaskRows(jnp.asarray(X), jnp.asarray(y), jnp.asarray(MASK))
        if ways:  # class 2 has no support rows, so that `absent` counts
            rows = rows._replace(mask=rows.mask & (rows.y != 2))
        new = TaskRows(jnp.asarray(X_NEW), jnp.asarray(y[:4]), jnp.ones(4, bool))
        loss = jax.jit(lambda p: head.outer_loss(p, rows, new, jax.random.key(0)))
        gradient = jax.jit(jax.grad(loss))(params)
        for number, (name, array) in enumerate(params.items()):
            direction = np.random.default_rng(number).normal(size=array.shape)
            up_, down = (loss(params | {name: array + sign * 1e-5 * direction}) for sign in (1.0, -1.0))
            expected = float(up_ - down) / 2e-5
            assert abs(expected) > 1e-6, name
            assert float((gradient[name] * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-8), name


def test_masked_rows_drop_out_and_several_outputs_are_learned_apart() -> None:
    with jax.enable_x64(True):
        head = RidgeHead(NET)
        params = _params(head)
        y = np.column_stack([np.sin(X.sum(axis=1)), X[:, 0]])
        y[7:] = np.nan  # what a masked row holds does not matter
        both = head.adapt(params, jnp.asarray(X), jnp.asarray(y), jnp.asarray(MASK))
        assert head.predict(params, both, jnp.asarray(X_NEW)).mean.shape == (4, 2)
        alone = head.adapt(params, jnp.asarray(X[:7]), jnp.asarray(y[:7, 1]), jnp.ones(7, bool))
        np.testing.assert_allclose(both["weights"][:, 1:], alone["weights"], rtol=1e-9)
        none = head.adapt(params, jnp.asarray(X), jnp.asarray(y), jnp.zeros(9, bool))
        prior = head.predict(params, none, jnp.asarray(X_NEW))
        np.testing.assert_array_equal(none["weights"], 0.0)
        np.testing.assert_array_equal(prior.mean, float(params["shift"]))


def test_params_do_not_depend_on_the_number_of_classes() -> None:
    shapes: list[Any] = [
        {name: array.shape for name, array in RidgeHead(NET, ways).init(jax.random.key(0), Spec((3,), ways)).items()}
        for ways in (2, 7)
    ]
    assert shapes[0] == shapes[1]
