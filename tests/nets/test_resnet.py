"""The residual network is what its papers draw, has derivatives of any order, and says whose statistics it uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upstairs.nets import NetSpec
from upstairs.nets.build import flatten_shapes
from upstairs.nets.resnet import convolve, normalise_together

TINY = NetSpec("resnet12", (4, 5, 2), (3,))
TOGETHER = NetSpec("resnet12", (4, 4, 1), (3,), 0, statistics="batch")


def test_a_one_by_one_window_mixes_channels() -> None:
    x, weight = jnp.arange(12.0).reshape(2, 3, 2), jnp.array([[1.0], [10.0]])
    np.testing.assert_array_equal(convolve(x, weight)[..., 0], x[..., 0] + 10.0 * x[..., 1])


def test_a_block_is_three_convolutions_beside_a_shortcut() -> None:
    rng = np.random.default_rng(1)
    arrays = {name: rng.normal(size=array.shape) for name, array in jax.jit(TINY.init)(jax.random.key(0)).items()}
    x = rng.normal(size=(2, 4, 5, 2))

    def layer(name: str, x: np.ndarray) -> np.ndarray:
        weight, scale, shift = (arrays[f"blocks.0.{name}.{part}"] for part in ("weight", "scale", "shift"))
        side = 1 if name == "shortcut" else 3
        padded = np.pad(x, [(0, 0), (side // 2,) * 2, (side // 2,) * 2, (0, 0)])
        patches = [padded[:, i : i + 4, j : j + 5] for i in range(side) for j in range(side)]
        out = np.concatenate(patches, axis=-1) @ weight
        mean, var = (getattr(out, what)(axis=(1, 2, 3), keepdims=True) for what in ("mean", "var"))
        return (out - mean) / np.sqrt(var + 1e-5) * scale + shift

    def bend(x: np.ndarray) -> np.ndarray:
        return np.maximum(x, 0.1 * x)

    total = bend(layer("third", bend(layer("second", bend(layer("first", x))))) + layer("shortcut", x))
    pooled = total[:, :4, :4].reshape(2, 2, 2, 2, 2, 3).max(axis=(2, 4))
    with jax.enable_x64(True):
        found = jax.jit(TINY)(jax.tree.map(jnp.asarray, arrays), jnp.asarray(x))
    np.testing.assert_allclose(found, pooled.mean(axis=(1, 2)), rtol=1e-10)


def residual(arrays: Any) -> jax.Array:
    return TINY(arrays, jnp.linspace(-2.0, 3.0, 80).reshape(2, 4, 5, 2) ** 2)


def together(arrays: Any) -> jax.Array:
    return normalise_together(*arrays.values(), mask=jnp.array([True, False, True]))


NETS = {
    "the network": (residual, lambda: jax.jit(TINY.init)(jax.random.key(0))),
    "statistics of a batch": (together, lambda: {"x": jnp.zeros((3, 1, 2, 2)), "y": jnp.zeros(2), "z": jnp.zeros(2)}),
}


@pytest.mark.parametrize("name", NETS)
def test_the_gradient_of_a_gradient_is_that_of_finite_differences(name: str) -> None:
    function, start = NETS[name]
    rng = np.random.default_rng(2)
    with jax.enable_x64(True):
        arrays, *directions = (
            jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), start()) for _ in range(3)
        )

        def along(function: Callable, direction: Any) -> Callable:
            def slope(arrays: Any) -> jax.Array:
                pairs = zip(jax.tree.leaves(jax.grad(function)(arrays)), jax.tree.leaves(direction), strict=True)
                return sum((jnp.vdot(one, other) for one, other in pairs), jnp.zeros(()))

            return slope

        first = along(lambda arrays: jnp.sin(function(arrays)).sum(), directions[0])
        second = jax.jit(along(first, directions[1]))(arrays)
        jitted = jax.jit(first)
        ends = [jitted(jax.tree.map(lambda a, d, h=h: a + h * d, arrays, directions[1])) for h in (1e-6, -1e-6)]
        assert abs(second) > 1e-2
        np.testing.assert_allclose(second, (ends[0] - ends[1]) / 2e-6, rtol=1e-6)


def test_a_description_goes_round_and_says_its_width() -> None:
    assert TINY.outputs == 3
    assert NetSpec("resnet12", (16, 16, 3), (16, 32, 64, 128)).outputs == 128
    assert TINY.heavy == (jax.default_backend() == "cpu")
    for spec in (TINY, TOGETHER, NetSpec("resnet12", (4, 4, 1), (2,), 5)):
        arrays = jax.eval_shape(spec.init, jax.random.key(0))
        assert flatten_shapes(spec.module(arrays)).keys() == arrays.keys()
        assert NetSpec.from_settings(spec.settings()) == spec
        assert spec.settings()["statistics"] == spec.statistics
    assert "last.weight" in arrays
    assert NetSpec("resnet12", (4, 4, 1), (3,)) != TOGETHER
    assert "statistics" not in NetSpec("mlp", (3,), (4,), 1).settings()
    older = {name: value for name, value in TINY.settings().items() if name != "statistics"}
    assert NetSpec.from_settings(older) == TINY


def test_rows_see_each_other_only_where_it_is_asked_for() -> None:
    x = jax.random.normal(jax.random.key(1), (4, 4, 4, 1))
    mask = jnp.array([True, True, True, False])
    changed, padding = x.at[1].multiply(-3.0), x.at[3].set(5.0)
    arrays = jax.jit(TOGETHER.init)(jax.random.key(0))
    among = jax.jit(TOGETHER)
    assert jnp.abs(among(arrays, changed, mask) - among(arrays, x, mask))[0].max() > 1e-3
    np.testing.assert_array_equal(among(arrays, padding, mask)[:3], among(arrays, x, mask)[:3])
    np.testing.assert_allclose(among(arrays, x[:3], mask[:3]), among(arrays, x, mask)[:3], rtol=1e-4, atol=1e-5)
    assert jnp.isfinite(among(arrays, x, jnp.zeros(4, bool))).all()
    alone = jax.jit(NetSpec("resnet12", (4, 4, 1), (3,)))
    np.testing.assert_allclose(alone(arrays, changed)[0], alone(arrays, x)[0], rtol=1e-5)
    with pytest.raises(ValueError, match="must be told which of them count"):
        TOGETHER(arrays, x)


def test_statistics_of_a_batch_are_those_of_real_rows() -> None:
    rng = np.random.default_rng(3)
    x, scale, shift = rng.normal(2.0, 3.0, (5, 2, 3, 4)), rng.normal(size=4), rng.normal(size=4)
    real = np.array([True, False, True, True, False])
    mean, var = x[real].mean(axis=(0, 1, 2)), x[real].var(axis=(0, 1, 2))
    with jax.enable_x64(True):
        found = normalise_together(*map(jnp.asarray, (x, scale, shift)), mask=jnp.asarray(real))
    np.testing.assert_allclose(found, (x - mean) / np.sqrt(var + 1e-5) * scale + shift, rtol=1e-10)


def test_impossible_nets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"resnet12 halves the image 4 times, and \(8, 8\) is too small"):
        NetSpec("resnet12", (8, 8, 1), (4, 4, 4, 4))
    with pytest.raises(ValueError, match=r"statistics='batch' is for"):
        NetSpec("mlp", (8,), (4,), 1, statistics="batch")
