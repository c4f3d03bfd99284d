"""The two-loop recursion beside the dense BFGS update."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from upstairs.inner.quasi_newton import quasi_newton


def dense(slope, moves, yields):
    """Inverse Hessian after the BFGS updates of all pairs, oldest first, times the gradient."""
    inverse = np.eye(len(slope)) * (moves[0] @ yields[0]) / (yields[0] @ yields[0])
    for move, rise in zip(moves[::-1], yields[::-1], strict=True):
        rho = 1.0 / (move @ rise)
        left = np.eye(len(slope)) - rho * np.outer(move, rise)
        inverse = left @ inverse @ left.T + rho * np.outer(move, move)
    return inverse @ slope


def test_it_is_the_dense_update():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    moves, slope = rng.normal(size=(4, 6)), rng.normal(size=6)
    yields = moves @ (root @ root.T + np.eye(6))
    with jax.enable_x64(True):
        found = jax.jit(quasi_newton)(slope, moves, yields)
        np.testing.assert_allclose(found, dense(slope, moves, yields), rtol=1e-10)
        # a pair along which the gradient falls, or an empty one, counts for nothing
        bad = jax.jit(quasi_newton)(
            slope,
            np.insert(moves, [0, 2], [moves[1], np.zeros(6)], axis=0),
            np.insert(yields, [0, 2], [-yields[1], np.zeros(6)], axis=0),
        )
        np.testing.assert_allclose(bad, found, rtol=1e-10)


def test_without_a_pair_there_is_no_direction():
    assert not np.any(quasi_newton(jnp.ones(3), jnp.zeros((2, 3)), jnp.zeros((2, 3))))
