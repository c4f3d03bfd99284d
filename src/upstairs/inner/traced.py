"""Rules whose learning is a gradient away: pure JAX functions of one task, and their NumPy face.

A `TracedRule` is written for one task; callers map it over tasks with ``vmap``, differentiate it, and compile it.
`Traced` turns one into an `AdaptationRule`: arrays are padded to buckets, so that a new size within a bucket
compiles nothing, computed in float32, and handed back as NumPy arrays.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, TypeAlias, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

from upstairs.errors import PriorMismatchError
from upstairs.inner.rule import AdaptationRule, Categorical, Gaussian, Params, Prediction, Rows, State
from upstairs.inner.rule import log_density as density
from upstairs.tasks.batches import bucket

__all__ = [
    "Arrays",
    "Logits",
    "Normal",
    "Spec",
    "TaskRows",
    "Traced",
    "TracedRule",
    "Trainable",
    "log_density",
    "over_tasks",
]

Arrays: TypeAlias = Mapping[str, Array]
OUTPUT = "output of class"
"""State of tasks with labels of their own: for every class the output of the rule that stands for it."""


@dataclass(frozen=True)
class Spec:
    """What tasks look like: the shape of one row's features, and the number of classes (0: a regression)."""

    inputs: tuple[int, ...]
    ways: int = 0

    @property
    def kind(self) -> str:
        """Return ``"regression"`` or ``"classification"``."""
        return "classification" if self.ways else "regression"


class TaskRows(NamedTuple):
    """Rows of one task; ``y`` are numbers, or class numbers, and padding rows have a false ``mask``."""

    x: Float[Array, "row ..."]
    y: Shaped[Array, "row ..."]
    mask: Bool[Array, " row"]


class Normal(NamedTuple):
    """A normal distribution for every row (of several outputs, if there are)."""

    mean: Float[Array, "row ..."]
    variance: Float[Array, "row ..."]


class Logits(NamedTuple):
    """Unnormalised log probabilities of the classes of every row."""

    value: Float[Array, "row way"]


