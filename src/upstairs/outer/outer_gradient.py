"""The gradient of a step: of the outer loss of some tasks by the params, all tasks at once or a few after another."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from upstairs.inner.traced import Arrays, TaskRows, TracedRule

__all__ = ["norm", "outer_gradient"]


def outer_gradient(
    rule: TracedRule,
    params: Arrays,
    support: TaskRows,
    query: TaskRows,
    keys: Array,
    task_clip: float | None = None,
    progress: Any = None,
    microbatch: int | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Return the outer loss of every task, and the gradient of their mean.

    Parameters
    ----------
    rule, params
    support, query : TaskRows
        With a leading task axis.
    keys : array of shape (task,)
        Random keys.
    task_clip : float, optional
        Most norm of the gradient of one task; a task whose gradient is not finite gets a loss that is not.
    progress : scalar, optional
        How much of the training is over, from 0 to 1, for a rule that is ``scheduled``.
    microbatch : int, optional
        Most tasks at once, which bounds the memory; the largest number up to it that divides the tasks is used. None:
        all. A rule that is ``sequential`` has one at a time in any case.
    """
    count = support.mask.shape[0]
    most = 1 if rule.sequential else min(microbatch or count, count)
    size = next(n for n in range(most, 0, -1) if count % n == 0)
    outer_loss: Any = rule.outer_loss
    if progress is not None:
        outer_loss = functools.partial(outer_loss, progress=progress)
    some = functools.partial(_of_some, outer_loss, params, task_clip)
    if size == count:
        return some((support, query, keys))

    def add(total: Any, tasks: Any) -> tuple[Any, Array]:  # what tasks need on the way back is gone before the next
        each, gradient = some(tasks)
        return jax.tree.map(lambda a, b: a + b * (size / count), total, gradient), each

    parts = jax.tree.map(lambda part: part.reshape(count // size, size, *part.shape[1:]), (support, query, keys))
    total, each = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, dict(params)), parts)
    return each.reshape(count), total


def _of_some(outer_loss: Any, params: Arrays, task_clip: float | None, tasks: Any) -> tuple[Array, dict[str, Array]]:
    """Losses and mean gradient of tasks that are computed side by side."""
    alone = tasks[2].shape[0] == 1
    if task_clip is None:

        def mean_loss(params: Arrays) -> tuple[Array, Array]:
            each = _mapped(functools.partial(outer_loss, params), tasks, alone)
            return each.mean(), each

        gradient, each = jax.grad(mean_loss, has_aux=True)(params)
        return each, gradient

    def clipped(*task: Any) -> tuple[Array, Any]:
        loss, gradient = jax.value_and_grad(outer_loss)(params, *task)
        length = norm(gradient)
        weight = jnp.minimum(1.0, task_clip / jnp.maximum(length, 1e-30))
        return jnp.where(jnp.isfinite(length), loss, jnp.nan), jax.tree.map(lambda part: weight * part, gradient)

    each, every = _mapped(clipped, tasks, alone)
    return each, jax.tree.map(lambda part: part.mean(axis=0), every)


def _mapped(function: Any, tasks: Any, alone: bool) -> Any:
    """Map over tasks; a single one without a batch axis, with which some operations are slower."""
    if alone:
        return jax.tree.map(lambda part: part[None], function(*jax.tree.map(lambda part: part[0], tasks)))
    return jax.vmap(function)(*tasks)


def norm(tree: Any) -> Array:
    """Euclidean norm of all numbers of a tree."""
    return jnp.sqrt(sum((jnp.square(leaf).sum() for leaf in jax.tree.leaves(tree)), jnp.zeros(())))
