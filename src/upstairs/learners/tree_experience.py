"""Priors of decision trees for tasks with different columns: experience with settings, as MetaTuner makes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from upstairs.inner.smoothed_tree import SmoothedTree
from upstairs.learners.recommended_splits import recommended_splits
from upstairs.learners.tree_arguments import as_numbers
from upstairs.learners.tree_estimator import FAMILY
from upstairs.outer.tree_decisions import Split, learn_power, learn_spread
from upstairs.outer.trials import Trials
from upstairs.plain import json_value
from upstairs.prior import Prior
from upstairs.tasks.taskset import TaskSet

__all__ = ["learned_beside", "tree_prior"]


def tree_prior(tuned: Prior, beside: Mapping[str, Any], family: str = FAMILY) -> Prior:
    """Make a prior of `PriorTreeClassifier` or `PriorTreeRegressor` from that of a tuner.

    Parameters
    ----------
    tuned : Prior
        Of a `MetaTuner` for these estimators.
    beside : mapping
        What `learned_beside` found.
    family : str
        That of trees; or that of tuners, for what ships and serves both.
    """
    return Prior(family, json_value({**tuned.settings, **beside}), dict(tuned.arrays), tuned.provenance)


def learned_beside(tuned: Prior, tasks: TaskSet, trials: Trials, measure: str) -> dict[str, Any]:
    """Learn what stands beside the settings, from one fit a task with those that the other groups' tasks recommend.

    Returns
    -------
    dict
        ``fixed``, arguments of the estimator that go with all settings: of a classification the ``decision_power``, learned if
        balanced accuracy is the measure, else 0. ``spread``: of a regression, what variances are multiplied by.
    """
    if tasks.kind == "regression":
        return {"fixed": {}, "spread": learn_spread(_splits(tuned, tasks, trials))}
    power = learn_power(_splits(tuned, tasks, trials)) if measure == "balanced_accuracy" else 0.0
    return {"fixed": {"decision_power": power}, "spread": None}


def _splits(tuned: Prior, tasks: TaskSet, trials: Trials) -> Iterator[Split]:
    kind = tasks.kind
    assert kind is not None
    return recommended_splits(
        tuned, tasks, trials, SmoothedTree(kind), lambda said, labels: as_numbers(said, labels, kind)
    )
