"""A meta-learner together with tasks of its own kind: what the conformance checks are run on."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final

import numpy as np
from sklearn.base import clone

from upstairs.errors import FamiliarityWarning, TaskError
from upstairs.learners.meta import MetaLearner
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.synthetic import SharedSubspace, Unrelated
from upstairs.tasks.table import Table
from upstairs.tasks.task import Task
from upstairs.tasks.taskset import TaskSet

__all__ = ["Few", "MetaCase", "cases_for"]

CaseKind = Literal["regression", "shared", "own"]


@final
@dataclass(frozen=True, slots=True)
class Few:
    """One task cut into support and query rows."""

    X: Any
    y: np.ndarray
    X_query: Any
    y_query: np.ndarray


@final
@dataclass(frozen=True)
class MetaCase:
    """A meta-learner and the tasks that it is to be checked on.

    Parameters
    ----------
    meta : MetaLearner
        Need not be meta-fitted; it is never changed.
    train : TaskSet or ClassPool
        What it is meta-fitted on.
    test : TaskSet
        At least 30 further tasks of the same family, with more than ``shots`` rows each (a class, for own labels).
    unrelated : TaskSet, optional
        Tasks with the same columns that share nothing with ``train`` (200 are asked for): a prior must not do harm
        there, and must find them unfamiliar.
    shots : int
        Support rows of a task, or rows a class for labels of a task's own.
    setting : (str, value), optional
        An argument of the estimator and a value that differs from what the prior says.
    bad_setting : (str, value), optional
        An argument of the estimator and a value that must be refused.
    tolerance : float
        How far predictions of the same thing may differ (relative): rows in another order, one task or many at once.
        Learners that compute in single precision need about 1e-5.
    columns : {"same", "any"}
        "any": the meta-learner learns from tasks with different columns and its prior serves whatever columns come, so
        that checks of matching columns do not apply, and it has no prediction without rows.
    name : str
        Stands in the name of a test.
    expected_failures : mapping of str to str
        Names of checks that are known to fail, each with the reason; such a check must then fail.
    quick : MetaLearner, optional
        The same meta-learner, trained for less time: it stands in for ``meta`` in all checks but those that ask how good a
        prior is (beating the base learner, telling unrelated tasks, doing no harm there).
    """

    meta: MetaLearner
    train: TaskSet | ClassPool
    test: TaskSet
    unrelated: TaskSet | None = None
    shots: int = 5
    setting: tuple[str, Any] | None = None
    bad_setting: tuple[str, Any] | None = None
    tolerance: float = 1e-8
    columns: Literal["same", "any"] = "same"
    name: str = ""
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    quick: MetaLearner | None = None
    _kept: dict[str, MetaLearner] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def kind(self) -> CaseKind:
        """What a task's targets are: numbers, labels that all tasks share, or labels of its own."""
        if self.test.kind == "regression":
            return "regression"
        return "own" if self.test.labels == "own" else "shared"

    def fitted(self, meta: MetaLearner) -> MetaLearner:
        """Return the meta-learner with a prior from ``train``, learned once for all checks; do not change it."""
        return meta if hasattr(meta, "prior_") else self._learned("plain", meta, self.train)

    def fitted_on_frames(self, meta: MetaLearner) -> MetaLearner:
        """Return the meta-learner with a prior from ``train`` as `framed` tasks."""
        assert isinstance(self.train, TaskSet)
        return self._learned("framed", meta, self.train.map(framed))

    def _learned(self, how: str, meta: MetaLearner, tasks: TaskSet | ClassPool) -> MetaLearner:
        key = f"{how} {meta!r}"
        if key not in self._kept:
            self._kept[key] = clone(meta).meta_fit(tasks)
        return self._kept[key]

    def few(self, number: int, tasks: TaskSet | None = None, shots: int | None = None) -> Few:
        """Cut a test task (or one of other tasks) into support and query rows, the first rows for the support."""
        task = (self.test if tasks is None else tasks)[number]
        shots = self.shots if shots is None else shots
        chosen = np.arange(shots)
        if self.kind == "own":
            chosen = np.sort(np.concatenate([np.flatnonzero(task.y == label)[:shots] for label in task.classes]))
        rest = np.setdiff1d(np.arange(len(task)), chosen)
        support, query = task.take(chosen), task.take(rest)
        return Few(support.X, support.y, query.X, query.y)

    def parts(self) -> tuple[TaskSet | ClassPool, TaskSet | ClassPool]:
        """Training tasks in two parts."""
        first = min(len(self.train) // 2, 10)
        if isinstance(self.train, ClassPool):
            return self.train.select(range(first)), self.train.select(range(first, len(self.train)))
        return self.train[:first], self.train[first:]

    def shuffled(self) -> TaskSet | ClassPool:
        """Training tasks (or classes) in another order."""
        order = np.random.default_rng(0).permutation(len(self.train))
        return self.train.select(order) if isinstance(self.train, ClassPool) else self.train[order]


def framed(task: Task) -> Task:
    """Return the task with named columns, one of them a category that says nothing about the target.

    The category takes the place of two columns, as many as it is encoded in, where at least two others remain: what is
    compiled for the task itself then serves for the framed one.
    """
    table = task.X if isinstance(task.X, Table) else Table([f"c{n}" for n in range(task.X.shape[1])], list(task.X.T))
    if not table.categorical:
        colour = np.array(["red", "green"], dtype=object)[np.arange(len(task)) % 2]
        if len(table.names) >= 4:
            table = table.drop(table.names[-2:])
        table = Table([*table.names, "colour"], [*table.columns, colour])
    return Task(table, task.y, name=task.name, kind=task.kind, group=task.group)


def cases_for(
    meta: MetaLearner, kinds: Sequence[str] = ("regression", "shared", "own"), **fields: Any
) -> list[MetaCase]:
    """Make small cases for a meta-learner: a regression, shared labels, and a class pool.

    Parameters
    ----------
    meta : MetaLearner
    kinds : sequence of {"regression", "shared", "own"}
        Leave out what the meta-learner is not made for.
    **fields
        Further fields of every `MetaCase`, such as ``setting=("prior_weight", 3.0)``.

    Examples
    --------
    >>> import upstairs as up
    >>> [case.name for case in cases_for(up.MetaNeuralNetwork())]
    ['regression', 'shared', 'own']
    """
    unknown = [kind for kind in kinds if kind not in _MAKERS]
    if unknown:
        raise TaskError(f"kinds must be among {', '.join(_MAKERS)}, but holds {unknown[0]!r}; correct it.")
    return [MetaCase(meta, name=kind, **(_MAKERS[kind]() | fields)) for kind in kinds]


def predicted(model: Any, X: Any) -> np.ndarray:
    """Everything that a model says about rows: probabilities, or means (and standard deviations)."""
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(X))
    if "return_std" in inspect.signature(model.predict).parameters:
        return np.column_stack(model.predict(X, return_std=True))
    return np.asarray(model.predict(X))


