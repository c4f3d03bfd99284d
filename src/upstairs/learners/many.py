"""One estimator fitted to many tasks, one by one, in as many processes as there are to be."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Sequence
from typing import Any

from upstairs.errors import FamiliarityWarning
from upstairs.outer.fits import run_fits

__all__ = ["fit_to_many"]

AT_ONCE = 50
"""Tasks that go to a process together, so that a prior travels once for all of them."""


def fit_to_many(learner: Any, rows: Sequence[tuple[Any, Any]], n_jobs: int | None) -> list[Any]:
    """Fit copies of an estimator that has a prior; ``familiarity_`` says what no warning does.

    Parameters
    ----------
    learner : estimator
    rows : sequence of (X, y)
        One entry a task.
    n_jobs : int or None
    """
    parts = [rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)]

    def name(number: int) -> str:
        return f"tasks {number * AT_ONCE} to {number * AT_ONCE + len(parts[number]) - 1}"

    found = dict(run_fits(functools.partial(_fitted, learner), parts, names=name, n_jobs=n_jobs))
    models = [model for number in range(len(parts)) for model in found[number]]
    for model in models:
        model.prior = learner.prior  # models from other processes came with copies of it
    return models


def _fitted(learner: Any, rows: Sequence[tuple[Any, Any]]) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FamiliarityWarning)
        # nothing is fitted yet, so that a copy is a clone, in a tenth of the time
        return [copy.deepcopy(learner).fit(X, y) for X, y in rows]
