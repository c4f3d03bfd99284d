"""MAML, its first-order form and Reptile: the hand-worked case, finite differences, and what a stranger's rule needs."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upstairs.errors import PriorMismatchError
from upstairs.inner.descent import SGD, Adam
from upstairs.inner.gradient import Maml, Reptile, descend
from upstairs.inner.traced import Spec, TaskRows, TracedRule
from upstairs.nets import NetSpec, OwnNet


class Slope(eqx.Module):
    """f(x) = t x: with one row (sqrt(h), sqrt(h) c) half the squared error is h (t - c)^2 / 2."""

    t: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.t * x


def start(rule: TracedRule, spec: Spec) -> Any:
    return jax.jit(rule.init, static_argnums=1)(jax.random.key(0), spec)


def outer_gradient(rule: TracedRule, params: Any, support: TaskRows, query: TaskRows) -> Any:
    key = jax.random.key(0)
    loss: Any = lambda p: jax.vmap(rule.outer_loss, (None, 0, 0, None))(p, support, query, key).mean()  # noqa: E731
    return jax.jit(jax.grad(loss))(params)


def test_hand_worked_case() -> None:
    """h = (1, 4), c = (-1, 1), rate .1, t = .3, support = query."""
    with jax.enable_x64(True):
        net = OwnNet.of(Slope(jnp.array(0.3)), (1,))
        rows = TaskRows(jnp.array([[[1.0]], [[2.0]]]), jnp.array([[-1.0], [2.0]]), jnp.ones((2, 1), bool))
        maml = Maml(net, steps=1, descent=SGD(0.1))
        found = {}
        for name, rule in {
            "maml": maml,
            "first order": dataclasses.replace(maml, first_order=True),
            "joint": dataclasses.replace(maml, steps=0),
            "reptile": Reptile(net, steps=1, descent=SGD(0.1)),
        }.items():
            params = start(rule, Spec((1,)))
            params["noise"] = jnp.log(jnp.array(1.0 - 1e-6))  # variance one: the log density is half the squared error
            found[name] = float(outer_gradient(rule, params, rows, rows)["net/t"])
    assert found["maml"] == pytest.approx(0.0225, abs=1e-12)
    assert found["first order"] == pytest.approx(-0.255, abs=1e-12)
    assert found["joint"] == pytest.approx(-0.75, abs=1e-12)
    assert found["reptile"] / 0.1 == pytest.approx(-0.75, abs=1e-12)


def _problem(ways: int) -> tuple[Spec, TaskRows, TaskRows]:
    rng = np.random.default_rng(0)

    def rows(count: int) -> TaskRows:
        x = rng.normal(size=(2, count, 3))
        y = rng.integers(0, ways, size=(2, count)) if ways else np.sin(x.sum(axis=2))
        mask = np.ones((2, count), bool)
        mask[0, -1] = False
        return TaskRows(jnp.asarray(x), jnp.asarray(y), jnp.asarray(mask))

    return Spec((3,), ways), rows(4), rows(5)


@pytest.mark.parametrize(("ways", "steps"), [(0, 2), (3, 1), (3, 7)])
def test_gradients_are_central_differences(ways: int, steps: int) -> None:
    with jax.enable_x64(True):
        spec, support, query = _problem(ways)
        net = NetSpec("mlp", (3,), (4,), ways or 1, "tanh")
        rule = Maml(net, ways, steps, SGD(0.2, learned=True))
        params = start(rule, spec)
        params = {name: jnp.asarray(array, jnp.float64) for name, array in params.items()}

        @jax.jit
        @jax.value_and_grad
        def both(p: Any) -> Any:
            return jax.vmap(rule.outer_loss, (None, 0, 0, None))(p, support, query, jax.random.key(0)).mean()

        gradient = both(params)[1]
        for number, (name, array) in enumerate(params.items()):
            direction = np.random.default_rng(number).normal(size=array.shape)
            step = 1e-5
            up, down = (both(params | {name: array + sign * step * direction})[0] for sign in (1.0, -1.0))
            expected = float(up - down) / (2 * step)
            assert float((gradient[name] * direction).sum()) == pytest.approx(expected, rel=1e-6, abs=1e-9), name


def test_first_order_stops_gradients_and_not_weights() -> None:
    with jax.enable_x64(True):
        spec, support, query = _problem(3)
        net = NetSpec("mlp", (3,), (4,), 3, "tanh")
        rule = Maml(net, 3, 3, SGD(0.2), first_order=True)
        params = {k: jnp.asarray(v, jnp.float64) for k, v in start(rule, spec).items()}
        found = outer_gradient(rule, params, support, query)
        fixed = Maml(net, 3, 0)

        def at_the_end(support: TaskRows, query: TaskRows) -> Any:
            state = {f"net/{name}": array for name, array in rule.adapt(params, *support).items()}
            return jax.grad(lambda p: fixed.outer_loss(p, query, query, jax.random.key(0)))(state)

        each = jax.jit(jax.vmap(at_the_end))(support, query)
        expected = {name: np.asarray(gradient).mean(axis=0) for name, gradient in each.items()}
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-12)


def test_no_rows_give_the_start_and_padding_counts_for_nothing() -> None:
    spec, support, _ = _problem(3)
    rule = Maml(NetSpec("mlp", (3,), (4,), 3), 3, 2)
    params, adapt = start(rule, spec), jax.jit(rule.adapt)
    x, y = support.x[0].astype(jnp.float32), support.y[0]
    none = adapt(params, x, y, jnp.zeros(4, bool))
    some = adapt(params, x, y, support.mask[0])
    fewer = adapt(params, x[:3], y[:3], support.mask[0][:3])
    for name, array in none.items():
        np.testing.assert_array_equal(array, params[f"net/{name}"])
        np.testing.assert_allclose(some[name], fewer[name], rtol=1e-5, atol=1e-6)


def test_descend_agrees_between_few_and_many_steps() -> None:
    curve = jnp.array([1.0, 3.0])
    for descent in (SGD(0.1), Adam(0.05, beta1=0.9)):
        start = {"w": jnp.array([1.0, -2.0])}
        loss = lambda w: 0.5 * (curve * w["w"] ** 2).sum()  # noqa: E731
        once = descend(loss, start, steps=8, descent=descent, settings={})
        if isinstance(descent, SGD):
            np.testing.assert_allclose(once["w"], start["w"] * (1 - 0.1 * curve) ** 8, rtol=1e-5)
        assert loss(once) < loss(start)


def test_a_net_that_does_not_fit_is_refused() -> None:
    rule = Maml(NetSpec("mlp", (3,), (4,), 2), 3, 1)
    with pytest.raises(PriorMismatchError, match="2 outputs, but the tasks need 3"):
        rule.init(jax.random.key(0), Spec((3,), 3))
    with pytest.raises(PriorMismatchError, match=r"shape \(3,\), but the tasks' rows are \(5,\)"):
        rule.init(jax.random.key(0), Spec((5,), 3))
