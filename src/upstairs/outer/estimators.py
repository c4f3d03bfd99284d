"""Ways to the gradient of an outer loss beside reverse mode: forward mode, and evolution strategies."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from upstairs.inner.traced import Arrays

__all__ = ["Estimator", "EvolutionStrategies", "Forward", "Reverse"]

OuterLoss: TypeAlias = Callable[..., Float[Array, ""]]


class Estimator(abc.ABC):
    """How the gradient of the outer loss of one task comes about; frozen and hashable."""

    @abc.abstractmethod
    def __call__(self, loss: OuterLoss, params: Arrays, *task: Any) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Return the loss of a task, and its gradient by ``params``.

        Parameters
        ----------
        loss : callable
            Of ``params`` and what follows.
        params : dict of arrays
        *task
            What a task consists of; the last one is a random key.
        """


@final
@dataclass(frozen=True)
class Reverse(Estimator):
    """Back through the whole run: exact, one pass for any number of params, memory grows with the run.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> loss, gradient = Reverse()(lambda p, key: p["a"] ** 2, {"a": jnp.array(3.0)}, jax.random.key(0))
    >>> float(loss), float(gradient["a"])
    (9.0, 6.0)
    """

    def __call__(self, loss: OuterLoss, params: Arrays, *task: Any) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Differentiate."""
        return jax.value_and_grad(loss)(dict(params), *task)


@final
@dataclass(frozen=True)
class Forward(Estimator):
    """Alongside the run, one tangent a number: exact, memory does not grow with the run, work grows with the params.

    For a handful of numbers and long runs.

    References
    ----------
    Franceschi, L., Donini, M., Frasconi, P. and Pontil, M. (2017). Forward and reverse gradient-based hyperparameter
    optimization. ICML; section 3.2.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> loss, gradient = Forward()(lambda p, key: p["a"] ** 2, {"a": jnp.array(3.0)}, jax.random.key(0))
    >>> float(loss), float(gradient["a"])
    (9.0, 6.0)
    """

    def __call__(self, loss: OuterLoss, params: Arrays, *task: Any) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Push every unit vector along."""
        flat, back = ravel_pytree(dict(params))

        def along(direction: Array) -> tuple[Array, Array]:
            return jax.jvp(lambda numbers: loss(back(numbers), *task), (flat,), (direction,))

        values, slopes = jax.vmap(along)(jnp.eye(flat.size, dtype=flat.dtype))
        return values[0], back(slopes)


@final
@dataclass(frozen=True)
class EvolutionStrategies(Estimator):
    """From whole runs with params moved there and back: no derivative, smooth where the outer loss is rugged.

    Every task has ``pairs`` random directions of its own, each held for the whole run and tried with both signs on the
    same random numbers. The gradient is that of the outer loss blurred by a normal of deviation ``sigma``.

    Parameters
    ----------
    sigma : float
    pairs : int

    References
    ----------
    Salimans, T., Ho, J., Chen, X., Sidor, S. and Sutskever, I. (2017). Evolution strategies as a scalable alternative to
    reinforcement learning. arXiv 1703.03864.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> rule = EvolutionStrategies(0.1, pairs=2000)
    >>> loss, gradient = rule(lambda p, key: p["a"] ** 2, {"a": jnp.array(3.0)}, jax.random.key(0))
    >>> bool(abs(gradient["a"] - 6.0) < 0.5)
    True
    """

    sigma: float = 0.01
    pairs: int = 1

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ValueError(f"EvolutionStrategies: sigma must be a positive number, but is {self.sigma!r}.")
        if not (isinstance(self.pairs, int) and self.pairs >= 1):
            raise ValueError(f"EvolutionStrategies: pairs must be a whole number of at least 1, but is {self.pairs!r}.")

    def __call__(self, loss: OuterLoss, params: Arrays, *task: Any) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Try both signs of some directions."""
        flat, back = ravel_pytree(dict(params))
        key: PRNGKeyArray = jax.random.fold_in(task[-1], 0xE5)
        directions = jax.random.normal(key, (self.pairs, flat.size), flat.dtype)

        def value(move: Array) -> Array:
            return loss(back(flat + self.sigma * move), *task)

        both = jax.vmap(lambda move: jnp.stack([value(move), value(-move)]))(directions)
        slope = ((both[:, 0] - both[:, 1])[:, None] * directions).mean(axis=0) / (2.0 * self.sigma)
        return both.mean(), back(slope)
