"""The limited-memory BFGS direction from the last steps and what they did to the gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = ["flat", "like", "quasi_newton", "remembered"]

_CURVATURE = 1e-4
"""Least cosine between a step and the change of the gradient along it, for the pair to count."""
_TINY = 1e-30


def quasi_newton(
    slope: Float[Array, " weight"],
    moves: Float[Array, "pair weight"],
    yields: Float[Array, "pair weight"],
    first: Callable[[Float[Array, " weight"]], Float[Array, " weight"]] | None = None,
) -> Float[Array, " weight"]:
    """Multiply a gradient by the inverse Hessian that the last steps suggest.

    Parameters
    ----------
    slope : array of shape (weight,)
        The gradient.
    moves, yields : arrays of shape (pair, weight)
        Steps, newest first, and the change of the gradient over each. A pair along which the gradient does not rise
        is left out.
    first : callable, optional
        Multiplies by the inverse Hessian that is expected before any step. None: a multiple of the identity, which the
        newest pair says.

    Returns
    -------
    array of shape (weight,)
        What to subtract from the weights; without a pair that counts what ``first`` says, or zero.

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
    if first is None:
        newest = jnp.argmax(good)
        left = left * jnp.where(good, rise / jnp.where(good, lengths, 1.0), 0.0)[newest]
    else:
        left = first(left)
    for pair in reversed(range(len(moves))):
        left = left + moves[pair] * (along[pair] - inverse[pair] * (yields[pair] @ left))
    return left


def remembered(
    memory: Mapping[str, Array], moved: Float[Array, " weight"], slope: Float[Array, " weight"]
) -> dict[str, Array]:
    """Put the last move and what it did to the gradient in front of the earlier ones.

    Parameters
    ----------
    memory : mapping of arrays
        ``"moves"`` and ``"yields"`` of shape (pair, weight), the last ``"gradient"``, and ``"step"``, how many were made.
    moved : array of shape (weight,)
        Since the last gradient.
    slope : array of shape (weight,)
        The gradient now.
    """
    new = {"moves": moved, "yields": slope - memory["gradient"]}
    known = (memory["step"] > 0).astype(slope.dtype)
    return {name: jnp.concatenate([known * row[None], memory[name][:-1]]) for name, row in new.items()}


def flat(arrays: Mapping[str, Array]) -> Float[Array, " weight"]:
    """All weights in one vector, by name."""
    return jnp.concatenate([arrays[name].ravel() for name in sorted(arrays)])


def like(vector: Float[Array, " weight"], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Undo `flat`: the weights of a vector, with the shapes of ``arrays``."""
    names = sorted(arrays)
    pieces = jnp.split(vector, np.cumsum([arrays[name].size for name in names])[:-1].tolist())
    return {name: piece.reshape(arrays[name].shape) for name, piece in zip(names, pieces, strict=True)}
