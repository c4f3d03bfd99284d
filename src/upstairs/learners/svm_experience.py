"""Priors of support vector machines for tasks with different columns: experience with settings, as MetaTuner makes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from upstairs.inner.support_vectors import SupportVectors
from upstairs.learners.svm_arguments import as_numbers
from upstairs.learners.svm_estimator import FAMILY
from upstairs.learners.tuner_prior import recommender_of
from upstairs.outer.recommend import group_folds
from upstairs.outer.svm_slope import Split, learn_slope
from upstairs.outer.trials import Trials
from upstairs.plain import json_value
from upstairs.prior import Prior
from upstairs.tasks.taskset import TaskSet

__all__ = ["learned_slope", "svm_prior"]


def svm_prior(tuned: Prior, slope: Sequence[float] | None, provenance: Mapping[str, Any] | None = None) -> Prior:
    """Make a prior of `PriorSVC` or `PriorSVR` from that of a tuner.

    Parameters
    ----------
    tuned : Prior
        Of a `MetaTuner` for these estimators.
    slope : pair of float, optional
        Mean and deviation of the log slope of probabilities (see `upstairs.inner.left_out.slope_of`).
    provenance : mapping, optional
        Put beside the tuner's own.
    """
    settings = {**tuned.settings, "slope": slope}
    return Prior(FAMILY, json_value(settings), dict(tuned.arrays), {**tuned.provenance, **(provenance or {})})


def learned_slope(tuned: Prior, tasks: TaskSet, trials: Trials) -> tuple[float, float]:
    """Learn how sure decisions are from one fit a task, with the settings that the other groups' tasks recommend."""
    return learn_slope(_splits(tuned, tasks, trials))


def _splits(tuned: Prior, tasks: TaskSet, trials: Trials) -> Iterator[Split]:
    known = recommender_of(tuned)
    table = known.experience
    fold = group_folds(table.groups)
    rule = SupportVectors()
    loaded = {task.name: task for task in tasks}
    for out in np.unique(fold):
        others = table.take(fold != out)
        asked = type(known).learn(others if len(others) else table, known.form)
        for row in np.flatnonzero(fold == out):
            settings = table.settings[asked.order(table.features[row], 1)[0]]
            for part in trials.folds(loaded[table.names[int(row)]])[:1]:
                labels, y = np.unique(part.y, return_inverse=True)
                seen = np.isin(part.y_held_out, labels)
                params = rule.own_params(part.x, y, len(labels))
                params = rule.override(params, as_numbers(settings, labels.tolist(), 1.0))
                yield params, part.x, y, part.x_held_out[seen], np.searchsorted(labels, part.y_held_out[seen])