class Trainable(abc.ABC):
    """What the training loop needs of a rule: params, and how well a task goes with them, all in JAX."""

    @property
    def fixed(self) -> tuple[str, ...]:
        """Prefixes of the names of params that stay as they are."""
        return ()

    @property
    def sequential(self) -> bool:
        """Whether tasks are better mapped one after another than side by side."""
        return False

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray, spec: Any) -> dict[str, Array]:
        """Params before learning."""

    @abc.abstractmethod
    def outer_loss(self, params: Arrays, support: Any, query: Any, key: PRNGKeyArray) -> Float[Array, ""]:
        """What learning over tasks makes small, for one task."""

    @abc.abstractmethod
    def judged(self, params: Arrays, support: Any, query: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Loss and error of a task that is not trained on."""


class TracedRule(Trainable):
    """How one task is learned from a prior, as pure JAX functions; subclasses are frozen, hashable and final.

    ``params`` and ``state`` are flat dictionaries of floating-point arrays. ``adapt`` must accept rows that are all
    masked out (the prior's own state). The gradient of `outer_loss` by ``params`` is what trains the prior.
    """

    serves: ClassVar[frozenset[str]] = frozenset({"regression", "shared", "own"})
    """Tasks that the rule is for: a regression, labels that tasks share, labels of a task's own."""
    any_ways: ClassVar[bool] = False
    """Whether params do not depend on the field ``ways``, so that a task may have any number of classes of its own."""
    grows: ClassVar[bool] = False
    """Whether the work grows faster than the number of rows, so that padding is dear."""
    features: ClassVar[bool] = False
    """Whether the network gives features for a last layer, and not the predictions themselves."""

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray, spec: Spec) -> dict[str, Array]:
        """Params before learning."""

    @abc.abstractmethod
    def adapt(
        self, params: Arrays, x: Float[Array, "row ..."], y: Shaped[Array, "row ..."], mask: Bool[Array, " row"]
    ) -> dict[str, Array]:
        """Learn one task from its support rows."""

    @abc.abstractmethod
    def predict(
        self, params: Arrays, state: Arrays, x: Float[Array, "row ..."], mask: Bool[Array, " row"] | None = None
    ) -> Normal | Logits:
        """Predict rows of that task.

        ``mask`` says which rows are real. A rule hands it on to its network, where a prediction may depend on the other
        rows (``statistics="batch"``); others do not need it. None: all are, and no such network is used.
        """

    def onward(self, params: Arrays, state: Arrays) -> dict[str, Array] | None:
        """Params that start where a task stands; None: a task starts from its rows, and not from weights."""
        return None

    def outer_loss(self, params: Arrays, support: TaskRows, query: TaskRows, key: PRNGKeyArray) -> Float[Array, ""]:
        """Mean negative log-likelihood of the query rows after adapting to the support rows."""
        predicted = self.predict(params, self.adapt(params, *support), query.x, query.mask)
        return masked_mean(-log_density(predicted, query.y), query.mask)

    def judged(self, params: Arrays, support: TaskRows, query: TaskRows) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Mean negative log-likelihood of the query rows, and their mean squared error or share of wrong rows."""
        predicted = self.predict(params, self.adapt(params, *support), query.x, query.mask)
        if isinstance(predicted, Logits):
            error = (jnp.argmax(predicted.value, axis=-1) != query.y).astype(jnp.float32)
        else:
            error = jnp.square(query.y - predicted.mean).reshape(len(query.mask), -1).mean(axis=1)
        return masked_mean(-log_density(predicted, query.y), query.mask), masked_mean(error, query.mask)


def over_tasks(rule: Trainable, function: Callable[..., Any], *arrays: Any) -> Any:
    """Map a function over the leading axis of arrays: side by side, or one after another where the rule asks for it."""
    if rule.sequential:
        return jax.lax.map(lambda task: function(*task), arrays)
    return jax.vmap(function)(*arrays)


def log_density(predicted: Normal | Logits, y: Shaped[Array, "row ..."]) -> Float[Array, " row"]:
    """Log density (summed over outputs), or log probability, of the target of every row.

    Examples
    --------
    >>> [round(value, 4) for value in log_density(Logits(jnp.zeros((1, 4))), jnp.array([2])).tolist()]
    [-1.3863]
    """
    if isinstance(predicted, Logits):
        chosen = jax.nn.one_hot(y, predicted.value.shape[-1], dtype=predicted.value.dtype)
        return (predicted.value * chosen).sum(axis=-1) - jax.nn.logsumexp(predicted.value, axis=-1)
    each = jnp.square(y - predicted.mean) / predicted.variance + jnp.log(2.0 * jnp.pi * predicted.variance)
    return -0.5 * each.reshape(each.shape[0], -1).sum(axis=1)


def masked_mean(values: Float[Array, " row"], mask: Bool[Array, " row"]) -> Float[Array, ""]:
    """Mean over the rows that count; zero if there are none."""
    return jnp.where(mask, values, 0.0).sum() / jnp.maximum(mask.sum(), 1)


@final
@dataclass(frozen=True)
class Traced(AdaptationRule):
    """The NumPy face of a traced rule.

    ``evidence`` is a proxy: the mean log predictive density of the support rows under the prior *before* adapting, or
    *after* it where nothing is known before (labels of a task's own, rules for any number of classes).

    Parameters
    ----------
    rule : TracedRule
    spec : Spec
        What the rule's params are for.
    own : bool
        Whether every task has labels of its own.
    """

    rule: TracedRule
    spec: Spec
    own: bool = False

    @property
    def compiles(self) -> bool:
        """Whether padding is cheap: not for images, and not where rows look at each other."""
        return not (self.rule.sequential or self.rule.grows or len(self.spec.inputs) > 1)

    @property
    def one_by_one(self) -> bool:
        """Whether a task is much work: batches are filled up to few sizes."""
        return not self.compiles

    def adapt(self, params: Params, support: Rows) -> State:
        """Learn every task of the batch.

        Raises
        ------
        PriorMismatchError
            If a task has more classes than the params were learned for.
        """
        most = int(support.y.max(initial=-1)) + 1 if self.spec.ways else 0
        if most > self.spec.ways and not (self.own and self.rule.any_ways):
            raise PriorMismatchError(
                f"The prior was learned for at most {self.spec.ways} classes, but the task has {most}; learn one with "
                f"ways={most}, or use a method without a fixed number of classes, such as 'prototype'."
            )
        count = len(support.y)
        rule, output = self._rule_and_outputs(support)
        state = _adapt(rule, _single(params), self._rows(_renamed(support, output)))
        found = {name: np.asarray(array)[:count] for name, array in state.items()}
        return found if output is None else found | {OUTPUT: output.astype(float)}

    def predict(self, params: Params, state: State, x: Float[np.ndarray, "task row feature"]) -> Prediction:
        """Predict rows of every task."""
        return self._predict(params, state, x, np.ones(x.shape[:2], bool))

    def predict_real(self, params: Params, state: State, rows: Rows) -> Prediction:
        """Predict the real rows of every task; the others have no part in statistics that rows share."""
        return self._predict(params, state, rows.x, rows.mask)

    def _predict(
        self,
        params: Params,
        state: State,
        x: Float[np.ndarray, "task row feature"],
        mask: Bool[np.ndarray, "task row"],
    ) -> Prediction:
        count, rows = x.shape[:2]
        tasks = _tasks(count, self.rule.sequential)
        output = state.get(OUTPUT)
        rule = self._for(output.shape[1]) if output is not None and self.rule.any_ways else self.rule
        state = {name: array for name, array in state.items() if name != OUTPUT}
        shape = (tasks, bucket(rows))
        padded = _grown(np.asarray(x, np.float32), shape).reshape(*shape, *self.spec.inputs)
        states = {name: _grown(np.asarray(array), (tasks,)) for name, array in state.items()}
        predicted = _predict(rule, _single(params), states, padded, _grown(mask, shape))
        arrays = [np.asarray(part, np.float64)[:count, :rows] for part in predicted]
        if not isinstance(predicted, Logits):
            return Gaussian(arrays[0], arrays[1])
        if output is None:
            return Categorical(arrays[0])
        own = np.take_along_axis(arrays[0], output.astype(np.int64)[:, None, :], axis=2)
        return Categorical(own / np.maximum(own.sum(axis=2, keepdims=True), 1e-300))

    @property
    def moves(self) -> bool:
        """Whether a task of shared meaning starts from weights."""
        return not self.own and self.rule.onward({}, {}) is not None

    def onward(self, params: Params, state: State) -> Params | None:
        """Params that start where the one task of a state stands."""
        one = {name: jnp.asarray(array[0]) for name, array in state.items()}
        found = self.rule.onward({name: jnp.asarray(array) for name, array in params.items()}, one)
        return None if self.own or found is None else _single(found)

    def evidence(self, params: Params, support: Rows, state: State | None = None) -> Float[np.ndarray, " task"]:
        """Mean log predictive density of the support rows."""
        if not (self.own or self.rule.any_ways):
            return np.asarray(_evidence(self.rule, _single(params), self._rows(support)), np.float64)[: len(support.y)]
        state = self.adapt(params, support) if state is None else state
        each = density(self.predict_real(params, state, support), support.y)
        return np.where(support.mask, each, 0.0).sum(axis=1) / np.maximum(support.counts, 1)

    def _rule_and_outputs(self, support: Rows) -> tuple[TracedRule, Int[np.ndarray, "task way"] | None]:
        """Return the rule for this number of classes, and which output stands for which class."""
        if not self.own:
            return self.rule, None
        ways = max(int(support.y.max(initial=-1)) + 1, 2)
        if self.rule.any_ways:
            return self._for(ways), np.broadcast_to(np.arange(ways), (len(support.y), ways))
        return self.rule, _by_content(support, ways)

    def _for(self, ways: int) -> TracedRule:
        rule: Any = self.rule
        return replace(rule, ways=ways)

    def _rows(self, rows: Rows) -> TaskRows:
        return self._padded(rows.x, rows.y, rows.mask, _tasks(len(rows.y), self.rule.sequential))

    def _padded(self, x: np.ndarray, y: np.ndarray, mask: np.ndarray, tasks: int) -> TaskRows:
        shape = (tasks, bucket(y.shape[1]))
        features = _grown(np.asarray(x, np.float32), shape).reshape(*shape, *self.spec.inputs)
        targets = _grown(np.asarray(y, np.int32 if self.spec.ways else np.float32), shape)
        return TaskRows(*map(jnp.asarray, (features, targets, _grown(mask, shape))))


def _by_content(support: Rows, ways: int) -> Int[np.ndarray, "task way"]:
    """Order the classes of every task by their mean rows: outputs differ, and names of classes must not matter."""
    member = (support.y[..., None] == np.arange(ways)) & support.mask[..., None]
    count = member.sum(axis=1)
    mean = member.swapaxes(1, 2).astype(float) @ support.x / np.maximum(count, 1)[..., None]
    keys = np.concatenate([mean, (count == 0)[..., None]], axis=2)  # classes without a row come last
    return np.stack([np.argsort(np.lexsort(one.T), kind="stable") for one in keys])


def _renamed(rows: Rows, output: Int[np.ndarray, "task way"] | None) -> Rows:
    if output is None:
        return rows
    return replace(rows, y=np.where(rows.mask, np.take_along_axis(output, rows.y.astype(np.int64), axis=1), 0))


def _tasks(count: int, sequential: bool) -> int:
    """Pad the number of tasks to few different ones (1, 16, 256), many of them or where each costs much to a power of two."""
    if count == 1 or sequential or count > 256:
        return 1 if count == 1 else bucket(count)
    return 16 if count <= 16 else 256


def _grown(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    gaps = [(0, size - have) for size, have in zip(shape, array.shape, strict=False)]
    if not any(gap for _, gap in gaps):
        return array
    return np.pad(array, gaps + [(0, 0)] * (array.ndim - len(gaps)))


def _single(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(array, np.float32) for name, array in params.items()}


@functools.partial(jax.jit, static_argnums=0)
def _adapt(rule: TracedRule, params: Any, rows: TaskRows) -> Any:
    return over_tasks(rule, lambda task: rule.adapt(params, *task), rows)


@functools.partial(jax.jit, static_argnums=0)
def _predict(rule: TracedRule, params: Any, states: Any, x: Array, mask: Array) -> Normal | Logits:
    predicted = over_tasks(rule, lambda state, *own: rule.predict(params, state, *own), states, x, mask)
    return Logits(jax.nn.softmax(predicted.value, axis=-1)) if isinstance(predicted, Logits) else predicted


@functools.partial(jax.jit, static_argnums=0)
def _evidence(rule: TracedRule, params: Any, rows: TaskRows) -> Array:
    def one(task: TaskRows) -> Array:
        state = rule.adapt(params, task.x, task.y, jnp.zeros_like(task.mask))
        return masked_mean(log_density(rule.predict(params, state, task.x, task.mask), task.y), task.mask)

    return over_tasks(rule, one, rows)
