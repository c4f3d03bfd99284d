"""What meta-learners share that learn a rule from tasks with the same columns, and settings from tasks with different ones."""

from __future__ import annotations

import abc
import os
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

from upstairs.errors import PriorMismatchError, TaskError
from upstairs.learners.meta import MetaLearner
from upstairs.learners.tuner import MetaTuner
from upstairs.learners.tuner_prior import FAMILY as TUNER
from upstairs.outer.experience import Experience
from upstairs.outer.trials import SCORES, Settings
from upstairs.prior import Prior
from upstairs.tasks.batches import concatenate_columns
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.task import Kind
from upstairs.tasks.taskset import TaskSet

__all__ = ["LANDMARK_ROWS", "LearnsByExperience", "is_experience", "serves_any_columns"]

LANDMARK_ROWS = 128
"""Rows that very simple models are tried on to describe a data set: few, so that this takes no longer than the fit."""
AnyLearner = TypeVar("AnyLearner", bound="LearnsByExperience")


class LearnsByExperience(MetaLearner, abc.ABC):
    """Same columns: what the family learns of them. Different columns: a table of trials, as `MetaTuner` makes it.

    A family says with `_base`, `_grid` and `_default_measure` what is tried, with `_prior_of` what it makes of a tuner's
    prior, and with `_learn_same` and `_learn_same_on` what it learns from tasks with the same columns.
    """

    _both_kinds: ClassVar[tuple[Any, Any]]
    """Its estimators of classes and of numbers."""

    columns: str
    settings: Sequence[Settings] | None
    measure: str | None
    cv: int | float
    max_rows: int | None
    max_seconds: float | None
    checkpoint: str | os.PathLike[str] | None
    trials: int
    guard: bool
    n_jobs: int | None
    random_state: int

    # --- what a family says -------------------------------------------------------------------------------------
    @abc.abstractmethod
    def _check_arguments(self) -> None:
        """Refuse arguments that are out of range."""

    @abc.abstractmethod
    def _base(self, kind: Kind) -> Any:
        """Return the estimator that settings are tried on."""

    @abc.abstractmethod
    def _grid(self, kind: Kind) -> Sequence[Settings]:
        """Settings to try where a user gave none."""

    @abc.abstractmethod
    def _default_measure(self, kind: Kind) -> str:
        """Measure that settings are judged by where a user named none."""

    @abc.abstractmethod
    def _prior_of(self, tuned: Prior, tasks: TaskSet | None, earlier: Prior | None) -> Prior:
        """Make a prior from a tuner's; from ``tasks`` or an ``earlier`` prior where there are some."""

    @abc.abstractmethod
    def _learn_same(self, tasks: TaskSet | ClassPool, validation: TaskSet | ClassPool | None) -> Prior:
        """Learn from tasks with the same columns."""

    @abc.abstractmethod
    def _learn_same_on(self, tasks: TaskSet | ClassPool) -> Prior:
        """Go on learning from tasks with the same columns."""

    # --- the contract -------------------------------------------------------------------------------------------
    @property
    def _needs_rows(self) -> bool:
        """Whether ``meta_partial_fit`` needs the rows of earlier tasks: not where the prior knows no columns."""
        return not serves_any_columns(getattr(self, "prior_", None))

    def meta_fit(self: AnyLearner, tasks: Any, *, validation: Any = None) -> AnyLearner:
        """Learn a prior over tasks, or from a table of trials.

        Parameters
        ----------
        tasks : TaskSet, ClassPool, sequence of Task, or Experience
            At least 3 tasks; or a table whose settings are those of the estimators.
        validation : TaskSet or ClassPool, optional
            Same columns: tasks on which choices are made. None: folds over the training tasks.

        Raises
        ------
        TaskError
            For too few tasks, mixed kinds, or a task that stands in both sets.
        PriorMismatchError
            If the columns of the tasks differ and the same are asked for.
        """
        if not isinstance(tasks, Experience):
            return super().meta_fit(tasks, validation=validation)
        self._check_arguments()
        kind: Kind = "regression" if tasks.measure in SCORES["regression"] else "classification"
        tuner = self._tuner(kind).set_params(measure=self.measure or tasks.measure)
        self.prior_ = self._prior_of(tuner.meta_fit(tasks).prior_, None, None)
        return self

    def meta_partial_fit(self: AnyLearner, tasks: Any) -> AnyLearner:
        """Go on learning from more tasks, or put another table of trials to the experience so far."""
        if not (hasattr(self, "prior_") and isinstance(tasks, Experience)):
            return super().meta_partial_fit(tasks)
        tuned = self._tuner_of(self.prior_).meta_partial_fit(tasks).prior_
        self.prior_ = self._prior_of(tuned, None, self.prior_)
        return self

    @property
    def experience_(self) -> Experience:
        """The table of trials (different columns): scores of every setting on every task."""
        return self._tuner_of(self._prior()).experience_

    def adapt_many(self, tasks: Any, *, n_jobs: int | None = None) -> list[Any]:
        """Adapt many tasks, with the results of `adapt` one by one; without columns in common, without warnings.

        Parameters
        ----------
        tasks : TaskSet, sequence of Task, or sequence of (X, y)
        n_jobs : int, optional
            None: as `joblib.parallel_config` says, or 1.
        """
        if serves_any_columns(self._prior()):
            return MetaTuner.adapt_many(self, tasks, n_jobs=n_jobs)
        return super().adapt_many(tasks, n_jobs=n_jobs)

    def adapt_zero(self, like: Any = None) -> Any:
        """Return an estimator that has seen no row of its task (same columns).

        Raises
        ------
        PriorMismatchError
            If the prior knows no columns, or labels are a task's own.
        """
        if serves_any_columns(self._prior()):
            raise PriorMismatchError(
                "adapt_zero needs a prior on columns, but this one was learned for tasks with different columns; pass rows to adapt."
            )
        return super().adapt_zero(like)

    # --- inner workings -----------------------------------------------------------------------------------------
    def _learn(self, tasks: TaskSet | ClassPool, validation: TaskSet | ClassPool | None) -> Prior:
        self._check_arguments()
        if self._same(tasks):
            return self._learn_same(tasks, validation)
        if validation is not None:
            raise TaskError(
                "validation is not used for tasks with different columns: groups of tasks are left out in turn; give all tasks "
                "as tasks."
            )
        if not isinstance(tasks, TaskSet):
            raise TaskError(
                "columns='different' learns settings from data sets, but these tasks are a ClassPool; draw tasks from it with "
                "pool.episodes(...)."
            )
        return self._prior_of(self._tuner(tasks.kind).meta_fit(tasks).prior_, tasks, None)  # type: ignore[arg-type]

    def _learn_on(self, tasks: TaskSet | ClassPool) -> Prior:
        prior = self._prior()
        if not is_experience(prior):
            return self._learn_same_on(tasks)
        if not isinstance(tasks, TaskSet) or tasks.kind != prior.settings["kind"]:
            raise TaskError(f"tasks must be {prior.settings['kind']} tasks, as those of the experience are.")
        return self._prior_of(self._tuner_of(prior).meta_partial_fit(tasks).prior_, None, prior)

    def _new_learner(self, prior: Prior | None, settings: dict[str, Any]) -> Any:
        settings = {"guard": self.guard, "trials": self.trials} | settings
        kind = settings.pop("kind", None) or (prior.settings["kind"] if prior is not None else None)
        classifier, regressor = self._both_kinds
        return (regressor if kind == "regression" else classifier)(prior, **settings)

    def _tuner(self, kind: Kind) -> MetaTuner:
        return MetaTuner(
            self._base(kind),
            self._grid(kind) if self.settings is None else self.settings,
            measure=self.measure or self._default_measure(kind),
            cv=self.cv,
            max_rows=self.max_rows,
            max_seconds=self.max_seconds,
            landmarkers=LANDMARK_ROWS,
            checkpoint=self.checkpoint,
            n_jobs=self.n_jobs,
            random_state=self.random_state,
        )

    def _tuner_of(self, prior: Prior) -> MetaTuner:
        """Return a tuner that has the experience of a prior."""
        if not is_experience(prior):
            raise PriorMismatchError(
                "This prior was learned on tasks with the same columns; it holds no table of trials."
            )
        tuner = self._tuner(prior.settings["kind"]).set_params(measure=prior.settings["experience"]["measure"])
        tuner.prior_ = Prior(TUNER, prior.settings, dict(prior.arrays), prior.provenance)
        return tuner

    def _same(self, tasks: TaskSet | ClassPool) -> bool:
        if self.columns != "auto" or isinstance(tasks, ClassPool):
            return self.columns != "different"
        try:
            concatenate_columns(list(tasks))
        except PriorMismatchError:
            return False
        return True

    def _check_columns(self) -> None:
        if self.columns not in ("auto", "same", "different"):
            raise ValueError(f"columns must be 'auto', 'same' or 'different', but is {self.columns!r}.")


def is_experience(prior: Prior | None) -> bool:
    """Whether settings are all that a prior holds."""
    return prior is not None and "experience" in prior.settings


def serves_any_columns(prior: Prior | None) -> bool:
    """Whether what was learned is not about columns."""
    return prior is not None and "encoder" not in prior.settings
