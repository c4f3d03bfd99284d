"""Priors of support vector machines for tasks with different columns: experience with settings, as MetaTuner makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from upstairs.inner.support_vectors import SupportVectors
from upstairs.learners.recommended_splits import recommended_splits
from upstairs.learners.svm_arguments import as_numbers
from upstairs.learners.svm_estimator import FAMILY
from upstairs.outer.svm_slope import learn_slope
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
    return learn_slope(
        recommended_splits(tuned, tasks, trials, SupportVectors(), lambda said, labels: as_numbers(said, labels, 1.0))
    )
