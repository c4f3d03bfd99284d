"""ANIL and BOIL: one step of each is a part of a step of MAML; gradients; what counts as the last layer."""

from __future__ import annotations

import equinox as eqx
import jax
import numpy as np
import pytest
from gradient_cases import (
    agrees_with_central_differences,
    double_params,
    masked_rows_count_for_nothing,
    problem,
    slope_net,
)

from upstairs.errors import PriorMismatchError
from upstairs.inner.anil import Anil, Boil, last_layer
from upstairs.inner.descent import SGD, PerParameterSGD
from upstairs.inner.gradient import Maml
from upstairs.inner.traced import Spec
from upstairs.nets import NetSpec, OwnNet

HEAD, BODY = {"layers.1.weight", "layers.1.bias"}, {"layers.0.weight", "layers.0.bias"}


@pytest.mark.parametrize("ways", [0, 3])
def test_one_step_is_a_part_of_a_step_of_maml(ways: int) -> None:
    with jax.enable_x64(True):
        spec, net, support, query = problem(ways)
        maml = Maml(net, ways, 1, SGD(0.2))
        params = double_params(maml, spec)
        whole, predict = jax.jit(maml.adapt)(params, *support), jax.jit(maml.predict)
        for rule, names in ((Anil(net, ways, 1, SGD(0.2)), HEAD), (Boil(net, ways, 1, SGD(0.2)), BODY)):
            state = jax.jit(rule.adapt)(params, *support)
            assert set(state) == names
            for name in names:
                np.testing.assert_allclose(state[name], whole[name], rtol=1e-12)
            mixed = {name[4:]: array for name, array in params.items() if name.startswith("net/")} | dict(state)
            for mine, theirs in zip(
                jax.jit(rule.predict)(params, state, query.x), predict(params, mixed, query.x), strict=True
            ):
                np.testing.assert_allclose(mine, theirs, rtol=1e-12)


def test_a_head_step_of_a_regression_by_hand() -> None:
    with jax.enable_x64(True):
        spec, net, support, _ = problem(0)
        rule = Anil(net, 0, 1, SGD(0.2))
        params = double_params(rule, spec)
        real = np.asarray(support.mask)
        x, y = np.asarray(support.x)[real], np.asarray(support.y)[real]
        features = np.tanh(x @ params["net/layers.0.weight"] + params["net/layers.0.bias"])
        rest = features @ params["net/layers.1.weight"][:, 0] + params["net/layers.1.bias"][0] - y
        state = jax.jit(rule.adapt)(params, *support)
        start = params["net/layers.1.weight"][:, 0], params["net/layers.1.bias"][0]
        np.testing.assert_allclose(state["layers.1.weight"][:, 0], start[0] - 0.2 * features.T @ rest / len(y))
        np.testing.assert_allclose(state["layers.1.bias"][0], start[1] - 0.2 * rest.mean())


@pytest.mark.parametrize(("ways", "body"), [(0, True), (3, False)])
def test_gradients_are_central_differences(ways: int, body: bool) -> None:
    with jax.enable_x64(True):
        spec, net, support, query = problem(ways)
        rule = Anil(net, ways, 2, SGD(0.2, learned=True), body)
        params = double_params(rule, spec)
        agrees_with_central_differences(lambda p: rule.outer_loss(p, support, query, jax.random.key(0)), params)


def test_masked_rows_and_own_rates() -> None:
    spec, net, support, _ = problem(3)
    rule = Anil(net, 3, 2, PerParameterSGD(0.1))
    masked_rows_count_for_nothing(rule, spec, support)
    masked_rows_count_for_nothing(Boil(net, 3, 2), spec, support)
    rates = {name for name in jax.eval_shape(lambda: rule.init(jax.random.key(0), spec)) if name.startswith("descent/")}
    assert rates == {f"descent/rate/{name}" for name in HEAD}


class Last(eqx.Module):
    """Two layers whose names sort the wrong way round, and more than ten."""

    zebra: list[eqx.nn.Linear]
    aisle: eqx.nn.Linear

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.zebra:
            x = layer(x)
        return self.aisle(x)


def test_the_last_layer() -> None:
    assert last_layer(NetSpec("conv4", (8, 8, 1), (4, 4), 3)) == {"last.weight", "last.bias"}
    deep = last_layer(NetSpec("mlp", (2,), (2,) * 11, 1))
    assert deep == {"layers.11.weight", "layers.11.bias"}
    layer = eqx.nn.Linear(2, 2, key=jax.random.key(0))
    assert last_layer(OwnNet.of(Last([layer] * 2, layer), (2,))) == {"aisle.weight", "aisle.bias"}


@pytest.mark.parametrize("rule", [Anil(slope_net()), Boil(NetSpec("mlp", (1,), (), 1))])
def test_a_network_without_two_layers_is_refused(rule: Anil | Boil) -> None:
    with pytest.raises(PriorMismatchError, match="at least two layers, but this one has the arrays"):
        rule.init(jax.random.key(0), Spec((1,)))
    assert not rule.sequential
