"""Learned numbers of an update rule: one for all weights, one an array or one a weight, the same or another every step.

A knob is stored as free numbers and read through a map to where theory wants it: positive (rates, through the
exponential) or between zero and one (momentum, through the logistic function).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["PER", "Per", "check_knobs", "fresh", "number", "share", "turned"]

Per: TypeAlias = Literal["all", "array", "weight"]
PER = ("all", "array", "weight")


def fresh(
    name: str, value: float, weights: Mapping[str, Array], *, per: Per = "all", steps: int | None = None
) -> dict[str, Array]:
    """Return the arrays of a knob before learning.

    Parameters
    ----------
    name : str
        ``name`` itself is the array's name for ``per="all"``, otherwise there is one ``name/<array>`` for each of
        ``weights``.
    value : float
        Where all its numbers start.
    weights : dict of arrays
    per : {"all", "array", "weight"}
    steps : int, optional
        Steps that have numbers of their own, along a leading axis. None: no such axis.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> found = fresh("rate", 0.0, {"w": jnp.zeros((3, 2))}, per="weight", steps=5)
    >>> {name: array.shape for name, array in found.items()}
    {'rate/w': (5, 3, 2)}
    """
    lead = () if steps is None else (steps,)
    dtype = next(iter(weights.values())).dtype
    if per == "all":
        return {name: jnp.full(lead, value, dtype)}
    return {
        f"{name}/{key}": jnp.full(lead + (array.shape if per == "weight" else ()), value, array.dtype)
        for key, array in weights.items()
    }


def turned(
    settings: Mapping[str, Array], name: str, key: str, step: Any, per: Per, steps: int | None
) -> Float[Array, ...]:
    """Read a knob for the array ``key`` at a step; steps beyond the last one have its numbers.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> float(turned({"rate": jnp.array([1.0, 2.0])}, "rate", "w", 7, "all", 2))
    2.0
    """
    array = settings[name if per == "all" else f"{name}/{key}"]
    if steps is None:
        return array
    return array[jnp.clip(jnp.asarray(step, jnp.int32), 0, steps - 1)]


def number(positive: float) -> float:
    """Return the free number whose exponential is ``positive``."""
    return math.log(positive)


def share(value: float) -> float:
    """Return the free number whose logistic is ``value``, between zero and one.

    Examples
    --------
    >>> import jax
    >>> round(float(jax.nn.sigmoid(share(0.9))), 6)
    0.9
    """
    return math.log(value / (1.0 - value))


def check_knobs(
    owner: str, per: str, steps: int | None, positive: Mapping[str, Any], shares: Mapping[str, Any]
) -> None:
    """Refuse settings of an update rule that mean nothing.

    Raises
    ------
    ValueError
        Naming the argument, the rule and the value.
    """
    if per not in PER:
        raise ValueError(f"{owner}: per must be 'all', 'array' or 'weight', but is {per!r}.")
    if steps is not None and not (isinstance(steps, int) and steps >= 1):
        raise ValueError(
            f"{owner}: steps must be a whole number of at least 1, or None for the same numbers in every step, but is {steps!r}."
        )
    for name, value in positive.items():
        if not (isinstance(value, int | float) and 0.0 < value < math.inf):
            raise ValueError(f"{owner}: {name} must be a positive number, but is {value!r}.")
    for name, value in shares.items():
        if value is not None and not (isinstance(value, int | float) and 0.0 < value < 1.0):
            raise ValueError(f"{owner}: {name} must lie between 0 and 1, but is {value!r}.")
