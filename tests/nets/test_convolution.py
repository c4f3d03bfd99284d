"""The convolutions, with pooling and without, equal XLA's own, derivatives of any order included, alone and under vmap."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upstairs.nets.convolution import IMAGES, convolve_and_pool, max_pool
from upstairs.nets.resnet import convolve


def alone(x: jax.Array, weight: jax.Array, native: bool) -> jax.Array:
    return convolve_and_pool(x, weight, native=native)


def shared(x: jax.Array, weight: jax.Array, native: bool) -> jax.Array:
    return jax.vmap(alone, (0, None, None))(x, weight, native)


def own(x: jax.Array, weight: jax.Array, native: bool) -> jax.Array:
    return jax.vmap(alone, (0, 0, None))(x, weight, native)


def flat(x: jax.Array, weight: jax.Array, native: bool) -> jax.Array:
    return convolve(x, weight, native=native)


def flat_own(x: jax.Array, weight: jax.Array, native: bool) -> jax.Array:
    return jax.vmap(flat, (0, 0, None))(x, weight, native)


def nested(x: jax.Array, weight: jax.Array, native: bool) -> jax.Array:
    return jax.vmap(own, (None, 0, None))(x, weight, native)


CASES = {
    "one image of odd sides": (alone, (5, 7, 3), (27, 4)),
    "rows that fill no group": (alone, (2 * IMAGES + 1, 4, 5, 2), (18, 3)),
    "a lone cell of an odd image": (alone, (2, 3, 3, 2), (18, 3)),
    "a lone cell": (alone, (2, 2, 2, 2), (18, 3)),
    "tasks share a weight": (shared, (3, 2, 4, 4, 2), (18, 3)),
    "tasks have weights": (own, (3, 2, 4, 4, 2), (3, 18, 3)),
    "tasks of tasks": (nested, (3, 2, 4, 4, 2), (2, 3, 18, 3)),
    "without pooling: rows that fill no group, of odd sides": (flat, (2 * IMAGES + 1, 5, 3, 2), (18, 3)),
    "without pooling: tasks have weights": (flat_own, (2, 3, 4, 4, 2), (2, 18, 3)),
}


@pytest.mark.parametrize("case", CASES)
def test_derivatives_up_to_the_second_are_those_of_xla(case: str) -> None:
    function, *shapes = CASES[case]
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, weight = (jnp.asarray(rng.normal(size=shape)) for shape in shapes)

        def loss(x: jax.Array, weight: jax.Array, native: bool) -> jax.Array:
            return jnp.sin(function(x, weight, native)).sum()

        def twice(x: jax.Array, weight: jax.Array, native: bool) -> jax.Array:
            slopes = jax.grad(loss, (0, 1))(x, weight, native)
            return sum((jnp.sin(slope).sum() for slope in slopes), loss(x, weight, native))

        both = [jax.jit(jax.value_and_grad(twice, (0, 1)), static_argnums=2)(x, weight, way) for way in (False, True)]
        for mine, theirs in zip(*map(jax.tree.leaves, both), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-10)


def test_third_derivatives_are_those_of_xla() -> None:
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        x, weight, *directions = (jnp.asarray(rng.normal(size=size)) for size in 2 * [(3, 5, 4, 2), (18, 2)])

        def along(function: Callable) -> Callable:
            def slope(*at: jax.Array) -> jax.Array:
                slopes = jax.grad(function, (0, 1))(*at)
                return sum((jnp.vdot(one, other) for one, other in zip(slopes, directions, strict=True)), jnp.zeros(()))

            return slope

        def loss(native: bool) -> Callable:
            return lambda x, weight: jnp.sin(convolve_and_pool(x, weight, native=native)).sum()

        mine, theirs = (jax.jit(along(along(along(loss(native)))))(x, weight) for native in (False, True))
        assert abs(theirs) > 1.0
        np.testing.assert_allclose(mine, theirs, rtol=1e-10)


def test_no_rows_give_no_rows() -> None:
    assert convolve_and_pool(jnp.zeros((0, 4, 4, 1)), jnp.ones((9, 2)), native=False).shape == (0, 2, 2, 2)


def test_the_first_of_several_largest_places_has_the_gradient() -> None:
    weight = jnp.zeros((9, 1)).at[4].set(1.0)  # the image itself
    slope = jax.grad(lambda x: convolve_and_pool(x, weight, native=False).sum())
    flat = jnp.zeros((2, 2, 1))
    assert slope(flat)[..., 0].tolist() == [[1.0, 0.0], [0.0, 0.0]]
    for place in range(4):
        x = flat.at[place // 2, place % 2].set(1.0)
        np.testing.assert_array_equal(slope(x), x)


def test_what_is_not_a_number_stays_visible() -> None:
    x = jnp.zeros((4, 4, 1)).at[1, 1].set(jnp.nan)
    assert bool(jnp.isnan(convolve_and_pool(x, jnp.ones((9, 1)), native=False)).any())


def test_max_pool_drops_an_odd_line() -> None:
    x = jnp.arange(2 * 5 * 3.0).reshape(2, 5, 3, 1)
    assert max_pool(x)[..., 0].tolist() == [[[4.0], [10.0]], [[19.0], [25.0]]]
