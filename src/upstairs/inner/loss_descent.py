"""Learn an update rule on losses: what is judged is how an unrolled run goes."""

from __future__ import annotations

import abc
import functools
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from upstairs.inner.descent import Descent
from upstairs.inner.gradient import part
from upstairs.inner.implied import implied, penalty
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
        What stands for ``loss`` and ``judge`` where a training is named.
    judge : callable, optional
        What runs are judged by, if not the loss: such as that of rows which steps do not see.
    penalty : float, optional
        Where penalties on the distance from the start begin, one an array of weights; they are learned
        (``penalty/...``, their logs). None: there are none. They only make sense with a ``judge``.
    implicit : bool
        Whether the outer gradient is that of the solution of the penalised problem, by penalties and start, which is
        right where ``steps`` solve it. The update rule is then given, not learned.

    Raises
    ------
    ValueError
        For settings that mean nothing.
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
    judge: Callable[[Any, Any, Any], Any] | None = field(default=None, repr=False)
    penalty: float | None = None
    implicit: bool = False

    def __post_init__(self) -> None:
        if self.rescale < 1.0 or (self.rescale > 1.0 and self.learn_start):
            raise ValueError(
                f"LossDescent: rescale must be at least 1, and 1 where the start is learned, but is {self.rescale!r}."
            )
        if self.shortest is not None and not 1 <= self.shortest <= self.steps:
            raise ValueError(
                f"LossDescent: shortest must lie between 1 and steps={self.steps}, but is {self.shortest!r}."
            )
        if self.penalty is not None and not self.penalty > 0:
            raise ValueError(f"LossDescent: penalty must be a positive number or None, but is {self.penalty!r}.")
        if self.penalty is not None and self.judge is None:
            raise ValueError(
                "LossDescent: a penalty is learned by what runs are judged by, and the loss alone would make it nothing; "
                "pass judge= to Problems."
            )
        if self.implicit and (self.penalty is None or self.objective.over != "last"):
            raise ValueError(
                "LossDescent: the implicit gradient needs a penalty, and an objective over the last step: nothing else moves a solution."
            )

    def init(self, key: PRNGKeyArray, spec: Any = None) -> dict[str, Array]:
        """Return the update rule's arrays before learning, penalties, and a start of zeros."""
        weights = {name: jnp.zeros(shape) for name, shape in self.shapes}
        params = {f"descent/{name}": array for name, array in self.descent.settings(weights).items()}
        if self.penalty is not None:
            params |= {f"penalty/{name}": jnp.asarray(math.log(self.penalty)) for name in weights}
        return params | ({f"start/{name}": array for name, array in weights.items()} if self.learn_start else {})

    @property
    def fixed(self) -> tuple[str, ...]:
        """Prefixes of params that are given: the update rule does not move a solution."""
        return ("descent/",) if self.implicit else ()

    def begin(self, params: Arrays, task: Problem, key: PRNGKeyArray) -> tuple[Run, Float[Array, ""]]:
        """Stand at the start."""
        run = begun(self.descent, part(params, "descent"), self._start(params, task))
        return run, self._seen(run.weights, task.data, jax.random.fold_in(key, 0))

    def proceed(
        self, params: Arrays, task: Problem, run: Run, steps: int, key: PRNGKeyArray
    ) -> tuple[Run, Float[Array, " step"]]:
        """Make some steps."""
        watched = self.judge is not None or self.penalty is not None
        return further(
            self.descent,
            part(params, "descent"),
            functools.partial(self._climbed, params, task),
            run,
            steps,
            key,
            first_order=self.first_order,
            watch=(lambda weights, key: self._seen(weights, task.data, key)) if watched else None,
        )

    def _start(self, params: Arrays, task: Problem) -> Arrays:
        return part(params, "start") if self.learn_start else task.start

    def _seen(self, weights: Arrays, data: Any, key: Any) -> Float[Array, ""]:
        """What a run is judged by at some weights."""
        return (self.loss if self.judge is None else self.judge)(weights, data, key)

    def _climbed(self, params: Arrays, task: Problem, weights: Arrays, key: Any) -> Float[Array, ""]:
        """What steps go down: the loss and the penalty."""
        value = self.loss(weights, task.data, key)
        if self.penalty is None:
            return value
        return value + penalty(part(params, "penalty"), weights, self._start(params, task))

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
        made = jax.lax.stop_gradient(dict(params)) if self.implicit else params
        run, first = rule.begin(made, task, key)
        run, losses = rule.proceed(made, task, run, self.steps, key)
        if self.implicit:
            slope = jax.grad(functools.partial(rule._climbed, params, task))
            weights = implied(lambda weights: slope(weights, key), run.weights)
            losses = losses.at[-1].set(rule._seen(weights, task.data, key))
        losses = jnp.concatenate([first[None], losses])
        return self.objective(losses, horizon), losses

    def _stretched(self, task: Problem, key: PRNGKeyArray) -> tuple[Problem, LossDescent]:
        """Put a problem into other units."""
        edge = math.log(self.rescale)
        draws = jnp.exp(jax.random.uniform(key, (len(task.start) + 1,), minval=-edge, maxval=edge))
        by = {name: draws[place] for place, name in enumerate(task.start)}
        start = {name: array / by[name] for name, array in task.start.items()}

        def in_units(function: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
            return lambda weights, data, key: (
                draws[-1] * function({name: array * by[name] for name, array in weights.items()}, data, key)
            )

        judge = None if self.judge is None else in_units(self.judge)
        return Problem(task.data, start), replace(self, loss=in_units(self.loss), judge=judge)
