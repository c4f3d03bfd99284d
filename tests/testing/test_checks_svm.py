"""The conformance checks on MetaSVM: tasks with the same columns, and experience with settings for different ones."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

import upstairs as up
from upstairs.tasks import Task, TaskSet
from upstairs.testing import MetaCase, cases_for, parametrize_with_meta_checks

LONG = bool(os.environ.get("UPSTAIRS_LONG"))
"""Whether labels of a task's own, and unrelated tasks of every kind, are gone through as well: a minute more."""
META = up.MetaSVM(prior_mean="linear", kernel="linear", training=up.Training(steps=40, validate_every=20))
CLOSE = {
    "check_does_no_harm": "of 15 rows, guard keeps the prior where it looks better by chance, and leaves 1.06 of the loss without"
}
SETTINGS = [{"C": cost, "width": width} for cost in (1.0, 30.0) for width in (0.3, 3.0)]


def wavy(number: int, seed: int, rows: int, columns: int, waves: float) -> Task:
    """Two classes of the task's own, on either side of a function that goes up and down so often; slow waves on skewed columns."""
    rng = np.random.default_rng([seed, number])
    X = rng.uniform(-1.0, 1.0, size=(rows, columns))
    y = np.sin(waves * X[:, 0] + rng.uniform(0, 6)) + 0.1 * rng.normal(size=rows)
    label = np.array([f"{number}{name}" for name in "ab"])[(y > np.median(y)).astype(int)]
    return Task(X if waves > 2.0 else np.exp(3.0 * X), label, name=f"s{seed}-{number}")


def sample(seed: int, count: int, waves: float, *, vary: bool = False) -> TaskSet:
    """Tasks of 60 rows and 2 columns, or of 5 to 40 rows and 1 to 3 columns."""
    sizes = [(5 + 5 * (n % 8), 1 + n % 3) if vary else (60, 2) for n in range(count)]
    return TaskSet([wavy(number, seed, *size, waves) for number, size in enumerate(sizes)], labels="own")


REGRESSION = cases_for(META, ["regression"], tolerance=1e-6, setting=("C", 0.01), bad_setting=("C", -1.0))
SHARED = cases_for(META, ["shared"], tolerance=1e-6, setting=("C", 0.01), bad_setting=("C", 0.0))
OWN = cases_for(META, ["own"], tolerance=1e-6, setting=("C", 1e-4), bad_setting=("trials", 0), expected_failures=CLOSE)
CASES = [
    *(REGRESSION if LONG else [dataclasses.replace(case, unrelated=None) for case in REGRESSION]),
    *(SHARED if LONG else [dataclasses.replace(case, unrelated=None) for case in SHARED]),
    *(OWN if LONG else ()),
    # different columns, where narrow kernels are right; on unrelated tasks wide ones are
    MetaCase(
        up.MetaSVM(settings=SETTINGS, measure="neg_log_loss"),
        sample(0, 24, 8.0, vary=True),
        sample(1, 30, 8.0),
        sample(2, 200, 1.5) if LONG else None,
        shots=15,
        columns="any",
        setting=("width", 30.0),
        bad_setting=("trials", 0),
        tolerance=1e-5,
        name="different columns",
    ),
]


@parametrize_with_meta_checks(CASES)
def test_meta_svm(meta_learner, check):
    check(meta_learner)


def test_experience_serves_any_columns_and_holds_no_learned_kernel():
    fitted = CASES[-1].fitted(CASES[-1].meta)
    for columns in (1, 40):
        task = wavy(0, 5, 30, columns, 8.0)
        (model,) = fitted.adapt_many([task])
        assert np.isfinite(model.predict_proba(task.X)).all()
    with pytest.raises(up.NotMetaFittedError, match="feature_scales_ needs a kernel"):
        _ = fitted.feature_scales_
