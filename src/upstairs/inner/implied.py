"""Derivatives of the solution of a problem by what the problem depends on, whatever way it was solved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from upstairs.inner.implicit import conjugate_gradients
from upstairs.inner.traced import Arrays

__all__ = ["implied", "penalty"]

CG_STEPS = 50


def implied(
    slope: Callable[[Any], Any], weights: Arrays, *, steps: int = CG_STEPS, damping: float = 0.0
) -> dict[str, Array]:
    """Return the same weights, with derivatives by everything that ``slope`` is made of.

    Parameters
    ----------
    slope : callable
        The gradient of a problem by its weights, a dictionary of arrays. It may rest on other arrays, and these get
        the derivative.
    weights : dict of arrays
        Where the slope is zero. What made them gets no derivative.
    steps : int
        Most conjugate gradient steps; so many as there are weights are exact where the problem is convex.
    damping : float
        Added to the Hessian, where it may not be positive.

    References
    ----------
    Franceschi, L., Frasconi, P., Salzo, S., Grazzi, R. and Pontil, M. (2018). Bilevel programming for hyperparameter
    optimization and meta-learning. ICML; the implicit function theorem as in equation 7 of Pedregosa, F. (2016).
    Hyperparameter optimization with approximate gradient. ICML.

    Examples
    --------
    The lowest point of ``(w - a)**2 + a * w**2`` is ``a / (1 + a)``, and its derivative by ``a`` is ``1 / (1 + a)**2``.

    >>> def lowest(a):
    ...     slope = jax.grad(lambda w: (w["w"] - a) ** 2 + a * w["w"] ** 2)
    ...     return implied(slope, {"w": a / (1.0 + a)})["w"]
    >>> float(jax.grad(lowest)(1.0))
    0.25
    """
    flat, back = ravel_pytree(jax.lax.stop_gradient(dict(weights)))

    def level(flat: Array) -> Array:
        return ravel_pytree(slope(back(flat)))[0]

    def solve(product: Any, target: Array) -> Array:
        return conjugate_gradients(product, target, min(steps, 2 * flat.size))

    def tangent(product: Any, target: Array) -> Array:
        return jax.lax.custom_linear_solve(lambda v: product(v) + damping * v, target, solve, symmetric=True)

    return back(jax.lax.custom_root(level, flat, lambda _, start: start, tangent))


def penalty(strengths: Mapping[str, Array], weights: Arrays, start: Arrays) -> Float[Array, ""]:
    """Half the squared distance of weights from their start, each array times the exponential of its strength.

    Examples
    --------
    >>> float(penalty({"w": jnp.log(2.0)}, {"w": jnp.ones(2)}, {"w": jnp.zeros(2)}))
    2.0
    """
    total = jnp.zeros((), next(iter(weights.values())).dtype)
    for name, strength in strengths.items():
        total = total + 0.5 * jnp.exp(strength) * jnp.square(weights[name] - start[name]).sum()
    return total
