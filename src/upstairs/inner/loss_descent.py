"""Learn an update rule on losses: what is judged is how an unrolled run goes."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from upstairs.inner.descent import Descent
from upstairs.inner.gradient import part
from upstairs.inner.traced import Arrays, Trainable
from upstairs.inner.trajectory import Objective, Run, begun, further

__all__ = ["LossDescent", "Problem", "Shapes", "Unrolled"]

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""Names and shapes of arrays of weights."""
_DEFAULT = Objective()


class Problem(NamedTuple):
    """One problem: what its loss depends on besides the weights, and where the weights start."""

    data: Any
    start: Arrays


class Unrolled(Trainable):
    """A rule whose outer loss is read off a run of steps, so that the run can also be cut into windows."""

    forgiving: ClassVar[bool] = True
    """Whether a task whose gradient is not finite is left out of a step, instead of ending the training."""
    objective: Objective

    @abc.abstractmethod
    def begin(self, params: Arrays, task: Any, key: PRNGKeyArray) -> tuple[Run, Float[Array, ""]]:
        """Stand at the start of a task, and say the loss there."""

    @abc.abstractmethod
    def proceed(
        self, params: Arrays, task: Any, run: Run, steps: int, key: PRNGKeyArray
    ) -> tuple[Run, Float[Array, " step"]]:
        """Make some steps; the losses after each."""


@final
@dataclass(frozen=True)
class LossDescent(Unrolled):
    """An update rule that is learned on a family of losses.

    Learned over problems: the arrays of the update rule (``descent/...``), and the start if ``learn_start``
    (``start/...``). On a problem: weights, by ``steps`` steps down its loss.

    Parameters
    ----------
    loss : callable
        ``loss(weights, data, key)``, of a flat dictionary of arrays.
    shapes : tuple of (name, shape)
        Of the weights.
    descent : Descent
    steps : int
        Steps of a run.
    shortest : int, optional
        In training, every run is judged at a step drawn evenly from here to ``steps``. None: at ``steps``.
    objective : Objective
    learn_start : bool
        Whether runs start at learned weights; otherwise at those of the problem.
    first_order : bool
        Leave the derivatives of gradients out, as the first learned optimisers did.
    rescale : float
        In training, weights are stretched by a factor drawn between ``1 / rescale`` and ``rescale`` for every array,
        and the loss by another one, so that a rule does not rest on a scale. 1: not. Not with ``learn_start``.
    name : hashable
        What stands for ``loss`` where a training is named.
    """

    loss: Callable[[Any, Any, Any], Any] = field(repr=False)
    shapes: Shapes
    descent: Descent
    steps: int = 20
    shortest: int | None = None
    objective: Objective = _DEFAULT
    learn_start: bool = False
    first_order: bool = False
    rescale: float = 1.0
    name: Hashable = None

    def __post_init__(self) -> None:
        if self.rescale < 1.0 or (self.rescale > 1.0 and self.learn_start):
            raise ValueError(
                f"LossDescent: rescale must be at least 1, and 1 where the start is learned, but is {self.rescale!r}."
            )
        if self.shortest is not None and not 1 <= self.shortest <= self.steps:
            raise ValueError(
                f"LossDescent: shortest must lie between 1 and steps={self.steps}, but is {self.shortest!r}."
            )

    def init(self, key: PRNGKeyArray, spec: Any = None) -> dict[str, Array]:
        """Return the update rule's arrays before learning, and a start of zeros."""
        weights = {name: jnp.zeros(shape) for name, shape in self.shapes}
        params = {f"descent/{name}": array for name, array in self.descent.settings(weights).items()}
        return params | ({f"start/{name}": array for name, array in weights.items()} if self.learn_start else {})

    def begin(self, params: Arrays, task: Problem, key: PRNGKeyArray) -> tuple[Run, Float[Array, ""]]:
        """Stand at the start."""
        start = part(params, "start") if self.learn_start else task.start
        run = begun(self.descent, part(params, "descent"), start)
        return run, self.loss(run.weights, task.data, jax.random.fold_in(key, 0))

    def proceed(
        self, params: Arrays, task: Problem, run: Run, steps: int, key: PRNGKeyArray
    ) -> tuple[Run, Float[Array, " step"]]:
        """Make some steps."""
        run, losses = further(
            self.descent,
            part(params, "descent"),
            lambda weights, key: self.loss(weights, task.data, key),
            run,
            steps,
            key,
            first_order=self.first_order,
        )
        end = self.loss(run.weights, task.data, jax.random.fold_in(key, run.step))
        return run, jnp.concatenate([losses[1:], end[None]])

    def outer_loss(self, params: Arrays, task: Problem, query: None, key: PRNGKeyArray) -> Float[Array, ""]:
        """What a run from the start counts for."""
        return self._judged(params, task, key, train=True)[0]

    def judged(self, params: Arrays, task: Problem, query: None) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Return what a whole run counts for, and its last loss as a share of the first."""
        value, losses = self._judged(params, task, jax.random.key(0), train=False)
        return value, Objective("last")(losses)

    def _judged(self, params: Arrays, task: Problem, key: PRNGKeyArray, *, train: bool) -> tuple[Array, Array]:
        stretch, when, key = jax.random.split(key, 3)
        rule = self
        horizon = None
        if train and self.rescale > 1.0:
            task, rule = self._stretched(task, stretch)
        if train and self.shortest is not None and self.shortest < self.steps:
            horizon = jax.random.randint(when, (), self.shortest, self.steps + 1)
        run, first = rule.begin(params, task, key)
        _, losses = rule.proceed(params, task, run, self.steps, key)
        losses = jnp.concatenate([first[None], losses])
        return self.objective(losses, horizon), losses

    def _stretched(self, task: Problem, key: PRNGKeyArray) -> tuple[Problem, LossDescent]:
        """Put a problem into other units."""
        edge = math.log(self.rescale)
        draws = jnp.exp(jax.random.uniform(key, (len(task.start) + 1,), minval=-edge, maxval=edge))
        by = {name: draws[place] for place, name in enumerate(task.start)}
        start = {name: array / by[name] for name, array in task.start.items()}

        def loss(weights: Any, data: Any, key: Any) -> Any:
            return draws[-1] * self.loss({name: array * by[name] for name, array in weights.items()}, data, key)

        return Problem(task.data, start), replace(self, loss=loss)
