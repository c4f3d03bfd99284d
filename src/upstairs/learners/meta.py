"""The upstairs side of the contract: learn a prior over tasks, hand out learners that use it."""

from __future__ import annotations

import abc
import functools
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, ClassVar, TypeVar

import numpy as np
from sklearn.base import BaseEstimator

from upstairs.errors import NotMetaFittedError, PriorMismatchError, TaskError
from upstairs.learners.base import PriorEstimator, adapt_tasks
from upstairs.learners.seen import Seen
from upstairs.outer.fits import run_fits
from upstairs.outer.threads import threads_for, total_rows
from upstairs.prior import Prior
from upstairs.tasks.batches import concatenate_columns
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.task import Task
from upstairs.tasks.taskset import TaskSet, check_disjoint

__all__ = ["MetaLearner"]

AnyMeta = TypeVar("AnyMeta", bound="MetaLearner")
"""The class itself, where a method returns ``self``."""

FEWEST_TASKS = 3
AT_ONCE = 1000
"""Tasks that are adapted in one go; the same for any ``n_jobs``, as results must not depend on it."""


class MetaLearner(BaseEstimator, abc.ABC):
    """What every meta-learner shares: ``meta_fit`` makes ``prior_``, everything else reads it.

    A final class says with `_learn` how a prior is made from tasks, and with `_learner_class` which estimator reads it.
    """

    _family: ClassVar[str]
    prior_: Prior

    @abc.abstractmethod
    def _learn(self, tasks: TaskSet | ClassPool, validation: TaskSet | ClassPool | None) -> Prior:
        """Make a prior from checked tasks in canonical order."""

    @abc.abstractmethod
    def _learn_on(self, tasks: TaskSet | ClassPool) -> Prior:
        """Make the next prior from more tasks and what was kept of the earlier ones."""

    @abc.abstractmethod
    def _new_learner(self, prior: Prior | None, settings: dict[str, Any]) -> Any:
        """Make the unfitted estimator for a prior."""

    @property
    def _needs_rows(self) -> bool:
        """Whether ``meta_partial_fit`` needs the rows of earlier tasks, which are not part of the prior."""
        return True

    def meta_fit(self: AnyMeta, tasks: Any, *, validation: Any = None) -> AnyMeta:
        """Learn a prior over tasks.

        Parameters
        ----------
        tasks : TaskSet, ClassPool, or sequence of Task
            Training tasks, at least 3; their order does not matter.
        validation : TaskSet or ClassPool, optional
            Tasks on which choices are made. Without them folds over the training tasks serve, which costs time and
            no tasks.

        Returns
        -------
        self
            With ``prior_``.

        Raises
        ------
        TaskError
            For too few tasks, mixed kinds, or a task that stands in both sets.
        PriorMismatchError
            If the columns of the tasks differ and the learner needs the same.
        """
        tasks = _checked(tasks, "tasks")
        if validation is not None:
            validation = _checked(validation, "validation", fewest=1)
            if isinstance(tasks, TaskSet) != isinstance(validation, TaskSet):
                raise TaskError("tasks and validation must both be task sets or both be class pools.")
            if isinstance(tasks, TaskSet):
                if tasks.kind != validation.kind:
                    raise TaskError(
                        f"tasks are a {tasks.kind} and validation is a {validation.kind}; they must be of one kind."
                    )
                check_disjoint(tasks=tasks, validation=validation)
        with threads_for(total_rows(tasks)):
            self.prior_ = self._learn(tasks, validation)
        return self

    def meta_partial_fit(self: AnyMeta, tasks: Any) -> AnyMeta:
        """Go on learning from more tasks; the result is a new prior, the old one is untouched.

        What was decided at the start (encoding, rule, pooled model) stays; what is estimated over tasks is estimated
        anew from all tasks, the old and the new.

        Raises
        ------
        TaskError
            For a task whose name was seen before, or of another kind.
        NotMetaFittedError
            After loading a prior that was saved without ``resume=True``.
        """
        if not hasattr(self, "prior_"):
            return self.meta_fit(tasks)
        more = _checked(tasks, "tasks", fewest=1)
        with threads_for(total_rows(more)):
            self.prior_ = self._learn_on(more)
        return self

    def learner(self, **settings: Any) -> Any:
        """Return the unfitted estimator with this prior; explicit ``settings`` win over what was learned."""
        return self._new_learner(self._prior(), settings)

    def plain_learner(self, kind: str) -> Any:
        """Return the same estimator without a prior: the honest baseline."""
        return self._new_learner(None, {"kind": kind})

    def adapt(self, X: Any, y: Any) -> Any:
        """Fit a new estimator to the rows of one task; equal to ``learner().fit(X, y)``."""
        return self.learner().fit(X, y)

    def adapt_many(self, tasks: Any, *, n_jobs: int | None = None) -> list[PriorEstimator]:
        """Adapt many tasks at once, with the results of `adapt` one by one.

        Parameters
        ----------
        tasks : TaskSet, sequence of Task, or sequence of (X, y)
            One entry a task.
        n_jobs : int, optional
            Threads, each with a thousand tasks at a time. None: as `joblib.parallel_config` says, or 1.
        """
        template: PriorEstimator = self.learner()
        listed = [
            task if isinstance(task, Task) else Task(task[0], task[1], name=f"task {n}", kind=template._kind)
            for n, task in enumerate(tasks)
        ]
        if not listed:
            return []
        encoder = Encoder.from_spec(self._prior().settings["encoder"])
        try:
            rows = encoder.encode(concatenate_columns(listed))
        except PriorMismatchError:
            for task in listed:  # find out which task it is
                encoder.encode(task.X, task=task.name)
            raise
        bounds = np.concatenate([[0], np.cumsum([len(task) for task in listed])]).tolist()
        template.n_features_in_ = len(encoder.columns)
        if encoder.named:
            template.feature_names_in_ = np.array(encoder.names, dtype=object)
        parts = [rows[start:stop] for start, stop in pairwise(bounds)]
        ys = [task.y for task in listed]
        pieces = [slice(start, start + AT_ONCE) for start in range(0, len(listed), AT_ONCE)]
        found = dict(
            run_fits(
                functools.partial(_adapted, template),
                [(parts[piece], ys[piece]) for piece in pieces],
                names=lambda number: f"tasks {listed[pieces[number]][0].name!r} and those after it",
                n_jobs=n_jobs,
                prefer="threads",
            )
        )
        return [model for number in range(len(pieces)) for model in found[number]]

    def adapt_zero(self, like: Any = None) -> PriorEstimator:
        """Return an estimator that has seen no row of its task: the prior's own prediction.

        Parameters
        ----------
        like : array or data frame, optional
            Rows of the new task without labels; only their columns are checked.

        Raises
        ------
        PriorMismatchError
            If every task has labels of its own, so that there is nothing to predict without rows.
        """
        prior = self._prior()
        template: PriorEstimator = self.learner()
        if prior.settings["labels"] == "own":
            raise PriorMismatchError(
                "adapt_zero needs labels that all tasks share, but this prior was learned on tasks with labels of their own; "
                "pass at least one row a class to adapt."
            )
        encoder = Encoder.from_spec(prior.settings["encoder"])
        if like is not None:
            encoder.encode(template._columns(like, reset=True))
        template.n_features_in_ = len(encoder.columns)
        empty = np.empty(0, dtype=np.float64 if prior.settings["kind"] == "regression" else np.int64)
        return adapt_tasks(template, [np.empty((0, encoder.width))], [empty])[0]

    def _kept(self) -> Seen:
        """Return the encoded rows of the tasks so far."""
        seen: Seen | None = getattr(self, "seen_", None)
        if seen is None:
            raise NotMetaFittedError(
                "meta_partial_fit needs the rows of the earlier tasks, which this prior was saved without; save with "
                "upstairs.save(meta, path, resume=True), or meta_fit on all tasks."
            )
        return seen

    def _prior(self) -> Prior:
        if not hasattr(self, "prior_"):
            raise NotMetaFittedError(
                f"This {type(self).__name__} has no prior yet; call meta_fit(tasks) first, or load one with upstairs.load."
            )
        return self.prior_


def _checked(tasks: Any, argument: str, fewest: int = FEWEST_TASKS) -> Any:
    if isinstance(tasks, ClassPool):
        return tasks.select(range(len(tasks)))  # class after class: rows of classes may come in any order
    if not isinstance(tasks, TaskSet):
        if not isinstance(tasks, Sequence | Iterable) or isinstance(tasks, str | bytes | np.ndarray):
            raise TaskError(
                f"{argument} must be a TaskSet, a ClassPool or a list of Task, but is a {type(tasks).__name__}."
            )
        listed = list(tasks)
        odd = next((entry for entry in listed if not isinstance(entry, Task)), None)
        if odd is not None:
            raise TaskError(
                f"{argument} must hold Task objects, but holds a {type(odd).__name__}; wrap rows as Task(X, y, name=...)."
            )
        tasks = TaskSet(listed)
    if len(tasks) < fewest:
        raise TaskError(
            f"{argument} holds {len(tasks)} tasks, but learning over tasks needs at least {fewest}; bring more tasks."
        )
    return tasks.canonical()


def _adapted(template: PriorEstimator, rows: tuple[Sequence[np.ndarray], Sequence[np.ndarray]]) -> list[PriorEstimator]:
    return adapt_tasks(template, *rows)
