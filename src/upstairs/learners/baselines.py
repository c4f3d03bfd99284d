"""Plain methods that every meta-learner is measured against, made as strong as they come.

Where a baseline cannot be fitted to the support of an episode (one class, a single row), it falls back as its
docstring says, and the evaluation counts how often. Every baseline is a small object with ``name``, ``meta_fit(train)``
(returns a fitted copy) and ``adapt(X, y)``.
"""

from __future__ import annotations

import abc
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.svm import SVC, SVR

from upstairs.errors import TaskError
from upstairs.inner.gaussian import BayesianLinear, factor
from upstairs.inner.pooled import from_boosting, from_linear, pooled_prediction
from upstairs.learners.adaptation import Situation, adapt_all, predict_rows
from upstairs.learners.baseline_mathematics import (
    as_logits,
    class_codes,
    class_distances,
    log_loss,
    most_probable_shift,
    most_probable_weights,
    softmax,
    variance_components,
    variance_inside,
)
from upstairs.outer.empirical_bayes import learn_gaussian, moments
from upstairs.tasks.batches import concatenate_columns
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.sampler import class_members, draw_episode, folds
from upstairs.tasks.table import Table
from upstairs.tasks.task import Task, TaskSet

__all__ = ["BASELINES", "Baseline", "LinearGaussianPrior", "LogisticGaussianPrior", "NearestPrototype", "NoMeta", "Pooled",
           "PooledOffset", "Situated", "Tuned", "baseline_reasons", "make_baseline"]  # fmt: skip

WIDEST = 150
"""Most encoded columns whose weights differ between tasks in the linear Gaussian prior."""


@dataclass(frozen=True, slots=True)
class Situated:
    """What kind of tasks a baseline is for; ``classes`` are the shared labels, empty for labels of a task's own."""

    kind: str
    labels: str | None
    classes: tuple[Any, ...] = ()
    same_columns: bool = True
    categorical: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class PointModel:
    """A fitted regression that gives a value a row."""

    mean: Callable[[Any], np.ndarray]
    fallback: str = ""

    def predict(self, X: Any) -> np.ndarray:
        """Predict every row."""
        return self.mean(X)


