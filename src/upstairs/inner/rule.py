"""The one shape that every way of learning a task from a prior has.

A rule is a small frozen object without data. What was learned over tasks is in ``params`` (float arrays
only), what was learned on a task is in a ``state``; both are flat dictionaries of arrays, so that a prior
can be stored without code. Every function works on a batch of tasks: the leading axis is ``task``.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Shaped

Params: TypeAlias = Mapping[str, np.ndarray]
State: TypeAlias = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Rows:
    """A padded batch of rows, one line of the leading axis a task.

    ``x`` are encoded features, ``y`` are targets (regression) or class numbers 0 to way-1 (classification),
    ``mask`` is true where a row is real. Padding rows hold zeros. ``weight`` is what a row counts (None: 1), for rules
    that know weights.
    """

    x: Float[np.ndarray, "task row feature"]
    y: Shaped[np.ndarray, "task row"]
    mask: Bool[np.ndarray, "task row"]
    weight: Float[np.ndarray, "task row"] | None = None

    @property
    def counts(self) -> np.ndarray:
        """Real rows of each task, shape ``(task,)``."""
        return self.mask.sum(axis=1)


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A predictive normal distribution for every row; ``variance`` includes the noise of one new row."""

    mean: Float[np.ndarray, "task row"]
    variance: Float[np.ndarray, "task row"]


@dataclass(frozen=True, slots=True)
class Categorical:
    """Class probabilities for every row; they sum to one over the last axis."""

    probability: Float[np.ndarray, "task row way"]


Prediction: TypeAlias = Gaussian | Categorical


def log_density(predicted: Prediction, y: Shaped[np.ndarray, "task row"]) -> Float[np.ndarray, "task row"]:
    """Log density of targets, or log probability of class numbers, under a prediction."""
    if isinstance(predicted, Categorical):
        chosen = np.take_along_axis(predicted.probability, y[..., None].astype(np.int64), axis=2)[..., 0]
        return np.log(np.maximum(chosen, 1e-12))
    return -0.5 * (np.log(2.0 * np.pi * predicted.variance) + (y - predicted.mean) ** 2 / predicted.variance)


class AdaptationRule(abc.ABC):
    """How one task is learned from a prior: a few pure functions of arrays."""

    @abc.abstractmethod
    def adapt(self, params: Params, support: Rows) -> State:
        """Learn every task of the batch from its support rows; zero rows give the prior's own state."""

    @abc.abstractmethod
    def predict(self, params: Params, state: State, x: Float[np.ndarray, "task row feature"]) -> Prediction:
        """Predict rows of every task."""

    def predict_real(self, params: Params, state: State, rows: Rows) -> Prediction:
        """Predict the real rows of every task; what is said of the others means nothing.

        The same as `predict` on ``rows.x``, unless a prediction depends on the rows beside it.
        """
        return self.predict(params, state, rows.x)

    @abc.abstractmethod
    def evidence(self, params: Params, support: Rows, state: State | None = None) -> Float[np.ndarray, " task"]:
        """How well the support fits the prior, a real row (log evidence, or minus a distance).

        ``state`` is what `adapt` made of the same rows, if the caller has it: some rules know the answer from there.
        """

    def override(self, params: Params, settings: Mapping[str, float]) -> Params:
        """Put values that a user gave over what was learned; a rule documents the names it knows, others are ignored."""
        return params

    @property
    def compiles(self) -> bool:
        """Whether every width of a batch is compiled for itself while padding costs little.

        What replays tasks at many numbers of rows then does best to pad them all to one.
        """
        return False

    @property
    def one_by_one(self) -> bool:
        """Whether a task beside others costs what it costs alone, so that filling a batch up costs more than it saves."""
        return False

    @property
    def updates(self) -> bool:
        """Whether `update` is offered."""
        return type(self).update is not AdaptationRule.update

    def update(self, params: Params, state: State, rows: Rows) -> State | None:
        """Learn more rows into a state exactly as if they had been there from the start; None: not offered."""
        return None

    @property
    def compact(self) -> bool:
        """Whether a state that was updated is no larger for it, so that a stream without end can be learned."""
        return self.updates

    @property
    def fades(self) -> bool:
        """Whether `faded` is offered."""
        return type(self).faded is not AdaptationRule.faded

    def faded(self, state: State, kept: float) -> State | None:
        """Forget towards the prior: every row in a state counts ``kept`` times what it did; None: not offered.

        What comes back is for `update` alone, which makes the rest of the state anew.
        """
        return None

    @property
    def moves(self) -> bool:
        """Whether `onward` is offered."""
        return False

    def onward(self, params: Params, state: State) -> Params | None:
        """Params that start where the one task of a state stands, so that `adapt` goes on from there; None: not offered."""
        return None


class PlainRule(AdaptationRule):
    """A rule that also works without a prior: the plain base learner, and what `guard` falls back to."""

    @abc.abstractmethod
    def own_params(self, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"], ways: int) -> Params:
        """Params made from the rows of one task alone, which has seen no other task.

        ``adapt(own_params(x, y, ways), rows)`` with the same rows is that learner fitted.
        """
