"""Cross-validation over tasks: learn on some, measure on the others, join the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.base import clone

from upstairs.errors import TaskError
from upstairs.evaluate.result import EvaluationResult
from upstairs.evaluate.run import evaluate
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.splits import folds as draw_folds
from upstairs.tasks.taskset import TaskSet

__all__ = ["meta_cross_validate"]


def meta_cross_validate(
    meta: Any,
    tasks: Any,
    *,
    folds: int = 5,
    shots: Any = (1, 5, 10),
    random_state: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> EvaluationResult:
    """Measure meta-learners on every task, each time learned from the tasks of the other folds.

    Whole groups of tasks (or of classes of a pool) are left out. Every fold learns anew from an unfitted copy.

    Parameters
    ----------
    meta : meta-learner, or mapping of name to learner
        What `evaluate` takes; a prior that is there already is not used.
    tasks : TaskSet or ClassPool
    folds : int
        From 2 to the number of groups.
    shots
        As in `evaluate`.
    random_state : int
        Divides the tasks and draws the rows.
    progress : callable, optional
        Called with the number of folds done and to do.
    **settings
        Handed on to `evaluate`: ``ways``, ``queries``, ``draws``, ``baselines``, ``metric``, ``n_jobs``, ``order``.

    Returns
    -------
    EvaluationResult
        Of all folds, with the fold in the column ``split``.

    Raises
    ------
    TaskError
        If there are fewer groups than folds, or an argument breaks a rule of `evaluate`.
    """
    learners = dict(meta) if isinstance(meta, Mapping) else {type(meta).__name__: meta}
    if "train" in settings or "test" in settings:
        raise TaskError("meta_cross_validate makes train and test itself; pass all tasks as tasks.")
    if isinstance(tasks, TaskSet):
        tasks = tasks.canonical()
        groups = tasks.groups
    elif isinstance(tasks, ClassPool):
        groups = tuple(tasks.groups.tolist())
    else:
        raise TaskError(
            f"tasks must be a TaskSet or a ClassPool, but is a {type(tasks).__name__}; wrap tasks as TaskSet([...])."
        )
    parts = draw_folds(groups, folds, random_state)
    results = []
    for number, (fit, left) in enumerate(parts):
        train, test = (_part(tasks, rows) for rows in (fit, left))
        fresh = {name: clone(learner, safe=False) for name, learner in learners.items()}
        results.append(evaluate(fresh, test, train=train, shots=shots, random_state=random_state, **settings))
        if progress is not None:
            progress(number + 1, len(parts))
    return EvaluationResult.concatenate(results)


def _part(tasks: TaskSet | ClassPool, rows: np.ndarray) -> Any:
    if isinstance(tasks, TaskSet):
        return tasks[rows]
    if len(rows) < 2:
        raise TaskError(f"A fold holds {len(rows)} class, and an episode needs 2; ask for fewer folds.")
    return tasks.select(rows)
