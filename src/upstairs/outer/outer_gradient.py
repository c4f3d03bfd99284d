"""The gradient of a step: of the outer loss of some tasks by the params, all tasks at once or a few after another."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from upstairs.inner.traced import Arrays, Trainable
from upstairs.outer.estimators import Estimator, Reverse

__all__ = ["limited", "norm", "outer_gradient"]


def outer_gradient(
    rule: Trainable,
    params: Arrays,
    support: Any,
    query: Any,
    keys: Array,
    task_clip: float | None = None,
    progress: Any = None,
    microbatch: int | None = None,
    estimator: Estimator | None = None,
    weights: Array | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Return the outer loss of every task, and the gradient of their mean.

    Parameters
    ----------
    rule, params
    support, query : TaskRows, or what else a rule's ``outer_loss`` takes
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
    estimator : Estimator, optional
        How the gradient of a task comes about; None: in reverse mode.
    weights : array of shape (task,), optional
        What each loss counts in the mean; its sum is still divided by the number of tasks.
    """
    count = keys.shape[0]
    most = 1 if rule.sequential else min(microbatch or count, count)
    size = next(n for n in range(most, 0, -1) if count % n == 0)
    outer_loss: Any = rule.outer_loss
    if progress is not None:
        outer_loss = functools.partial(outer_loss, progress=progress)
    forgiving = getattr(rule, "forgiving", False)
    given = {name: array for name, array in params.items() if name.startswith(rule.fixed)}
    learned = {name: array for name, array in params.items() if name not in given}
    some = functools.partial(_of_some, _with(given, outer_loss), learned, task_clip, estimator, forgiving)
    still = jax.tree.map(jnp.zeros_like, given)
    if size == count:
        each, gradient = some((support, query, keys), weights)
        return each, gradient | still

    def add(total: Any, part: Any) -> tuple[Any, Array]:  # what tasks need on the way back is gone before the next
        each, gradient = some(*part)
        return jax.tree.map(lambda a, b: a + b * (size / count), total, gradient), each

    parts = jax.tree.map(
        lambda part: part.reshape(count // size, size, *part.shape[1:]), ((support, query, keys), weights)
    )
    total, each = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, learned), parts)
    return each.reshape(count), total | still


def _with(given: Arrays, outer_loss: Any) -> Any:
    """Take params that are not learned as they are."""
    if not given:
        return outer_loss
    return lambda learned, *task: outer_loss({**learned, **given}, *task)


def _of_some(
    outer_loss: Any,
    params: Arrays,
    task_clip: float | None,
    estimator: Estimator | None,
    forgiving: bool,
    tasks: Any,
    weights: Array | None,
) -> tuple[Array, dict[str, Array]]:
    """Losses and mean gradient of tasks that are computed side by side."""
    alone = tasks[2].shape[0] == 1
    if task_clip is None and estimator is None and not forgiving:

        def mean_loss(params: Arrays) -> tuple[Array, Array]:
            each = _mapped(functools.partial(outer_loss, params), tasks, alone)
            return (each if weights is None else weights * each).mean(), each

        gradient, each = jax.grad(mean_loss, has_aux=True)(params)
        return each, gradient
    slope = Reverse() if estimator is None else estimator

    def clipped(*task: Any) -> tuple[Array, Any]:
        loss, gradient = slope(outer_loss, params, *task)
        return limited(loss, gradient, task_clip, forgiving)

    each, every = _mapped(clipped, tasks, alone)
    if weights is None:
        return each, jax.tree.map(lambda part: part.mean(axis=0), every)
    return each, jax.tree.map(lambda part: jnp.tensordot(weights, part, axes=1) / len(weights), every)


def limited(
    loss: Array, gradient: dict[str, Array], task_clip: float | None, forgiving: bool
) -> tuple[Array, dict[str, Array]]:
    """Shorten the gradient of a task; one that is not finite becomes zero where that is forgiven, else spoils the loss."""
    length = norm(gradient)
    finite = jnp.isfinite(length)
    weight = 1.0 if task_clip is None else jnp.minimum(1.0, task_clip / jnp.maximum(length, 1e-30))
    gradient = jax.tree.map(lambda part: weight * part, gradient)
    if forgiving:
        return loss, jax.tree.map(lambda part: jnp.where(finite, part, 0.0), gradient)
    return jnp.where(finite, loss, jnp.nan), gradient


def _mapped(function: Any, tasks: Any, alone: bool) -> Any:
    """Map over tasks; a single one without a batch axis, with which some operations are slower."""
    if alone:
        return jax.tree.map(lambda part: part[None], function(*jax.tree.map(lambda part: part[0], tasks)))
    return jax.vmap(function)(*tasks)


def norm(tree: Any) -> Array:
    """Euclidean norm of all numbers of a tree."""
    return jnp.sqrt(sum((jnp.square(leaf).sum() for leaf in jax.tree.leaves(tree)), jnp.zeros(())))
