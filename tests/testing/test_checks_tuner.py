"""The conformance checks on MetaTuner: tasks with different columns, where one strength serves all but those at odds."""

from __future__ import annotations

import os

import numpy as np
import pytest

import upstairs as up
from upstairs.tasks import Task, TaskSet
from upstairs.testing import MetaCase, parametrize_with_meta_checks

LONG = bool(os.environ.get("UPSTAIRS_LONG"))
"""Whether classes are gone through as well as numbers: more than a minute."""
STRENGTHS = [{"alpha": alpha} for alpha in (0.001, 3.0, 30.0, 100.0)]


def regression(number: int, seed: int, signal: float, rows: int, columns: int) -> Task:
    """Rows whose target depends on all columns a little; with much signal on columns that are skewed as well."""
    rng = np.random.default_rng([seed, number])
    X = rng.normal(size=(rows, columns))
    y = signal * X @ rng.normal(size=columns) / np.sqrt(columns) + rng.normal(size=rows)
    return Task(X if signal < 1 else np.exp(X), y, name=f"r{seed}-{number}", kind="regression")


def classification(number: int, seed: int, signal: float, rows: int, columns: int) -> Task:
    """The same with three classes of the task's own."""
    task = regression(number, seed, signal, rows, columns)
    place = np.searchsorted(np.quantile(task.y, [1 / 3, 2 / 3]), task.y)
    return Task(task.X, np.array([f"{number}{name}" for name in "abc"])[place], task.name, "classification")


def sample(make, seed, count, signal, *, vary=False):
    """Tasks of 60 rows and 8 columns, or of 6 to 41 rows and 7 to 9 columns."""
    sizes = [(6 + 5 * (n % 8), 7 + n % 3) if vary else (60, 8) for n in range(count)]
    made = [make(number, seed, signal, *size) for number, size in enumerate(sizes)]
    return TaskSet(made, labels="own" if made[0].kind == "classification" else None)


CASES = [
    MetaCase(
        up.MetaTuner("ridge", STRENGTHS, random_state=0),
        sample(regression, 0, 24, 0.5, vary=True),
        sample(regression, 1, 30, 0.5),
        sample(regression, 2, 200, 30.0),
        shots=20,
        columns="any",
        setting=("settings", {"alpha": 1e4}),
        bad_setting=("trials", 0),
        name="regression",
    ),
    MetaCase(
        up.MetaTuner("logistic-regression", [{"C": C} for C in (0.003, 0.03, 0.3)], random_state=0),
        sample(classification, 0, 24, 0.7, vary=True),
        sample(classification, 1, 30, 0.7),
        sample(classification, 2, 200, 5.0) if LONG else None,
        shots=7,
        columns="any",
        setting=("settings", {"C": 1e-4}),
        bad_setting=("trials", 0),
        tolerance=1e-5,
        name="own",
    ),
]


@parametrize_with_meta_checks(CASES if LONG else CASES[:1])
def test_meta_tuner(meta_learner, check):
    check(meta_learner)


def test_any_columns_are_served():
    fitted = CASES[0].fitted(CASES[0].meta)
    for columns in (1, 40):
        task = regression(0, 5, 0.5, 30, columns)
        (model,) = fitted.adapt_many([task])
        assert np.isfinite(model.predict(task.X)).all()


def test_class_pools_are_refused():
    pool = up.ClassPool(np.zeros((6, 2)), np.array(["a", "a", "b", "b", "c", "c"]))
    with pytest.raises(up.TaskError, match="MetaTuner learns from data sets"):
        up.MetaTuner("logistic-regression").meta_fit(pool)
