"""The limited-memory BFGS direction from the last steps and what they did to the gradient."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["quasi_newton"]

_CURVATURE = 1e-4
"""Least cosine between a step and the change of the gradient along it, for the pair to count."""
_TINY = 1e-30


def quasi_newton(
    slope: Float[Array, " weight"], moves: Float[Array, "pair weight"], yields: Float[Array, "pair weight"]
) -> Float[Array, " weight"]:
    """Multiply a gradient by the inverse Hessian that the last steps suggest.

    Parameters
    ----------
    slope : array of shape (weight,)
        The gradient.
    moves, yields : arrays of shape (pair, weight)
        Steps, newest first, and the change of the gradient over each. A pair along which the gradient does not rise
        is left out.

    Returns
    -------
    array of shape (weight,)
        What to subtract from the weights; zero without a pair that counts.

    References
    ----------
    Nocedal, J. (1980). Updating quasi-Newton matrices with limited storage. Mathematics of Computation 35; the
    two-loop recursion.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> step = jnp.array([[1.0, 0.0]])
    >>> quasi_newton(jnp.array([6.0, 0.0]), step, 3.0 * step).tolist()
    [2.0, 0.0]
    """
    rise = (moves * yields).sum(axis=1)
    lengths = jnp.square(yields).sum(axis=1)
    good = rise > _CURVATURE * jnp.sqrt(jnp.square(moves).sum(axis=1) * lengths) + _TINY
    inverse = jnp.where(good, 1.0 / jnp.where(good, rise, 1.0), 0.0)
    left, along = slope, []
    for pair in range(len(moves)):
        along.append(inverse[pair] * (moves[pair] @ left))
        left = left - along[pair] * yields[pair]
    left = left * jnp.where(good, rise / jnp.where(good, lengths, 1.0), 0.0)[jnp.argmax(good)]
    for pair in reversed(range(len(moves))):
        left = left + moves[pair] * (along[pair] - inverse[pair] * (yields[pair] @ left))
    return left
