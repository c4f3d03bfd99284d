"""Draws that make their tasks themselves, on the device: training on them never sees a task twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from upstairs.errors import TaskError
from upstairs.inner.traced import Normal, TaskRows
from upstairs.outer.draws import Draw

__all__ = ["GaussianProcessDraw", "SyntheticTargets"]

_STREAM = 0x5F17


@final
@dataclass(frozen=True)
class GaussianProcessDraw(Draw):
    """Functions of a Gaussian process with kernel ``exp(-|x - x'|^2 / (2 length^2))``, seen through noise.

    Features are uniform in [-reach, reach]; the function has mean zero and variance one everywhere. The number of
    support rows is log-uniform in ``shots`` and drawn for each task. A pure function of (seed, step): ``data`` is not
    looked at and may be empty.

    Parameters
    ----------
    batch : int
        Tasks a step.
    shots : (int, int)
        Least (at least 1) and most support rows.
    queries : int
        Query rows.
    length : (float, float)
        Least and most length scale, log-uniform and drawn for each task; two equal numbers: known.
    noise : float
        Standard deviation of the noise of a row.
    reach : float
        Half the width of the interval (the cube) of the features.
    features : int

    Examples
    --------
    >>> draw = jax.jit(GaussianProcessDraw(batch=2, shots=(1, 8), queries=3))
    >>> _, support, query = draw({}, 0, 5)
    >>> support.x.shape, support.y.shape, query.y.shape
    ((2, 8, 1), (2, 8), (2, 3))
    >>> (draw({}, 0, 5)[1].y == support.y).all().item(), (draw({}, 0, 6)[1].y == support.y).any().item()
    (True, False)
    """

    batch: int = 16
    shots: tuple[int, int] = (1, 64)
    queries: int = 32
    length: tuple[float, float] = (0.5, 0.5)
    noise: float = 0.1
    reach: float = 2.0
    features: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.shots[0] <= self.shots[1]:
            raise TaskError(
                f"GaussianProcessDraw: shots must be (low, high) with 1 <= low <= high, but is {self.shots}."
            )
        if not 0 < self.length[0] <= self.length[1]:
            raise TaskError(
                f"GaussianProcessDraw: length must be (low, high) with 0 < low <= high, but is {self.length}."
            )
        if not self.noise > 0:
            raise TaskError(f"GaussianProcessDraw: noise must be positive, but is {self.noise}; 0.01 is nearly none.")

    def __call__(self, data: Mapping[str, Any], seed: Any, step: Any) -> tuple[Array, TaskRows, TaskRows]:
        """Make the tasks of a step; the task numbers are 0, 1, ..."""
        low, high = self.shots
        key = jax.random.fold_in(jax.random.key(seed), step)
        place, value, scale, size = jax.random.split(key, 4)
        rows = high + self.queries
        x = jax.random.uniform(place, (self.batch, rows, self.features), minval=-self.reach, maxval=self.reach)
        share = jax.random.uniform(scale, (self.batch, 1, 1))
        length = self.length[0] * (self.length[1] / self.length[0]) ** share
        covariance = _kernel(x, x, length) + self.noise**2 * jnp.eye(rows)
        y = (jnp.linalg.cholesky(covariance) @ jax.random.normal(value, (self.batch, rows, 1)))[..., 0]
        exponent = jnp.log(float(low)) + jax.random.uniform(size, (self.batch,)) * jnp.log((high + 1.0) / low)
        shots = jnp.clip(jnp.exp(exponent).astype(jnp.int32), low, high)
        support = TaskRows(x[:, :high], y[:, :high], jnp.arange(high) < shots[:, None])
        query = TaskRows(x[:, high:], y[:, high:], jnp.ones((self.batch, self.queries), bool))
        return jnp.arange(self.batch), support, query

    def posterior(self, support: TaskRows, x: Float[Array, "row feature"]) -> Normal:
        """Return the exact posterior of one task: mean, and variance of a new observation, noise included.

        Parameters
        ----------
        support : TaskRows
            Of one task; masked rows count for nothing.
        x : array of shape (row, feature)

        Raises
        ------
        TaskError
            If the length scale of a task is not known.

        References
        ----------
        Rasmussen, C. E. and Williams, C. K. I. (2006). Gaussian processes for machine learning, equations 2.25, 2.26.
        """
        if self.length[0] != self.length[1]:
            raise TaskError(
                f"posterior needs a known length scale, but length={self.length}; give two equal numbers for length."
            )
        mask = support.mask
        within = jnp.where(mask[:, None] & mask, _kernel(support.x, support.x, self.length[0]), 0.0)
        covariance = within + jnp.eye(len(mask), dtype=within.dtype) * jnp.where(mask, self.noise**2, 1.0)
        across = jnp.where(mask[:, None], _kernel(support.x, x, self.length[0]), 0.0)
        factor = jax.scipy.linalg.cho_factor(covariance, lower=True)
        mean = across.T @ jax.scipy.linalg.cho_solve(factor, jnp.where(mask, support.y, 0.0))
        variance = 1.0 - (across * jax.scipy.linalg.cho_solve(factor, across)).sum(axis=0) + self.noise**2
        return Normal(mean, variance)


def _kernel(a: Float[Array, "*task row feature"], b: Float[Array, "*task other feature"], length: Any) -> Array:
    squares = jnp.square(a[..., :, None, :] - b[..., None, :, :]).sum(axis=-1)
    return jnp.exp(-0.5 * squares / jnp.square(length))


@final
@dataclass(frozen=True)
class SyntheticTargets(Draw):
    """Some tasks of a step get targets of a random function in place of their own: their rows stay real.

    The function of a task is a sum, drawn from a Gaussian process, of an offset, a linear part and a smooth part
    ``exp(-|x - x'|^2 / (2 d length^2))``, in random proportions, with a random length and random noise; ``d`` is the
    number of features. Features are expected to have a standard deviation of about one, targets then have it too. Of
    classes each has such a function, and the highest one wins. A prior that learns from many such functions knows
    how tables look before it knows the user's.

    Parameters
    ----------
    draw : Draw
        Whose tasks and rows are used; rows of vectors.
    share : float
        Share of the tasks of a step, from 0 (above) to 1.
    ways : int
        Classes; 0 for a regression.
    length : (float, float)
        Least and most length scale, log-uniform.
    noise : (float, float)
        Least and most standard deviation of the noise, log-uniform.

    References
    ----------
    Müller, S., Hollmann, N., Pineda Arango, S., Grabocka, J. and Hutter, F. (2022). Transformers can do Bayesian
    inference. ICLR, arXiv 2112.10510; section 5.

    Examples
    --------
    >>> import numpy as np
    >>> from upstairs.outer.draws import TaskDraw, flat_data
    >>> from upstairs.tasks.batches import FlatRows
    >>> rows = FlatRows(np.arange(24.0).reshape(8, 3), np.zeros(8), np.array([0, 4, 8]))
    >>> draw = SyntheticTargets(TaskDraw(batch=2, shots=(2, 2), queries=2), share=0.5)
    >>> _, support, _ = jax.jit(draw)(flat_data(rows), 0, 1)
    >>> (support.y == 0).all(axis=1).tolist()
    [False, True]
    """

    draw: Draw
    share: float
    ways: int = 0
    length: tuple[float, float] = (0.3, 3.0)
    noise: tuple[float, float] = (0.05, 0.5)
    batch: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch", self.draw.batch)
        if not 0.0 < self.share <= 1.0:
            raise TaskError(f"synthetic: the share of tasks must be above 0 and at most 1, but is {self.share}.")

    def __call__(self, data: Mapping[str, Any], seed: Any, step: Any) -> tuple[Array, TaskRows, TaskRows]:
        """Draw, and put targets of random functions into the first tasks."""
        tasks, support, query = self.draw(data, seed, step)
        count = max(1, round(self.share * self.batch))
        keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _STREAM), step), count)
        rows = jnp.concatenate([support.x, query.x], axis=1)[:count]
        made = jax.vmap(self._targets)(keys, rows.reshape(*rows.shape[:2], -1))
        parts = jnp.split(made.astype(support.y.dtype), [support.y.shape[1]], axis=1)
        support, query = (
            old._replace(y=jnp.concatenate([new, old.y[count:]]))
            for old, new in zip((support, query), parts, strict=True)
        )
        return tasks, support, query

    def _targets(self, key: PRNGKeyArray, x: Float[Array, "row feature"]) -> Array:
        part, size, spread, value = jax.random.split(key, 4)
        offset, line, smooth = jax.random.dirichlet(part, jnp.ones(3))
        length, noise = (
            low * (high / low) ** jax.random.uniform(one)
            for one, (low, high) in ((size, self.length), (spread, self.noise))
        )
        features = x.shape[1]
        covariance = offset + line * (x @ x.T) / features + smooth * _kernel(x, x, length * features**0.5)
        root = jnp.linalg.cholesky(covariance + noise**2 * jnp.eye(len(x)))
        drawn = root @ jax.random.normal(value, (len(x), max(self.ways, 1)))
        return jnp.argmax(drawn, axis=1) if self.ways else drawn[:, 0]