def mean_loss(model: Any, X: Any, y: np.ndarray) -> float:
    """Mean squared error, or mean log loss of the true labels (a probability counts as at least 1e-6)."""
    if not hasattr(model, "predict_proba"):
        return float(np.mean((y - np.asarray(model.predict(X))) ** 2))
    place = {label: number for number, label in enumerate(np.asarray(model.classes_).tolist())}
    probability = np.asarray(model.predict_proba(X))
    taken = [probability[row, place[label]] if label in place else 0.0 for row, label in enumerate(y.tolist())]
    return float(-np.log(np.maximum(taken, 1e-6)).mean())


def quietly(meta: MetaLearner, X: Any, y: Any) -> tuple[Any, bool]:
    """Adapt, and tell whether a `FamiliarityWarning` came."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FamiliarityWarning)
        model = meta.adapt(X, y)
    return model, any(issubclass(entry.category, FamiliarityWarning) for entry in caught)


def _regression() -> dict[str, Any]:
    family = SharedSubspace(features=4, rank=1)
    return {
        "train": family.sample(40, (10, 20), random_state=0),
        "test": family.sample(30, 40, random_state=1),
        "unrelated": Unrelated("regression", features=4).sample(200, 50, random_state=2),
    }


def _shared() -> dict[str, Any]:
    family = SharedSubspace(features=4, rank=1, spread=3.0)
    return {
        "train": family.sample(40, (15, 25), random_state=0).map(_signs),
        "test": family.sample(30, 40, random_state=1).map(_signs),
        "unrelated": Unrelated("classification", features=4).sample(200, 50, random_state=2),
    }


def _signs(task: Task) -> Task:
    """Return the task whose label is the sign of its target, in the words of `Unrelated`: 1 is above zero."""
    return Task(task.X, (task.y > 0).astype(np.int64), name=task.name, kind="classification")


_CLEAR = np.array([3.0, 3.0, 0.0, 0.0, 0.0, 0.0])
"""How far classes lie apart in each direction."""
_NOISE = np.array([1.0, 1.0, 4.0, 4.0, 4.0, 4.0])
"""How far the rows of a class do."""


def _own() -> dict[str, Any]:
    train, test = _pool(0), _pool(1)
    return {
        "train": train,
        "test": test.episodes(30, ways=3, shots=5, queries=10, random_state=0),
        "unrelated": TaskSet([_lonely(number) for number in range(200)], labels="own"),
        "shots": 2,
    }


def _pool(seed: int, classes: int = 30, rows: int = 20) -> ClassPool:
    """Classes that differ in two directions, while their rows differ most in the others."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(classes), rows)
    centres = _CLEAR * rng.normal(size=(classes, len(_CLEAR)))
    labels = np.array([f"s{seed}-{number:02d}" for number in range(classes)])
    return ClassPool(centres[y] + _NOISE * rng.normal(size=(len(y), len(_NOISE))), labels[y])


def _lonely(number: int, ways: int = 4, rows: int = 10) -> Task:
    """Draw a task with clear and noisy directions of its own, somewhere else."""
    rng = np.random.default_rng([2, number])
    y = np.repeat(np.arange(ways), rows)
    centres = rng.permutation(_CLEAR) * rng.normal(size=(ways, len(_CLEAR))) + 6.0 * rng.normal(size=len(_CLEAR))
    X = centres[y] + rng.permutation(_NOISE) * rng.normal(size=(len(y), len(_NOISE)))
    return Task(X, np.array(list("abcd"))[y], name=f"lonely-{number:03d}", kind="classification")


_MAKERS = {"regression": _regression, "shared": _shared, "own": _own}
