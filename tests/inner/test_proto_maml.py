"""Proto-MAML: without steps it is the nearest class mean; gradients; any number of classes."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradient_cases import agrees_with_central_differences, double_params, masked_rows_count_for_nothing, problem

from upstairs.errors import PriorMismatchError
from upstairs.inner.descent import SGD, PerParameterSGD
from upstairs.inner.heads import PrototypeHead
from upstairs.inner.proto_maml import ProtoMaml
from upstairs.inner.traced import Spec, TaskRows, TracedRule

KEY = jax.random.key(0)


def predicted(rule: TracedRule, params: Any, support: TaskRows, x: Any) -> Any:
    """Logits of rows after the support."""
    return jax.jit(lambda params, support, x: rule.predict(params, rule.adapt(params, *support), x).value)(
        params, support, x
    )


def test_without_steps_it_is_the_nearest_class_mean() -> None:
    with jax.enable_x64(True):
        spec, net, support, query = problem(3)
        rule, head = ProtoMaml(net, 4, 0), PrototypeHead(net, 4)  # class 3 has no rows
        params = double_params(head, spec)
        values = [predicted(one, params, support, query.x) for one in (rule, head)]
        away = np.asarray(values[0] - values[1])[:, :3]
        np.testing.assert_allclose(away - away[:, :1], 0.0, atol=1e-12)
        probability = jax.nn.softmax(values[0])
        assert float(probability[:, 3].max()) == 0.0


def test_a_step_by_hand() -> None:
    """From logits z = W f + b with softmax p, the layer's bias moves by -rate * mean(p - onehot)."""
    with jax.enable_x64(True):
        spec, net, support, _ = problem(3)
        rule = ProtoMaml(net, 3, 0, SGD(0.2))
        params = double_params(rule, spec)
        start = jax.jit(rule.adapt)(params, *support)
        real = np.asarray(support.mask)
        p = np.asarray(jax.nn.softmax(jax.jit(rule.predict)(params, start, support.x).value))[real]
        onehot = np.eye(3)[np.asarray(support.y)[real]]
        state = jax.jit(dataclasses.replace(rule, steps=1).adapt)(params, *support)
        np.testing.assert_allclose(state["head/bias"], start["head/bias"] - 0.2 * (p - onehot).mean(axis=0), rtol=1e-9)
        assert float(jnp.abs(state["net/layers.0.weight"] - params["net/layers.0.weight"]).max()) > 0


def test_gradients_are_central_differences() -> None:
    with jax.enable_x64(True):
        spec, net, support, query = problem(3)
        rule = ProtoMaml(net, 4, 2, SGD(0.2, learned=True))
        params = double_params(rule, spec)
        agrees_with_central_differences(lambda p: rule.outer_loss(p, support, query, KEY), params)


def test_first_order_keeps_the_gradient_through_the_class_means() -> None:
    with jax.enable_x64(True):
        spec, net, support, query = problem(3)
        params = double_params(ProtoMaml(net, 3, 0, SGD(0.0)), spec)
        found = [
            jax.jit(jax.grad(lambda p, rule=rule: rule.outer_loss(p, support, query, KEY)))(params)
            for rule in (ProtoMaml(net, 3, 1, SGD(0.0), True), ProtoMaml(net, 3, 0, SGD(0.0)))
        ]
        for name in found[0]:
            np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-9, atol=1e-13)


def test_any_number_of_classes_and_masked_rows() -> None:
    spec, net, support, _ = problem(3)
    rule = ProtoMaml(net, 3, 2)
    wide = dataclasses.replace(rule, ways=7)
    one = jax.jit(rule.init, static_argnums=1)(KEY, spec)
    other = jax.eval_shape(lambda: wide.init(KEY, Spec((3,), 7)))
    assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in other.items()}
    masked_rows_count_for_nothing(rule, spec, support)
    nothing = TaskRows(support.x.astype(jnp.float32), support.y, jnp.zeros(6, bool))
    even = predicted(rule, one, nothing, nothing.x)
    np.testing.assert_array_equal(even, np.zeros((6, 3)))
    with pytest.raises(PriorMismatchError, match="PerParameterSGD learns 'rate/head/weight' for the last layer"):
        ProtoMaml(net, 3, 2, PerParameterSGD()).init(KEY, spec)
