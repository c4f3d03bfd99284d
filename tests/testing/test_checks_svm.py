"""The conformance checks on MetaSVM: tasks with the same columns, and experience with settings for different ones."""

from __future__ import annotations

import numpy as np
import pytest

import upstairs as up
from upstairs.tasks import Task, TaskSet
from upstairs.testing import MetaCase, cases_for, parametrize_with_meta_checks

META = up.MetaSVM(prior_mean="linear", kernel="linear", training=up.Training(steps=40, validate_every=20))
CLOSE = {
    "check_does_no_harm": "of 15 rows, guard keeps the prior where it looks better by chance, and leaves 1.06 of the loss without"
}
SETTINGS = [{"C": cost, "width": width} for cost in (1.0, 30.0) for width in (0.3, 3.0)]


def wavy(number: int, seed: int, kind: str, rows: int, columns: int, waves: float) -> Task:
    """Rows with a target that goes up and down so often, or two classes of the task's own made of it.

    Slow waves come on skewed columns.
    """
    rng = np.random.default_rng([seed, number])
    X = rng.uniform(-1.0, 1.0, size=(rows, columns))
    y = np.sin(waves * X[:, 0] + rng.uniform(0, 6)) + 0.1 * rng.normal(size=rows)
    X = X if waves > 2.0 else np.exp(3.0 * X)
    if kind == "classification":
        y = np.array([f"{number}{name}" for name in "ab"])[(y > np.median(y)).astype(int)]
    return Task(X, y, name=f"s{seed}-{number}", kind=kind)  # type: ignore[arg-type]


def sample(kind: str, seed: int, count: int, waves: float, *, vary: bool = False) -> TaskSet:
    """Tasks of 60 rows and 2 columns, or of 5 to 40 rows and 1 to 3 columns."""
    sizes = [(5 + 5 * (n % 8), 1 + n % 3) if vary else (60, 2) for n in range(count)]
    made = [wavy(number, seed, kind, *size, waves) for number, size in enumerate(sizes)]
    return TaskSet(made, labels="own" if kind == "classification" else None)


def experienced(kind: str, setting: tuple[str, float]) -> MetaCase:
    """Different columns, where narrow kernels are right; on unrelated tasks wide ones are."""
    return MetaCase(
        up.MetaSVM(settings=SETTINGS, measure="neg_log_loss" if kind == "classification" else None),
        sample(kind, 0, 24, 8.0, vary=True),
        sample(kind, 1, 30, 8.0),
        sample(kind, 2, 200, 1.5),
        shots=15 if kind == "classification" else 30,
        columns="any",
        setting=setting,
        bad_setting=("trials", 0),
        tolerance=1e-5,
        name=f"different columns, {kind}",
    )


CASES = [
    *cases_for(META, ["regression"], tolerance=1e-6, setting=("C", 0.01), bad_setting=("C", -1.0)),
    *cases_for(META, ["shared"], tolerance=1e-6, setting=("C", 0.01), bad_setting=("C", 0.0)),
    *cases_for(META, ["own"], tolerance=1e-6, setting=("C", 1e-4), bad_setting=("trials", 0), expected_failures=CLOSE),
    experienced("classification", ("width", 30.0)),
    experienced("regression", ("C", 1e-3)),
]


@parametrize_with_meta_checks(CASES)
def test_meta_svm(meta_learner, check):
    check(meta_learner)


def test_experience_serves_any_columns_and_holds_no_learned_kernel():
    fitted = CASES[-1].fitted(CASES[-1].meta)
    for columns in (1, 40):
        task = wavy(0, 5, "regression", 30, columns, 8.0)
        (model,) = fitted.adapt_many([task])
        assert np.isfinite(model.predict(task.X)).all()
    with pytest.raises(up.NotMetaFittedError, match="feature_scales_ needs a kernel"):
        _ = fitted.feature_scales_
