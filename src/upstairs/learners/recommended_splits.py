"""One fit a task with the settings that the other groups' tasks recommend: what is learned beside a table of trials comes from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from upstairs.inner.rule import Params, PlainRule
from upstairs.learners.tuner_prior import recommender_of
from upstairs.outer.recommend import group_folds
from upstairs.outer.trials import Trials
from upstairs.prior import Prior
from upstairs.tasks.taskset import TaskSet

__all__ = ["recommended_splits"]


def recommended_splits(
    tuned: Prior,
    tasks: TaskSet,
    trials: Trials,
    rule: PlainRule,
    numbers: Callable[[Mapping[str, Any], list[Any]], Mapping[str, float]],
) -> Iterator[tuple[Params, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield params, rows to fit and rows to judge by, a part of each task that the table knows.

    Parameters
    ----------
    tuned : Prior
        Of a tuner.
    tasks : TaskSet
    trials : Trials
        By which the table was made.
    rule : PlainRule
    numbers : callable
        From settings and class numbers to what the rule takes.
    """
    known = recommender_of(tuned)
    table = known.experience
    fold = group_folds(table.groups)
    loaded = {task.name: task for task in tasks}
    for out in np.unique(fold):
        others = table.take(fold != out)
        asked = type(known).learn(others if len(others) else table, known.form)
        for row in np.flatnonzero(fold == out):
            settings = table.settings[asked.order(table.features[row], 1)[0]]
            for part in trials.folds(loaded[table.names[int(row)]])[:1]:
                y, target, ways = part.y, part.y_held_out, 0
                seen = np.ones(len(target), dtype=bool)
                if part.classes is not None:
                    labels, y = np.unique(part.y, return_inverse=True)
                    seen, ways = np.isin(target, labels), len(labels)
                    target = np.searchsorted(labels, target[seen])
                params = rule.own_params(part.x, y, ways)
                params = rule.override(params, numbers(settings, list(range(ways))))
                yield params, part.x, y, part.x_held_out[seen], target
