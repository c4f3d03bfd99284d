"""A learned matrix on either side of every gradient: what correlates in all tasks is undone in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
from jaxtyping import Array

from upstairs.inner.descent import Descent, Weights
from upstairs.inner.knobs import check_knobs, fresh, number, share, turned

__all__ = ["Kronecker"]


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

    Parameters
    ----------
    rate : float
        Where step sizes start.
    momentum : float, optional
        Where momentum starts; None: none.
    steps : int, optional
        Steps with a rate of their own; later ones use the last.

    References
    ----------
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

    def __post_init__(self) -> None:
        check_knobs("Kronecker", "array", self.steps, {"rate": self.rate}, {"momentum": self.momentum})

    def settings(self, weights: Weights) -> dict[str, Array]:
        """Return rates and matrices."""
        found = fresh("rate", number(self.rate), weights, per="array", steps=self.steps)
        if self.momentum is not None:
            found |= fresh("momentum", share(self.momentum), weights, per="array", steps=self.steps)
        for name, array in weights.items():
            if array.ndim:
                rows = array.size if array.ndim == 1 else array.size // array.shape[-1]
                found[f"left/{name}"] = jnp.eye(rows, dtype=array.dtype)
            if array.ndim > 1:
                found[f"right/{name}"] = jnp.eye(array.shape[-1], dtype=array.dtype)
        return found

    def init(self, settings: Weights, weights: Weights) -> dict[str, Array]:
        """No velocity, no step."""
        zero = {f"velocity/{name}": jnp.zeros_like(array) for name, array in weights.items()}
        return (zero if self.momentum is not None else {}) | {"step": jnp.zeros((), jnp.int32)}

    def update(
        self, settings: Weights, memory: Weights, gradient: Weights, weights: Weights
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Step along the preconditioned gradient."""
        step = memory["step"]
        out: dict[str, Array] = {}
        new: dict[str, Array] = {"step": step + 1}
        for name, slope in gradient.items():
            direction = slope
            if slope.ndim:
                flat = slope.reshape(-1, slope.shape[-1] if slope.ndim > 1 else 1)
                flat = settings[f"left/{name}"] @ flat
                direction = (flat @ settings[f"right/{name}"] if slope.ndim > 1 else flat).reshape(slope.shape)
            if self.momentum is not None:
                kept = jax.nn.sigmoid(turned(settings, "momentum", name, step, "array", self.steps))
                direction = kept * memory[f"velocity/{name}"] + direction
                new[f"velocity/{name}"] = direction
            out[name] = weights[name] - jnp.exp(turned(settings, "rate", name, step, "array", self.steps)) * direction
        return out, new

    def shown(self, settings: Weights) -> dict[str, Array]:
        """Return step sizes and momentum as they are used; matrices as they are."""
        maps = {"rate": jnp.exp, "momentum": jax.nn.sigmoid}
        return {name: maps.get(name.split("/")[0], lambda a: a)(array) for name, array in settings.items()}
