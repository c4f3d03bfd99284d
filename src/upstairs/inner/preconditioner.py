"""A learned matrix on either side of every gradient: what correlates in all tasks is undone in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
from jaxtyping import Array

from upstairs.inner.descent import Descent, Weights
from upstairs.inner.knobs import check_knobs, fresh, number, share, turned
from upstairs.inner.quasi_newton import flat, like, quasi_newton, remembered

__all__ = ["Kronecker"]

REACH = 100.0
"""A corrected step is at most so many times as long as the one without a correction."""
_TINY = 1e-30


@final
@dataclass(frozen=True)
class Kronecker(Descent):
    """Gradient descent with a learned preconditioner, the Kronecker product of a matrix for rows and one for columns.

    Learned over tasks: for an array of weights with two axes or more ``"left/<name>"`` (all axes but the last, taken
    together) and ``"right/<name>"`` (the last axis), square matrices that start as the identity; for a vector
    ``"left/<name>"`` alone; for a single number nothing but the rate. Beside them the log of a step size an array
    (``"rate/<name>"``) and the logit of its momentum (``"momentum/<name>"``), with ``steps`` one for every step. The
    matrices are free, as in the paper: nothing keeps them symmetric or positive. Departures from the paper: the axes of
    a convolution but the last are one axis, and rates and momentum are learned beside the matrices.

    With ``pairs``, which is ours, a task corrects what was learned: limited-memory BFGS whose first inverse Hessian is the
    learned preconditioner, times (s'y / y'Ky)^a for the newest pair. Learned beside it: the logit of a (``"rescale"``, a = 1
    is the usual scaling of BFGS) and the log of the step length (``"length"``). Gradients should be exact, as pairs of
    mini-batches say nothing.

    Parameters
    ----------
    rate : float
        Where step sizes start.
    momentum : float, optional
        Where momentum starts; None: none, as it must be with ``pairs``.
    steps : int, optional
        Steps with a rate of their own; later ones use the last.
    pairs : int
        Last steps whose effect on the gradient corrects the preconditioner; 0: none.

    References
    ----------
    Nocedal, J. (1980). Updating quasi-Newton matrices with limited storage. Mathematics of Computation 35.
    Park, E. and Oliva, J. B. (2019). Meta-curvature. NeurIPS, arXiv 1902.03356; equations 4 to 8.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> rule = Kronecker(0.5)
    >>> weights = {"w": jnp.zeros((2, 3))}
    >>> settings = rule.settings(weights)
    >>> {name: array.shape for name, array in settings.items()}
    {'rate/w': (), 'left/w': (2, 2), 'right/w': (3, 3)}
    >>> weights, _ = rule.update(settings, rule.init(settings, weights), {"w": jnp.ones((2, 3))}, weights)
    >>> weights["w"][0].tolist()
    [-0.5, -0.5, -0.5]
    """

    rate: float = 0.1
    momentum: float | None = None
    steps: int | None = None
    pairs: int = 0

    def __post_init__(self) -> None:
        check_knobs("Kronecker", "array", self.steps, {"rate": self.rate}, {"momentum": self.momentum})
        if isinstance(self.pairs, bool) or not (isinstance(self.pairs, int) and self.pairs >= 0):
            raise ValueError(f"Kronecker: pairs must be a whole number of at least 0, but is {self.pairs!r}.")
        if self.pairs and self.momentum is not None:
            raise ValueError(
                f"Kronecker: momentum must be None where pairs correct the steps, but is {self.momentum!r}; give one of the two."
            )

    def settings(self, weights: Weights) -> dict[str, Array]:
        """Return rates and matrices."""
        found = fresh("rate", number(self.rate), weights, per="array", steps=self.steps)
        if self.momentum is not None:
            found |= fresh("momentum", share(self.momentum), weights, per="array", steps=self.steps)
        if self.pairs:
            found |= fresh("length", number(1.0), weights, steps=self.steps)
            found |= fresh("rescale", share(0.5), weights, steps=self.steps)
        for name, array in weights.items():
            if array.ndim:
                rows = array.size if array.ndim == 1 else array.size // array.shape[-1]
                found[f"left/{name}"] = jnp.eye(rows, dtype=array.dtype)
            if array.ndim > 1:
                found[f"right/{name}"] = jnp.eye(array.shape[-1], dtype=array.dtype)
        return found

    def init(self, settings: Weights, weights: Weights) -> dict[str, Array]:
        """No velocity, no step, no pairs."""
        found = {"step": jnp.zeros((), jnp.int32)}
        if self.momentum is not None:
            found |= {f"velocity/{name}": jnp.zeros_like(array) for name, array in weights.items()}
        if self.pairs:
            place = flat(weights)
            found |= {name: jnp.zeros((self.pairs, place.size), place.dtype) for name in ("moves", "yields")}
            found |= {"place": place, "gradient": jnp.zeros_like(place)}
        return found

    def update(
        self, settings: Weights, memory: Weights, gradient: Weights, weights: Weights
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Step along the preconditioned gradient."""
        step = memory["step"]
        new: dict[str, Array] = {"step": step + 1}
        if self.pairs:
            slope, place = flat(gradient), flat(weights)
            pairs = remembered(memory, place - memory["place"], slope)
            new |= pairs | {"place": place, "gradient": slope}
            return like(place - self._corrected(settings, slope, pairs, weights, step), weights), new
        out: dict[str, Array] = {}
        for name, direction in _preconditioned(settings, gradient).items():
            if self.momentum is not None:
                kept = jax.nn.sigmoid(turned(settings, "momentum", name, step, "array", self.steps))
                direction = kept * memory[f"velocity/{name}"] + direction
                new[f"velocity/{name}"] = direction
            out[name] = weights[name] - self._rate(settings, name, step) * direction
        return out, new

    def _rate(self, settings: Weights, name: str, step: Array) -> Array:
        return jnp.exp(turned(settings, "rate", name, step, "array", self.steps))

    def _corrected(self, settings: Weights, slope: Array, pairs: Weights, weights: Weights, step: Array) -> Array:
        """Correct what was learned by what the last steps did to the gradient of this task."""

        def learned(vector: Array) -> Array:
            directions = _preconditioned(settings, like(vector, weights))
            return flat({name: self._rate(settings, name, step) * part for name, part in directions.items()})

        def knob(name: str) -> Array:
            return turned(settings, name, "", step, "all", self.steps)

        plain, newest = learned(slope), pairs["yields"][0]
        rise, usual = pairs["moves"][0] @ newest, newest @ learned(newest)
        tells = (rise > _TINY) & (usual > _TINY)
        scale = jnp.where(tells, jnp.where(tells, rise, 1.0) / jnp.where(tells, usual, 1.0), 1.0)
        scale = scale ** jax.nn.sigmoid(knob("rescale"))
        found = quasi_newton(slope, pairs["moves"], pairs["yields"], lambda vector: scale * learned(vector))
        most, size = (jnp.sqrt(jnp.square(jax.lax.stop_gradient(a)).sum() + _TINY) for a in (REACH * plain, found))
        change = jnp.exp(knob("length")) * jnp.minimum(1.0, most / size) * found
        return jnp.where(jnp.isfinite(found).all(), change, plain)

    def shown(self, settings: Weights) -> dict[str, Array]:
        """Return step sizes and momentum as they are used; matrices as they are."""
        maps = {"rate": jnp.exp, "momentum": jax.nn.sigmoid, "length": jnp.exp, "rescale": jax.nn.sigmoid}
        return {name: maps.get(name.split("/")[0], lambda a: a)(array) for name, array in settings.items()}


def _preconditioned(settings: Weights, gradient: Weights) -> dict[str, Array]:
    """The learned matrices on either side of a gradient."""
    found = dict(gradient)
    for name, slope in gradient.items():
        if slope.ndim:
            rows = settings[f"left/{name}"] @ slope.reshape(-1, slope.shape[-1] if slope.ndim > 1 else 1)
            found[name] = (rows @ settings[f"right/{name}"] if slope.ndim > 1 else rows).reshape(slope.shape)
    return found
