"""MetaDecisionTree: decision trees that know their settings, or their splits and leaves, from other tasks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, final

from upstairs.errors import TaskError
from upstairs.learners.by_experience import LearnsByExperience
from upstairs.learners.learn import Plan, shot_range
from upstairs.learners.prior_tree import PriorTreeClassifier, PriorTreeRegressor
from upstairs.learners.rules import TREE
from upstairs.learners.tree_estimator import FAMILY
from upstairs.learners.tree_experience import learned_beside, tree_prior
from upstairs.learners.tree_settings import DECISION_POWER, GRID
from upstairs.outer.trials import Settings, Trials
from upstairs.prior import Prior
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.task import Kind
from upstairs.tasks.taskset import TaskSet

__all__ = ["MetaDecisionTree"]

MEASURE: dict[Kind, str] = {"classification": "neg_log_loss", "regression": "r2"}


@final
class MetaDecisionTree(LearnsByExperience):
    """Learn over tasks what a decision tree should know before it sees a new one: one tree that can be read, no grid search.

    Learned over tasks with different columns: how depth, leaf size, pruning, criterion and smoothing follow from the data, the
    decision rule of a classifier, and how far a regression is off. Learned over tasks with the same columns: a tree, and
    what to expect in its leaves. On one task: one tree.

    Parameters
    ----------
    kind : {"auto", "combine"}
        "auto": trees that predict. "combine": a tree that says which of several classifiers to trust for a row, for tasks
        with the same columns or not; the estimator is a `upstairs.learners.combine.CombinedClassifier`, and only
        ``estimators``, ``n_jobs`` and ``random_state`` are used.
    columns : {"auto", "same", "different"}
        What tasks have in common. "auto": seen from the tasks; "different" for labels of a task's own.
    structure : {"auto", "shared", "own"}
        Same columns: one tree for all tasks with leaves of their own, or a tree of each task's own. "auto": what unseen
        tasks say.
    leaves : int, optional
        Same columns: most leaves of the shared tree.
    prior_mean : {"auto", "none", "linear", "boosting"}
        Same columns: what trees are grown around.
    shots : int or (int, int), optional
        Same columns: support rows that the prior is for (rows a class for labels of a task's own).
    categorical : sequence of column names or positions
        Same columns: number columns that are identifiers.
    settings : sequence of mappings, optional
        Different columns: settings of `PriorTreeClassifier` or `PriorTreeRegressor` to make experience with. None: more than
        a hundred.
    measure : str, optional
        Different columns: what settings are judged by: "neg_log_loss", "accuracy", "balanced_accuracy" or "roc_auc"; "r2" or
        "neg_mean_absolute_error". None: "neg_log_loss" or "r2". Labels are the most probable ones, but for
        "balanced_accuracy", for which a decision rule is learned (see ``decision_power`` of `PriorTreeClassifier`).
    cv : int or float
        Different columns: folds, or the share of rows that is held out, by which a setting is scored.
    max_rows : int, optional
        Different columns: larger tasks are thinned out for the table.
    max_seconds : float, optional
        Different columns: time that a setting may take on a task; one that takes longer counts as failed.
    checkpoint : path-like, optional
        Different columns: a file that every trial is written to; a killed run goes on there.
    estimators : list, optional
        "combine": classifiers, or names of some (see `upstairs.learners.combine.CombinedClassifier`).
    trials : int
        Passed on to the estimators: recommended settings that are compared by cross-validation; 1: none.
    guard : bool
        Passed on to the estimators.
    n_jobs : int, optional
        Processes for trials; -1 for all cores. None: as `joblib.parallel_config` says, or 1.
    random_state : int
        Draws folds, rows and episodes.

    Examples
    --------
    >>> import numpy as np, upstairs as up
    >>> def task(n):
    ...     X = np.random.default_rng(n).uniform(-1.0, 1.0, size=(40, 2 + n % 3))
    ...     return up.Task(X, np.where(X[:, 0] > 0.2, "high", "low"), name=f"t{n}")
    >>> meta = MetaDecisionTree(settings=[{"max_depth": 1, "smoothing": 1.0}]).meta_fit([task(n) for n in range(6)])
    >>> new = task(9)
    >>> model = meta.adapt(new.X[:30], new.y[:30])
    >>> model.depth_, bool(model.score(new.X[30:], new.y[30:]) > 0.8)
    (1, True)
    """

    _family = FAMILY
    _both_kinds = (PriorTreeClassifier, PriorTreeRegressor)

    def __init__(
        self,
        *,
        kind: Literal["auto", "combine"] = "auto",
        columns: Literal["auto", "same", "different"] = "auto",
        structure: Literal["auto", "shared", "own"] = "auto",
        leaves: int | None = None,
        prior_mean: Literal["auto", "none", "linear", "boosting"] = "auto",
        shots: int | tuple[int, int] | None = None,
        categorical: Sequence[str | int] = (),
        settings: Sequence[Settings] | None = None,
        measure: str | None = None,
        cv: int | float = 0.4,
        max_rows: int | None = 1000,
        max_seconds: float | None = 20.0,
        checkpoint: str | os.PathLike[str] | None = None,
        estimators: Any = None,
        trials: int = 1,
        guard: bool = False,
        n_jobs: int | None = 1,
        random_state: int = 0,
    ) -> None:
        self.kind = kind
        self.columns = columns
        self.structure = structure
        self.leaves = leaves
        self.prior_mean = prior_mean
        self.shots = shots
        self.categorical = categorical
        self.settings = settings
        self.measure = measure
        self.cv = cv
        self.max_rows = max_rows
        self.max_seconds = max_seconds
        self.checkpoint = checkpoint
        self.estimators = estimators
        self.trials = trials
        self.guard = guard
        self.n_jobs = n_jobs
        self.random_state = random_state

    # --- inner workings -----------------------------------------------------------------------------------------
    def _learn(self, tasks: TaskSet | ClassPool, validation: TaskSet | ClassPool | None) -> Prior:
        if self.kind != "combine":
            return super()._learn(tasks, validation)
        from upstairs.learners.learn_combination import learn_combination

        self._check_arguments()
        if validation is not None or not isinstance(tasks, TaskSet):
            raise TaskError(
                "kind='combine' learns from a TaskSet, and makes no choice on validation tasks; pass tasks alone."
            )
        return learn_combination(tasks, self.estimators, seed=int(self.random_state or 0), n_jobs=self.n_jobs)

    def _learn_on(self, tasks: TaskSet | ClassPool) -> Prior:
        if self.kind != "combine" or not isinstance(tasks, TaskSet):
            return super()._learn_on(tasks)
        from upstairs.learners.learn_combination import learn_combination_on

        return learn_combination_on(self._prior(), tasks, self.estimators, n_jobs=self.n_jobs)

    def _new_learner(self, prior: Prior | None, settings: dict[str, Any]) -> Any:
        if self.kind != "combine":
            return super()._new_learner(prior, settings)
        from upstairs.learners.combine import CombinedClassifier

        given = {name: value for name, value in settings.items() if name != "kind"}
        return CombinedClassifier(self.estimators, prior, **{"random_state": self.random_state, **given})

    def _same(self, tasks: TaskSet | ClassPool) -> bool:
        """Labels of a task's own say nothing about leaves: such tasks share settings, whatever their columns."""
        own = isinstance(tasks, TaskSet) and tasks.labels == "own"
        return not (own and self.columns == "auto") and super()._same(tasks)

    def _learn_same(self, tasks: TaskSet | ClassPool, validation: TaskSet | ClassPool | None) -> Prior:
        from upstairs.learners.learn_tree import learn_trees

        how: dict[str, Any] = {"structure": self.structure, "leaves": self.leaves}
        prior, self.seen_ = learn_trees(tasks, validation, self._plan(), **how)
        return prior

    def _learn_same_on(self, tasks: TaskSet | ClassPool) -> Prior:
        from upstairs.learners.learn_tree import learn_trees_on

        prior, self.seen_ = learn_trees_on(self._prior(), self._kept(), tasks)
        return prior

    def _prior_of(self, tuned: Prior, tasks: TaskSet | None, earlier: Prior | None) -> Prior:
        measure, kind = tuned.settings["experience"]["measure"], tuned.settings["kind"]
        if earlier is not None:
            return tree_prior(tuned, {name: earlier.settings[name] for name in ("fixed", "spread")})
        if tasks is None:
            return tree_prior(tuned, {"fixed": _usual(kind, measure), "spread": None})
        trials = Trials(self._base(kind), self.cv, self.random_state, self.max_rows)
        return tree_prior(tuned, learned_beside(tuned, tasks, trials, measure))

    def _base(self, kind: Kind) -> Any:
        if kind == "regression":
            return PriorTreeRegressor(encode=False)
        return PriorTreeClassifier(encode=False, **_usual(kind, self.measure or MEASURE[kind]))

    def _grid(self, kind: Kind) -> Sequence[Settings]:
        return GRID[kind]

    def _default_measure(self, kind: Kind) -> str:
        return MEASURE[kind]

    def _plan(self) -> Plan:
        return Plan(
            TREE,
            {},
            None,
            None,
            self.prior_mean,
            shot_range(self.shots),
            None,
            tuple(self.categorical),
            int(self.random_state or 0),
        )

    def _check_arguments(self) -> None:
        self._check_columns()
        if self.kind not in ("auto", "combine"):
            raise ValueError(f"kind must be 'auto' or 'combine', but is {self.kind!r}.")
        if self.structure not in ("auto", "shared", "own"):
            raise ValueError(f"structure must be 'auto', 'shared' or 'own', but is {self.structure!r}.")
        if self.leaves is not None and (not isinstance(self.leaves, int) or self.leaves < 2):
            raise ValueError(f"leaves must be a whole number of at least 2 or None, but is {self.leaves!r}.")
        if self.prior_mean not in ("auto", "none", "linear", "boosting"):
            raise ValueError(f"prior_mean must be 'auto', 'none', 'linear' or 'boosting', but is {self.prior_mean!r}.")


def _usual(kind: Kind, measure: str) -> dict[str, Any]:
    """How labels are decided where no rows were looked at: for balanced accuracy if that was asked for."""
    if kind == "regression":
        return {}
    return {"decision_power": DECISION_POWER if measure == "balanced_accuracy" else 0.0}
