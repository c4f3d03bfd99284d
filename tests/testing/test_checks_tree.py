"""The conformance checks on MetaDecisionTree: a tree that tasks share, and experience with settings for different columns."""

from __future__ import annotations

import dataclasses
import os

import numpy as np

import upstairs as up
from upstairs.tasks import Task, TaskSet
from upstairs.testing import MetaCase, cases_for, parametrize_with_meta_checks

LONG = bool(os.environ.get("UPSTAIRS_LONG"))
"""Whether classes that tasks share, and unrelated tasks of every kind, are gone through as well: a minute more."""
SETTINGS = [{"max_depth": depth, "smoothing": smoothing} for depth, smoothing in ((1, 1.0), (1, 20.0), (6, 1.0))]


def stepped(number: int, seed: int, rows: int, columns: int, noise: float) -> Task:
    """Two classes of the task's own, on either side of a step behind noise; without much noise steps in two columns, skewed."""
    rng = np.random.default_rng([seed, number])
    X = rng.uniform(-1.0, 1.0, size=(rows, columns))
    y = (X[:, 0] > 0) + noise * rng.normal(size=rows)
    if noise < 0.1:
        y = y + 2.0 * (X[:, -1] > 0.3)
    label = np.array([f"{number}{name}" for name in "ab"])[(y > np.median(y)).astype(int)]
    return Task(X if noise > 0.1 else np.exp(8.0 * X), label, name=f"s{seed}-{number}")


def sample(seed: int, count: int, noise: float, *, vary: bool = False, columns: int = 2) -> TaskSet:
    """Tasks of 60 rows and so many columns, or of 5 to 40 rows and 1 to 3 columns."""
    sizes = [(5 + 5 * (n % 8), 1 + n % 3) if vary else (60, columns) for n in range(count)]
    return TaskSet([stepped(number, seed, *size, noise) for number, size in enumerate(sizes)], labels="own")


BLIND = {
    "check_familiarity": "the log-odds of four leaves differ so much between tasks that 15 labels of any task look likely"
}
SHARED = up.MetaDecisionTree(prior_mean="none", leaves=4, structure="shared")
ASKED = {"tolerance": 1e-6, "setting": ("max_depth", 1), "bad_setting": ("max_depth", 0)}
REGRESSION = cases_for(SHARED, ["regression"], **ASKED)
CASES = [
    *(REGRESSION if LONG else [dataclasses.replace(case, unrelated=None) for case in REGRESSION]),
    *(cases_for(SHARED, ["shared"], **ASKED, expected_failures=BLIND) if LONG else ()),
    MetaCase(
        up.MetaDecisionTree(settings=SETTINGS, max_seconds=None),
        sample(0, 16, 0.5, vary=True),
        sample(1, 30, 0.5),
        sample(2, 200, 0.02, columns=150) if LONG else None,
        shots=15,
        columns="any",
        setting=("smoothing", 1000.0),
        bad_setting=("trials", 0),
        name="different columns",
    ),
]


@parametrize_with_meta_checks(CASES)
def test_meta_decision_tree(meta_learner, check):
    check(meta_learner)


def test_experience_serves_any_columns():
    fitted = CASES[-1].fitted(CASES[-1].meta)
    for columns in (1, 40):
        task = stepped(0, 5, 30, columns, 0.5)
        (model,) = fitted.adapt_many([task])
        assert np.isfinite(model.predict_proba(task.X)).all()
