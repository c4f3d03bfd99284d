"""Fits that cannot be traced: the strength of a ridge regression, learned over tasks by looking around."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from upstairs.errors import UpstairsError
from upstairs.outer.host import HostStepper
from upstairs.outer.loop import run
from upstairs.outer.optimiser import Optimiser
from upstairs.tasks.batches import FlatRows


def ridge(params: Mapping[str, np.ndarray], split: Any) -> float:
    """Query error of a ridge regression whose log strength is a param."""
    x, y, x_new, y_new = split
    weights = np.linalg.solve(x.T @ x + np.exp(params["log_strength"]) * np.eye(x.shape[1]), x.T @ y)
    return float(np.square(x_new @ weights - y_new).mean())


def slope(params: Mapping[str, np.ndarray], split: Any) -> tuple[float, dict[str, np.ndarray]]:
    """The same with its gradient: d w / d lambda = -(X'X + lambda)^-1 w."""
    x, y, x_new, y_new = split
    strength = np.exp(params["log_strength"])
    gram = x.T @ x + strength * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x.T @ y)
    error = x_new @ weights - y_new
    change = -strength * np.linalg.solve(gram, weights)
    return float(np.square(error).mean()), {"log_strength": np.asarray(2.0 * (error * (x_new @ change)).mean())}


def rows(tasks: int, seed: int) -> FlatRows:
    """Weights N(0, 1), noise of variance 4: the best strength is 4."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(tasks, 25, 5))
    y = (x @ rng.normal(size=(tasks, 5, 1)))[..., 0] + 2.0 * rng.normal(size=(tasks, 25))
    return FlatRows(x.reshape(-1, 5), y.ravel(), np.arange(tasks + 1) * 25)


def stepper(gradient: Any, **more: Any) -> HostStepper:
    settings: dict[str, Any] = {"batch": 16, "shots": (5, 5), "optimiser": Optimiser(rate=0.2)} | more
    fit = slope if gradient == "given" else ridge
    return HostStepper(fit, {"log_strength": np.log(0.05)}, rows(200, 0), gradient=gradient, **settings)


@pytest.mark.parametrize("gradient", ["differences", "score", "given"])
def test_the_strength_of_ridge_is_learned(gradient: str) -> None:
    learner = stepper(gradient, validation=rows(50, 1))
    found = run(learner, 60, validate_every=20)
    assert np.log(2.0) < float(found.params["log_strength"]) < np.log(8.0)
    before = learner.validate(learner.start())
    assert before is not None
    assert found.best_loss is not None
    assert found.best_loss < 0.9 * before.loss


def test_differences_are_the_gradient() -> None:
    start = {"log_strength": np.log(0.5)}
    by_hand, exact = (
        HostStepper(fit, start, rows(20, 0), gradient=gradient, width=1e-4)
        for fit, gradient in ((ridge, "differences"), (slope, "given"))
    )
    tasks, splits = by_hand._draw(by_hand._rows, 0, 3)
    params = {"log_strength": np.asarray(np.log(0.5))}
    found, wanted = (one._look_around(params, tasks, splits, 3)[1] for one in (by_hand, exact))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_workers_and_resume_change_nothing(tmp_path: pathlib.Path) -> None:
    whole = run(stepper("score"), 12, validate_every=4)
    run(stepper("score"), 5, validate_every=4, checkpoint=tmp_path / "run")
    resumed = run(stepper("score"), 12, validate_every=4, checkpoint=tmp_path / "run")
    threads = run(stepper("score", n_jobs=2), 12, validate_every=4)
    assert whole.params["log_strength"] == resumed.params["log_strength"] == threads.params["log_strength"]
    np.testing.assert_array_equal(whole.losses, resumed.losses)


def test_a_bad_task_is_named() -> None:
    data = rows(20, 0)
    data.y[25 * 3 : 25 * 4] = np.inf
    learner = HostStepper(ridge, {"log_strength": 0.0}, data, batch=20, names=[f"site {n}" for n in range(20)])
    with (
        pytest.raises(UpstairsError, match=r"Step 0: .* of task 'site 3' is not finite"),
        np.errstate(invalid="ignore"),
    ):
        run(learner, 5)
