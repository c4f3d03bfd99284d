"""Modules and flat arrays are two forms of one thing, and rows of an image net do not see each other."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upstairs.errors import PriorMismatchError
from upstairs.nets import NetSpec, OwnNet
from upstairs.nets.build import flatten, unflatten

SMALL = NetSpec("conv4", (8, 8, 2), (3, 3), 0)


def test_rows_do_not_see_each_other_and_leading_axes_are_free() -> None:
    arrays = jax.jit(SMALL.init)(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (3, 8, 8, 2))
    forward = jax.jit(lambda arrays, x: SMALL(arrays, x))
    together = forward(arrays, x)
    assert together.shape == (3, SMALL.outputs) == (3, 12)
    changed = forward(arrays, x.at[1:].set(5.0))
    np.testing.assert_allclose(changed[0], together[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(forward(arrays, x.reshape(3, -1)), together, rtol=1e-6)


def test_spec_module_arrays_and_settings_go_round() -> None:
    for spec in (NetSpec("mlp", (3,), (4, 5), 2, "tanh", True), NetSpec("conv4", (8, 8, 1), (2,), 3), SMALL):
        arrays = jax.jit(spec.init)(jax.random.key(0))
        assert flatten(spec.module(arrays)).keys() == arrays.keys()
        assert NetSpec.from_settings(spec.settings()) == spec
        assert hash(NetSpec.from_settings(spec.settings())) == hash(spec)
    assert list(arrays)[:2] == ["blocks.0.weight", "blocks.0.scale"] or "blocks.0.weight" in arrays


def test_a_normalised_mlp_gives_every_row_mean_zero_and_variance_one_before_it_bends() -> None:
    spec = NetSpec("mlp", (3,), (6, 5), 2, "tanh", final=True, normalised=True)
    arrays = jax.jit(spec.init)(jax.random.key(0))
    arrays = {
        name: array + 0.1 * jax.random.normal(jax.random.key(n), array.shape)
        for n, (name, array) in enumerate(arrays.items())
    }
    x = jax.random.normal(jax.random.key(1), (4, 3))
    expected = np.asarray(x, np.float64)
    for layer in range(3):
        weight, bias, gain, shift = (
            np.asarray(arrays[name], np.float64)
            for name in (
                f"layers.{layer}.weight",
                f"layers.{layer}.bias",
                f"norms.{layer}.gain",
                f"norms.{layer}.shift",
            )
        )
        before = expected @ weight + bias
        before = (before - before.mean(axis=1, keepdims=True)) / np.sqrt(before.var(axis=1, keepdims=True) + 1e-5)
        expected = np.tanh(before * gain + shift)
    np.testing.assert_allclose(jax.jit(lambda arrays, x: spec(arrays, x))(arrays, x), expected, rtol=1e-4, atol=1e-5)
    assert "norms.0.gain" not in NetSpec("mlp", (3,), (4,), 2).init(jax.random.key(0))
    assert "norms.1.gain" not in NetSpec("mlp", (3,), (4,), 2, normalised=True).init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"normalised=True is for 'mlp', but name='conv4', which always normalises"):
        NetSpec("conv4", (8, 8, 1), (2,), 3, normalised=True)


def test_own_module_is_a_template() -> None:
    template = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    net = OwnNet.of(template, (3,))
    assert net.outputs == 2
    assert net == OwnNet.of(eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(1)), (3,))
    assert hash(net) == hash(OwnNet.of(template, (3,)))
    assert net != OwnNet.of(eqx.nn.MLP(3, 2, 4, 1, activation=jnp.tanh, key=jax.random.key(0)), (3,))
    arrays = net.init(jax.random.key(9))
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(net(arrays, x), jax.vmap(template)(x), rtol=1e-6)
    assert "layers.0.weight" in arrays
    with pytest.raises(PriorMismatchError, match="calling it failed"):
        OwnNet.of(template, (4,))


def test_a_mismatch_names_the_first_leaf() -> None:
    spec = NetSpec("mlp", (3,), (4,), 2)
    arrays = jax.jit(spec.init)(jax.random.key(0))
    wider = NetSpec("mlp", (3,), (5,), 2)
    with pytest.raises(PriorMismatchError, match=r"layers.0.weight.*\(3, 5\).*\(3, 4\)"):
        wider.module(arrays)
    with pytest.raises(PriorMismatchError, match=r"'extra' has no place"):
        unflatten(spec.module(arrays), arrays | {"extra": jnp.zeros(1)})
    with pytest.raises(PriorMismatchError, match=r"layers.1.bias"):
        spec.module({name: array for name, array in arrays.items() if name != "layers.1.bias"})


def test_impossible_nets_are_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        NetSpec("conv4", (8, 8, 1), (4, 4, 4, 4))
    with pytest.raises(ValueError, match=r"rows of shape \(features,\)"):
        NetSpec("mlp", (8, 8), (4,), 1)
    with pytest.raises(ValueError, match="outputs must be at least 1"):
        NetSpec("mlp", (8,), (4,))
