"""Runs of an update rule: weights from step to step, the loss at each, and what a run counts for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from upstairs.inner.descent import Descent, Weights

__all__ = ["Objective", "Run", "begun", "further", "rolled"]

_UNROLLED, _FLAT = 5, 256


class Run(NamedTuple):
    """Where a run is: weights, the update rule's memory, and the number of steps made."""

    weights: dict[str, Array]
    memory: dict[str, Array]
    step: Int[Array, ""]


def begun(descent: Descent, settings: Weights, start: Weights) -> Run:
    """Stand at the start."""
    return Run(dict(start), descent.init(settings, start), jnp.zeros((), jnp.int32))


def further(
    descent: Descent,
    settings: Weights,
    loss: Callable[[Any, PRNGKeyArray], Float[Array, ""]],
    run: Run,
    steps: int,
    key: PRNGKeyArray,
    *,
    first_order: bool = False,
    watch: Callable[[Any, PRNGKeyArray], Float[Array, ""]] | None = None,
) -> tuple[Run, Float[Array, " step"]]:
    """Make some steps more.

    Parameters
    ----------
    descent, settings
        The update rule and its learned arrays.
    loss : callable
        Of weights and a random key, which is another one in every step (for losses that draw rows).
    run : Run
    steps : int
    key : random key
        Of the whole run; step s uses ``fold_in(key, s)``.
    first_order : bool
        Whether gradients count as constants: their own derivatives are left out of the derivative of the result.
    watch : callable, optional
        What is recorded after each step, of the weights and the next key. None: the loss, which costs nothing but
        after the last step.

    Returns
    -------
    run : Run
    losses : array of shape (step,)
        What was recorded after each step.

    Examples
    --------
    >>> from upstairs.inner.descent import SGD
    >>> rule, start = SGD(0.5), {"t": jnp.array(1.0)}
    >>> run = begun(rule, {}, start)
    >>> run, losses = further(rule, {}, lambda w, key: 0.5 * w["t"] ** 2, run, 2, jax.random.key(0))
    >>> float(run.weights["t"]), losses.tolist()
    (0.25, [0.125, 0.03125])
    """
    slope = jax.value_and_grad(loss)

    def step(run: Run, _: None) -> tuple[Run, Array]:
        value, gradient = slope(run.weights, jax.random.fold_in(key, run.step))
        if first_order:
            gradient = jax.lax.stop_gradient(gradient)
        run = Run(*descent.update(settings, run.memory, gradient, run.weights), run.step + 1)
        return run, value if watch is None else watch(run.weights, jax.random.fold_in(key, run.step))

    run, seen = rolled(step, run, steps)
    if watch is not None or steps == 0:
        return run, jnp.zeros(0) if seen is None else seen
    return run, jnp.append(seen[1:], loss(run.weights, jax.random.fold_in(key, run.step)))


def rolled(step: Callable[[Any, None], tuple[Any, Any]], carry: Any, steps: int) -> tuple[Any, Any]:
    """Repeat a step as `jax.lax.scan` does, so that little is kept for the way back.

    Few steps are written out. More become a loop that keeps what is carried between steps and computes everything
    else again. Many become a loop of loops, which keeps about twice the root of their number, and computes steps twice.

    Examples
    --------
    >>> rolled(lambda total, _: (total + 1, total), 0, 3)
    (3, Array([0, 1, 2], dtype=int32...))
    """
    if steps <= _UNROLLED:
        every = []
        for _ in range(steps):
            carry, seen = step(carry, None)
            every.append(seen)
        return carry, jax.tree.map(lambda *parts: jnp.stack(parts), *every) if every else None
    once = jax.checkpoint(step)
    if steps <= _FLAT:
        return jax.lax.scan(once, carry, None, length=steps)
    size = math.isqrt(steps)
    carry, first = jax.lax.scan(once, carry, None, length=steps % size) if steps % size else (carry, None)

    @jax.checkpoint
    def some(carry: Any, _: None) -> tuple[Any, Any]:
        return jax.lax.scan(once, carry, None, length=size)

    carry, rest = jax.lax.scan(some, carry, None, length=steps // size)
    rest = jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:]), rest)
    return carry, rest if first is None else jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, rest)


@final
@dataclass(frozen=True)
class Objective:
    """What a run counts for, from the losses along it.

    Parameters
    ----------
    over : {"mean", "last"}
        The mean of all steps after the start, or the last one.
    measure : {"relative", "log", "loss"}
        The loss as a share of its distance from zero at the start (for losses of any scale), its log (for losses that
        can come close to zero, where every further digit counts alike), or the loss as it is.
    cap : float
        Most that one step counts (for "relative" and "loss"), so that a run that explodes is bad and nothing more. A
        loss that is not finite counts as the cap.
    floor : float
        For "log": the share of the loss at the start that is added to every loss before the log is taken, so that
        digits beyond it count for little. 0: all digits count.

    Examples
    --------
    >>> losses = jnp.array([4.0, 2.0, 1.0])
    >>> float(Objective("last")(losses)), float(Objective("mean")(losses)), float(Objective("last")(losses, 1))
    (0.25, 0.375, 0.5)
    """

    over: Literal["mean", "last"] = "mean"
    measure: Literal["relative", "log", "loss"] = "relative"
    cap: float = 10.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        for name, known in (("over", ("mean", "last")), ("measure", ("relative", "log", "loss"))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"Objective: {name} must be one of {', '.join(map(repr, known))}, but is {getattr(self, name)!r}."
                )
        if not self.cap > 0:
            raise ValueError(f"Objective: cap must be a positive number, but is {self.cap!r}.")
        if not self.floor >= 0:
            raise ValueError(f"Objective: floor must be a share of at least 0, but is {self.floor!r}.")

    def __call__(self, losses: Float[Array, " step"], horizon: Any = None) -> Float[Array, ""]:
        """Judge a run.

        Parameters
        ----------
        losses : array of shape (steps + 1,)
            The loss at the start and after every step.
        horizon : integer, optional
            The step that counts as the last one. None: the last one.
        """
        steps = len(losses) - 1
        last = steps if horizon is None else jnp.asarray(horizon)
        each = self.counted(losses[1:], losses[0])
        if self.over == "last":
            return each[last - 1]
        real = jnp.arange(steps) < last
        return jnp.where(real, each, 0.0).sum() / jnp.maximum(last, 1)

    def counted(self, losses: Float[Array, " step"], first: Float[Array, ""]) -> Float[Array, " step"]:
        """What losses count for in a run that starts at the loss ``first``."""
        finite = jnp.isfinite(losses)
        held = jnp.where(finite, losses, 0.0)
        size = jax.lax.stop_gradient(jnp.abs(first))
        if self.measure == "log":
            most = jnp.asarray(1e12, losses.dtype)
            held = jnp.clip(held, jnp.finfo(losses.dtype).tiny, most) + self.floor * size
            return jnp.log(jnp.where(finite, held, most))
        if self.measure == "relative":
            held = 1.0 + (held - jax.lax.stop_gradient(first)) / jnp.maximum(size, jnp.finfo(losses.dtype).tiny)
        return jnp.where(finite, jnp.minimum(held, self.cap), self.cap)
