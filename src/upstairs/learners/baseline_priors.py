"""Baselines that learn from the training tasks: pooled models and normal priors over weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV

from upstairs.inner.gaussian import BayesianLinear, factor
from upstairs.inner.pooled import from_boosting, from_linear, pooled_prediction
from upstairs.inner.rule import Gaussian
from upstairs.learners.adaptation import Adapted, Situation, adapt_all, predict_rows
from upstairs.learners.baseline_mathematics import (
    as_logits,
    class_codes,
    log_loss,
    most_probable_shift,
    most_probable_weights,
    variance_components,
    variance_inside,
)
from upstairs.learners.baseline_models import Baseline, ClassModel, DensityModel, Situated
from upstairs.outer.empirical_bayes import learn_gaussian, moments
from upstairs.tasks.batches import concatenate_columns
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.splits import folds
from upstairs.tasks.task import Task
from upstairs.tasks.taskset import TaskSet

__all__ = ["LinearGaussianPrior", "LogisticGaussianPrior", "Pooled", "PooledOffset"]

WIDEST = 150
"""Most encoded columns whose weights differ between tasks in the linear Gaussian prior."""


@dataclass(frozen=True)
class Pooled(Baseline):
    """One model of all training rows, blind to the task and to its support.

    Gradient boosting or a (ridge or logistic) linear model, whichever predicts held-out training tasks better.
    """

    encoder: Encoder | None = None
    params: dict[str, np.ndarray] = field(default_factory=dict)
    held_out: np.ndarray = field(default_factory=lambda: np.empty((0, 1)))
    y: np.ndarray = field(default_factory=lambda: np.empty(0))
    offsets: np.ndarray = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    std: float = 1.0
    name: ClassVar[str] = "pooled"
    one_class: ClassVar[bool] = True

    def meta_fit(self, train: TaskSet | ClassPool) -> Pooled:
        """Fit both candidates on held-in tasks, choose on held-out ones, refit the better one on all rows."""
        encoder, x, y, offsets, groups = _rows(train, self.at)
        parts = folds(groups, min(5, len(set(groups))), 0) if len(set(groups)) > 1 else []
        rows_of = [np.arange(offsets[t], offsets[t + 1]) for t in range(len(offsets) - 1)]
        best: tuple[float, bool, np.ndarray] = (np.inf, False, np.zeros((len(y), 1)))
        for boosting in (False, True):
            out = np.zeros((len(y), max(1, len(self.at.classes) * (len(self.at.classes) > 2))))
            for fit_tasks, left_tasks in parts:
                fit, left = (np.concatenate([rows_of[t] for t in side]) for side in (fit_tasks, left_tasks))
                if self.at.kind == "classification" and len(np.unique(y[fit])) < len(self.at.classes):
                    continue
                out[left] = pooled_prediction(_fit_pooled(x[fit], y[fit], self.at.kind, boosting), x[left])
            loss = _pooled_loss(out, y, self.at.kind)
            best = min(best, (loss, boosting, out), key=lambda entry: entry[0])
        loss, boosting, out = best
        params = _fit_pooled(x, y, self.at.kind, boosting)
        return replace(
            self, encoder=encoder, params=params, held_out=out, y=y, offsets=offsets, std=float(np.sqrt(loss))
        )

    def scores(self, X: Any) -> Float[np.ndarray, "row output"]:
        """Values, or log odds of every class."""
        assert self.encoder is not None
        out = pooled_prediction(self.params, self.encoder.encode(X))
        return out if self.at.kind == "regression" else as_logits(out)

    def _adapt(self, X: Any, y: np.ndarray) -> Any:
        if self.at.kind == "regression":
            return DensityModel(lambda new: (self.scores(new)[:, 0], self.std))
        return ClassModel(np.array(self.at.classes), self.scores)


@dataclass(frozen=True)
class PooledOffset(Baseline):
    """The pooled model, moved for each task.

    Regression: by the mean residual of n support rows times n / (n + k), where k is the ratio of the variances
    within and between tasks of held-out residuals. Classification: by one shift of the log odds a class, fitted to
    the support with a normal prior whose variance has greatest (Laplace) marginal likelihood over training tasks.
    """

    pooled: Pooled | None = None
    within: float = 1.0
    between: float = 0.0
    name: ClassVar[str] = "pooled + offset"
    one_class: ClassVar[bool] = True

    def meta_fit(self, train: TaskSet | ClassPool) -> PooledOffset:
        """Learn how much pooled predictions are off from task to task, from predictions of held-out tasks."""
        pooled = self.pooled if self.pooled and self.pooled.encoder else Pooled(self.at).meta_fit(train)
        parts = [slice(*pair) for pair in pairwise(pooled.offsets)]
        if self.at.kind == "regression":
            residual = pooled.y - pooled.held_out[:, 0]
            within, between = variance_components([residual[part] for part in parts])
            return replace(self, pooled=pooled, within=within, between=between)
        tasks = [(as_logits(pooled.held_out[part])[:300], pooled.y[part][:300]) for part in parts[:200]]
        grid = np.geomspace(1e-3, 10.0, 13)
        evidence = [sum(most_probable_shift(logits, y, variance)[1] for logits, y in tasks) for variance in grid]
        return replace(self, pooled=pooled, between=float(grid[int(np.argmax(evidence))]))

    def _adapt(self, X: Any, y: np.ndarray) -> Any:
        assert self.pooled is not None
        pooled, scores = self.pooled, self.pooled.scores(X)
        if self.at.kind == "regression":
            weight = len(y) * self.between / (len(y) * self.between + self.within)
            shift = weight * float((y - scores[:, 0]).mean())
            std = np.sqrt(self.within + (1.0 - weight) * self.between)
            return DensityModel(lambda new: (pooled.scores(new)[:, 0] + shift, std))
        shifts = most_probable_shift(scores, class_codes(y, self.at.classes), self.between)[0]
        return ClassModel(np.array(self.at.classes), lambda new: pooled.scores(new) + shifts)


@dataclass(frozen=True)
class LinearGaussianPrior(Baseline):
    """Linear mixed-effects model: weights of a task are normal around those of all tasks; posterior in closed form.

    Mean, full covariance and noise by maximum likelihood over the training tasks (Laird and Ware 1982).
    """

    situation: Situation | None = None
    name: ClassVar[str] = "linear Gaussian prior"

    def meta_fit(self, train: TaskSet | ClassPool) -> LinearGaussianPrior:
        """Learn mean, covariance and noise."""
        encoder, x, y, offsets, _ = _rows(train, self.at)
        center, scale = float(y.mean()), float(y.std()) or 1.0
        phi = np.column_stack([np.ones(len(x)), x])
        within = np.append(0, 1 + np.argsort(-variance_inside(x, offsets), kind="stable")[: WIDEST - 1])
        learned = learn_gaussian(moments(phi, (y - center) / scale, offsets), random=np.sort(within))
        params = {
            "weight": np.ones(1),
            "mean": learned.mean[None],
            "factor": factor(learned.covariance)[None],
            "noise": np.array([learned.noise]),
        }
        return replace(self, situation=Situation(BayesianLinear(), BayesianLinear(), params, encoder, 0, center, scale))

    def adapt_many(self, tasks: Sequence[Task]) -> list[Any]:
        """Adapt to many tasks at once."""
        known = self.situation
        assert known is not None
        assert known.encoder is not None
        encoder, center, scale = known.encoder, known.center, known.scale
        adapted = adapt_all(known, [encoder.encode(t.X) for t in tasks], [(t.y - center) / scale for t in tasks])

        def model(entry: Adapted) -> DensityModel:
            def both(new: Any) -> tuple[np.ndarray, np.ndarray]:
                found = predict_rows(entry, encoder.encode(new))
                assert isinstance(found, Gaussian)
                return found.mean[0] * scale + center, np.sqrt(found.variance[0]) * scale

            return DensityModel(both)

        return [model(entry) for entry in adapted]

    def _adapt(self, X: Any, y: np.ndarray) -> Any:
        return self.adapt_many([Task(X, y, name="task", kind="regression")])[0]


@dataclass(frozen=True)
class LogisticGaussianPrior(Baseline):
    """Logistic regression whose weights are pulled to those of all training rows pooled.

    Prior of each weight: normal around the pooled weight, standard deviation ``SHARE`` times the spread over
    training tasks of weights fitted to each of them; the most probable weights are taken.
    """

    encoder: Encoder | None = None
    mean: np.ndarray = field(default_factory=lambda: np.empty(0))
    std: np.ndarray = field(default_factory=lambda: np.empty(0))
    name: ClassVar[str] = "logistic, pooled Gaussian prior"
    one_class: ClassVar[bool] = True
    SHARE: ClassVar[float] = 0.3

    def meta_fit(self, train: TaskSet | ClassPool) -> LogisticGaussianPrior:
        """Fit the pooled weights, and those of every training task with both classes."""
        encoder, x, y, offsets, _ = _rows(train, self.at)
        phi = np.column_stack([np.ones(len(x)), x])
        wide = np.append(10.0, np.full(x.shape[1], 1.0))
        mean = most_probable_weights(phi, y, np.zeros(phi.shape[1]), 10.0 * wide)
        parts = [slice(*pair) for pair in pairwise(offsets)]
        own = [
            most_probable_weights(phi[p], y[p], np.zeros(phi.shape[1]), wide)
            for p in parts
            if len(np.unique(y[p])) == 2
        ]
        spread = np.std(own, axis=0) if len(own) > 1 else np.ones(phi.shape[1])
        return replace(self, encoder=encoder, mean=mean, std=np.maximum(self.SHARE * spread, 1e-3))

    def _adapt(self, X: Any, y: np.ndarray) -> Any:
        encoder = self.encoder
        assert encoder is not None
        phi = np.column_stack([np.ones(len(y)), encoder.encode(X)])
        weights = most_probable_weights(phi, class_codes(y, self.at.classes), self.mean, self.std)
        return ClassModel(
            np.array(self.at.classes), lambda new: as_logits(encoder.encode(new) @ weights[1:] + weights[0])
        )


def _rows(
    train: TaskSet | ClassPool, at: Situated
) -> tuple[Encoder, Float[np.ndarray, "row column"], np.ndarray, np.ndarray, tuple[str, ...]]:
    """All training rows encoded, targets or class numbers, where each task starts, and the group of each task."""
    assert isinstance(train, TaskSet)
    tasks = list(train.canonical())
    X = concatenate_columns(tasks)
    encoder = Encoder.fit(X, categorical=at.categorical)
    y = np.concatenate([task.y if at.kind == "regression" else class_codes(task.y, at.classes) for task in tasks])
    offsets = np.concatenate([[0], np.cumsum([len(task) for task in tasks])]).astype(np.int64)
    return encoder, encoder.encode(X), y, offsets, train.canonical().groups


def _fit_pooled(x: np.ndarray, y: np.ndarray, kind: str, boosting: bool) -> dict[str, np.ndarray]:
    if boosting:
        model = (HistGradientBoostingRegressor if kind == "regression" else HistGradientBoostingClassifier)(
            random_state=0
        )
        return from_boosting(model.fit(x, y))
    if kind == "regression":
        ridge = RidgeCV(alphas=np.geomspace(1e-2, 1e4, 13)).fit(x, y)
        return from_linear(ridge.coef_[:, None], np.array([ridge.intercept_]))
    linear = LogisticRegression(max_iter=1000).fit(x, y)
    return from_linear(linear.coef_.T, linear.intercept_)


def _pooled_loss(out: np.ndarray, y: np.ndarray, kind: str) -> float:
    return float(np.square(y - out[:, 0]).mean()) if kind == "regression" else log_loss(as_logits(out), y)
