"""What tests of gradient rules share: the hand-worked case, a small problem, central differences."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upstairs.inner.traced import Spec, TaskRows, TracedRule
from upstairs.nets import NetSpec, OwnNet


class Slope(eqx.Module):
    """f(x) = t x: with one row (sqrt(h), sqrt(h) c) half the squared error is h (t - c)^2 / 2."""

    t: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.t * x


def slope_net() -> OwnNet:
    return OwnNet.of(Slope(jnp.array(0.3)), (1,))


def hand_worked(rule: TracedRule, **more: Any) -> dict[str, Any]:
    """Outer gradient at t = .3 for h = (1, 4), c = (-1, 1), support = query, noise of variance one."""
    rows = TaskRows(jnp.array([[[1.0]], [[2.0]]]), jnp.array([[-1.0], [2.0]]), jnp.ones((2, 1), bool))
    params = jax.jit(rule.init, static_argnums=1)(jax.random.key(0), Spec((1,)))
    params["noise"] = jnp.log(jnp.array(1.0 - 1e-6))

    def loss(params: Any) -> Any:
        one: Any = lambda task: rule.outer_loss(params, task, task, jax.random.key(0), **more)  # noqa: E731
        return jax.vmap(one)(rows).mean()

    return jax.jit(jax.grad(loss))(params)


def problem(ways: int) -> tuple[Spec, NetSpec, TaskRows, TaskRows]:
    """One task with rows that are masked out, and a network of two layers for it."""
    rng = np.random.default_rng(0)

    def rows(count: int) -> TaskRows:
        x = rng.normal(size=(count, 3))
        y = np.arange(count) % ways if ways else np.sin(x.sum(axis=1))
        return TaskRows(jnp.asarray(x), jnp.asarray(y), jnp.arange(count) < count - 1)

    return Spec((3,), ways), NetSpec("mlp", (3,), (4,), ways or 1, "tanh"), rows(6), rows(5)


def double_params(rule: TracedRule, spec: Spec) -> dict[str, Any]:
    """Params in float64, none of them zero."""
    rng = np.random.default_rng(1)
    params = jax.jit(rule.init, static_argnums=1)(jax.random.key(0), spec)
    return {name: jnp.asarray(v, jnp.float64) + 0.05 * rng.normal(size=v.shape) for name, v in sorted(params.items())}


def agrees_with_central_differences(loss: Any, params: dict[str, Any], rel: float = 1e-6) -> None:
    """Check the gradient of every array along a random direction."""
    both = jax.jit(jax.value_and_grad(loss))
    gradient = both(params)[1]
    for number, (name, array) in enumerate(params.items()):
        direction = np.random.default_rng(number).normal(size=array.shape)
        step = 1e-5
        up, down = (both(params | {name: array + sign * step * direction})[0] for sign in (1.0, -1.0))
        expected = float(up - down) / (2 * step)
        assert float((gradient[name] * direction).sum()) == pytest.approx(expected, rel=rel, abs=1e-9), name


def masked_rows_count_for_nothing(rule: TracedRule, spec: Spec, support: TaskRows) -> None:
    """Masked rows, the order of rows, and no rows at all."""
    params = jax.jit(rule.init, static_argnums=1)(jax.random.key(0), spec)
    adapt = jax.jit(rule.adapt)
    x, y, mask = support.x.astype(jnp.float32), support.y, support.mask
    y = y.astype(jnp.int32 if spec.ways else jnp.float32)
    some = adapt(params, x, y, mask)
    odd = adapt(params, x[::-1].at[0].set(7.0), y[::-1].at[0].set(0), mask[::-1])
    for name, array in some.items():
        np.testing.assert_allclose(odd[name], array, rtol=1e-5, atol=1e-5)
    none = adapt(params, x, y, jnp.zeros_like(mask))
    for part in jax.jit(rule.predict)(params, none, x):
        assert np.isfinite(part).all()
    for name in set(none) & {key[4:] for key in params}:
        np.testing.assert_array_equal(none[name], params[f"net/{name}"])