@dataclass(frozen=True, slots=True)
class DensityModel:
    """A fitted regression that gives a mean and a standard deviation a row, the noise of a new row included."""

    both: Callable[[Any], tuple[np.ndarray, Any]]
    fallback: str = ""

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict every row."""
        mean, std = self.both(X)
        return (mean, np.broadcast_to(std, mean.shape)) if return_std else mean


@dataclass(frozen=True, slots=True)
class ClassModel:
    """A fitted classifier: log odds of every class, up to a constant."""

    classes_: np.ndarray
    logits: Callable[[Any], np.ndarray]
    fallback: str = ""

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities in the order of ``classes_``."""
        return softmax(self.logits(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of every row."""
        return self.classes_[self.logits(X).argmax(axis=1)]


@dataclass(frozen=True)
class Baseline(abc.ABC):
    """A plain method: ``meta_fit`` returns a fitted copy, ``adapt`` a fitted model; neither changes the baseline."""

    at: Situated
    name: ClassVar[str]
    needs_train: ClassVar[bool] = True
    one_class: ClassVar[bool] = False

    def meta_fit(self, train: TaskSet | ClassPool) -> Self:
        """Learn from training tasks what the method can learn from them."""
        return self

    def adapt(self, X: Any, y: np.ndarray) -> Any:
        """Fit a model to support rows, or fall back on the support mean or the (smoothed) class frequencies."""
        if self.at.kind == "classification" and not self.one_class and len(np.unique(y)) < 2:
            return self._constant(y, "one class in the support")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self._adapt(X, y)
        except (ValueError, FloatingPointError, np.linalg.LinAlgError) as error:
            return self._constant(y, f"{type(error).__name__}: {error}")

    def adapt_many(self, tasks: Sequence[Task]) -> list[Any]:
        """Adapt to many tasks."""
        return [self.adapt(task.X, task.y) for task in tasks]

    @abc.abstractmethod
    def _adapt(self, X: Any, y: np.ndarray) -> Any:
        """Fit a model, or raise ValueError."""

    def _constant(self, y: np.ndarray, why: str) -> Any:
        if self.at.kind == "regression":
            level = float(y.mean())
            return PointModel(lambda X: np.full(len(X), level), why)
        classes = np.array(self.at.classes or np.unique(y).tolist())
        counts = (y[:, None] == classes).sum(axis=0) + 1.0
        return ClassModel(classes, lambda X: np.broadcast_to(np.log(counts), (len(X), len(classes))), why)


@dataclass(frozen=True)
class NoMeta(Baseline):
    """The learner's own class without a prior, fitted to the support alone; fallback: mean or class frequencies."""

    plain: Any = None
    name: ClassVar[str] = "no-meta"
    needs_train: ClassVar[bool] = False

    def _adapt(self, X: Any, y: np.ndarray) -> Any:
        return clone(self.plain).fit(X, y)


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

    def meta_fit(self, train: TaskSet | ClassPool) -> Self:
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

    def meta_fit(self, train: TaskSet | ClassPool) -> Self:
        """Learn how much pooled predictions are off from task to task, from predictions of held-out tasks."""
        pooled = self.pooled if self.pooled and self.pooled.encoder else Pooled(self.at).meta_fit(train)
        parts = [slice(*pair) for pair in zip(pooled.offsets[:-1], pooled.offsets[1:], strict=True)]
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
class Tuned(Baseline):
    """A grid search on the support alone: linear models and support vector machines, chosen by cross-validation.

    Columns and targets are standardised by the support. Up to 5 folds; with too few rows for folds ridge regression
    or logistic regression with scikit-learn's defaults. Chosen by squared error, AUC (two shared classes) or
    accuracy; class probabilities are scaled by the held-out rows. Fallback: mean or class frequencies.
    """

    name: ClassVar[str] = "tuned"
    needs_train: ClassVar[bool] = False

    def _adapt(self, X: Any, y: np.ndarray) -> Any:
        encoder = Encoder.fit(X)
        x = encoder.encode(X)
        gammas = np.array([0.3, 1.0]) / max(1, x.shape[1])
        if self.at.kind == "regression":
            level, size = float(y.mean()), float(y.std()) or 1.0
            grid = [Ridge(alpha=a) for a in np.geomspace(0.1, 10_000.0, 6)]
            grid += [SVR(C=c, gamma=g) for c in (0.1, 1.0, 10.0) for g in gammas]
            scaled = (y - level) / size
            loss = [np.square(_held_out(model, x, scaled) - scaled).mean() for model in grid] if len(y) > 2 else [0.0]
            best = grid[int(np.argmin(loss))] if len(y) > 2 else Ridge()
            best.fit(x, scaled)
            return PointModel(lambda new: best.predict(encoder.encode(new)) * size + level)
        classes, codes = np.unique(y, return_inverse=True)
        smallest = int(np.bincount(codes).min())
        chosen, sharpness = LogisticRegression(max_iter=1000), 1.0
        if smallest >= 2:
            models = [LogisticRegression(C=c, max_iter=1000) for c in (0.01, 0.1, 1.0, 10.0, 100.0)]
            models += [SVC(C=c, gamma=g) for c in (0.1, 1.0, 10.0) for g in gammas]
            use_auc = len(self.at.classes) == 2
            found = [_held_out_classes(model, x, codes, min(5, smallest), use_auc) for model in models]
            number = int(np.argmax([value for value, _ in found]))
            chosen, logits = models[number], found[number][1]
            steps = np.geomspace(0.03, 30.0, 31)
            sharpness = float(steps[int(np.argmin([log_loss(logits * step, codes) for step in steps]))])
        chosen.fit(x, codes)
        return ClassModel(classes, lambda new: as_logits(chosen.decision_function(encoder.encode(new))) * sharpness)


@dataclass(frozen=True)
class LinearGaussianPrior(Baseline):
    """Linear mixed-effects model: weights of a task are normal around those of all tasks; posterior in closed form.

    Mean, full covariance and noise by maximum likelihood over the training tasks (Laird and Ware 1982).
    """

    situation: Situation | None = None
    name: ClassVar[str] = "linear Gaussian prior"

    def meta_fit(self, train: TaskSet | ClassPool) -> Self:
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
        return replace(self, situation=Situation(BayesianLinear(), params, encoder, 0, center, scale))

    def adapt_many(self, tasks: Sequence[Task]) -> list[Any]:
        """Adapt to many tasks at once."""
        known = self.situation
        assert known is not None
        assert known.encoder is not None
        encoder, center, scale = known.encoder, known.center, known.scale
        adapted = adapt_all(known, [encoder.encode(t.X) for t in tasks], [(t.y - center) / scale for t in tasks])

        def model(entry: Any) -> DensityModel:
            def both(new: Any) -> tuple[np.ndarray, np.ndarray]:
                found = predict_rows(entry, encoder.encode(new))
                return found.mean[0] * scale + center, np.sqrt(found.variance[0]) * scale  # type: ignore[union-attr]

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

    def meta_fit(self, train: TaskSet | ClassPool) -> Self:
        """Fit the pooled weights, and those of every training task with both classes."""
        encoder, x, y, offsets, _ = _rows(train, self.at)
        phi = np.column_stack([np.ones(len(x)), x])
        wide = np.append(10.0, np.full(x.shape[1], 1.0))
        mean = most_probable_weights(phi, y, np.zeros(phi.shape[1]), 10.0 * wide)
        parts = [slice(*pair) for pair in zip(offsets[:-1], offsets[1:], strict=True)]
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


@dataclass(frozen=True)
class NearestPrototype(Baseline):
    """Nearest class mean, raw features for arrays and standardised columns for frames.

    Probabilities are a softmax of minus the squared distance times a factor: by log loss on training episodes where
    there are training tasks, else from the spread inside the classes of the support. Fallback: class frequencies.
    """

    sharpness: float | None = None
    name: ClassVar[str] = "nearest prototype"
    needs_train: ClassVar[bool] = False

    def meta_fit(self, train: TaskSet | ClassPool) -> Self:
        """Choose the factor of the distances on 60 training episodes of 1 to 5 shots."""
        rng = np.random.default_rng(0)
        if isinstance(train, ClassPool):
            sources = [(train.X.reshape(len(train.y), -1), class_members(train.y)[1])]
        else:
            tasks = [train[int(n)] for n in rng.permutation(len(train))[:60]]
            sources = [(task.X, class_members(task.y)[1]) for task in tasks]
        found = []
        for number in range(60):
            X, members = sources[number % len(sources)]
            shots = 1 + number % 5
            ways = min(5, sum(len(rows) > shots for rows in members))
            if ways < 2:
                continue
            drawn = draw_episode(members, ways, shots, 5, rng)
            support, query = (
                X.take(rows) if isinstance(X, Table) else X[rows] for rows in (drawn.support, drawn.query)
            )
            encode = _plain_columns(support)
            distance = class_distances(encode(support), drawn.support_way, encode(query))
            found.append((distance / (1 + 1 / shots), drawn.query_way))
        if not found:
            return self
        unit = np.median(np.concatenate([distance.min(axis=1) for distance, _ in found])) or 1.0
        grid = np.geomspace(0.01, 1000.0, 31) / unit
        loss = [np.mean([log_loss(-distance * step, way) for distance, way in found]) for step in grid]
        return replace(self, sharpness=float(grid[int(np.argmin(loss))]))

    def _adapt(self, X: Any, y: np.ndarray) -> Any:
        encode = _plain_columns(X)
        classes, codes = np.unique(y, return_inverse=True)
        x = encode(X)
        rows = len(y) / len(classes)
        inside = class_distances(x, codes, x)[np.arange(len(y)), codes].sum() / max(len(y) - len(classes), 1)
        unit = inside if inside > 0 else float(x.var(axis=0).sum()) or 1.0
        sharpness = (self.sharpness or 0.5 * np.sqrt(x.shape[1]) / unit) / (1 + 1 / rows)
        return ClassModel(classes, lambda new: -sharpness * class_distances(x, codes, encode(new)))


BASELINES: dict[str, type[Baseline]] = {
    entry.name: entry
    for entry in (NoMeta, Pooled, PooledOffset, Tuned, LinearGaussianPrior, LogisticGaussianPrior, NearestPrototype)
}
"""Baselines by name."""


def baseline_reasons(at: Situated, train: bool) -> dict[str, str]:
    """Say for every baseline why it does not apply to such tasks; an empty string if it does.

    Examples
    --------
    >>> reasons = baseline_reasons(Situated("regression", None), train=False)
    >>> reasons["no-meta"], reasons["nearest prototype"], reasons["pooled"]
    ('', 'needs labels of a task\'s own', 'needs train=')
    """
    own = at.kind == "classification" and at.labels != "shared"
    found = {}
    for name, entry in BASELINES.items():
        reason = ""
        if entry is NearestPrototype and not own:
            reason = "needs labels of a task's own"
        elif entry is LinearGaussianPrior and at.kind != "regression":
            reason = "needs a regression"
        elif entry is LogisticGaussianPrior and (own or at.kind != "classification" or len(at.classes) != 2):
            reason = "needs two classes that all tasks share"
        elif entry in (Pooled, PooledOffset) and own:
            reason = "needs a regression or classes that all tasks share"
        elif entry.needs_train and not at.same_columns:
            reason = "needs tasks with the same columns"
        elif entry.needs_train and not train:
            reason = "needs train="
        found[name] = reason
    return found


def make_baseline(name: str, at: Situated, **settings: Any) -> Baseline:
    """Return an unfitted baseline.

    Raises
    ------
    TaskError
        If there is none of that name, or it does not apply to such tasks.
    """
    if name not in BASELINES:
        raise TaskError(f"baselines holds {name!r}, but known are {', '.join(map(repr, BASELINES))}.")
    reason = baseline_reasons(at, train=True)[name]
    if reason:
        raise TaskError(f"The baseline {name!r} {reason}; leave it out of baselines.")
    return BASELINES[name](at, **settings)


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


def _held_out(model: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    out = np.empty(len(y))
    for fit, left in KFold(min(5, len(y)), shuffle=True, random_state=0).split(x):
        out[left] = model.fit(x[fit], y[fit]).predict(x[left])
    return out


def _held_out_classes(
    model: Any, x: np.ndarray, codes: np.ndarray, parts: int, use_auc: bool
) -> tuple[float, np.ndarray]:
    """Score (mean AUC of the folds, or accuracy) and held-out log odds of one candidate."""
    out, scores = np.zeros((len(codes), int(codes.max()) + 1)), []
    for fit, left in StratifiedKFold(parts, shuffle=True, random_state=0).split(x, codes):
        out[left] = as_logits(model.fit(x[fit], codes[fit]).decision_function(x[left]))
        if use_auc:
            positive, other = (out[left, 1][codes[left] == label] for label in (1, 0))
            gap = positive[:, None] - other[None, :]
            scores.append(float(np.mean((gap > 0) + 0.5 * (gap == 0))))
    return (float(np.mean(scores)) if use_auc else float((out.argmax(axis=1) == codes).mean())), out


def _plain_columns(support: Any) -> Callable[[Any], np.ndarray]:
    """Arrays as they are; frames, and arrays with missing cells, encoded by what the support shows."""
    if isinstance(support, Table) or np.isnan(support).any():
        return Encoder.fit(support).encode
    return lambda X: np.asarray(X, dtype=np.float64)
