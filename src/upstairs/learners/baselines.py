"""Plain methods that every meta-learner is measured against, made as strong as they come.

Where a baseline cannot be fitted to the support of an episode (one class, a single row), it falls back as its
docstring says, and the evaluation counts how often. Every baseline is a small object with ``name``, ``meta_fit(train)``
(returns a fitted copy) and ``adapt(X, y)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.svm import SVC, SVR

from upstairs.errors import TaskError
from upstairs.learners.baseline_mathematics import as_logits, class_distances, log_loss, with_unseen
from upstairs.learners.baseline_models import Baseline, ClassModel, PointModel, Situated
from upstairs.learners.baseline_priors import LinearGaussianPrior, LogisticGaussianPrior, Pooled, PooledOffset
from upstairs.tasks.batches import concatenate_columns
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.splits import class_members, draw_episode
from upstairs.tasks.table import Table
from upstairs.tasks.taskset import TaskSet

__all__ = [
    "BASELINES",
    "Baseline",
    "LinearGaussianPrior",
    "LogisticGaussianPrior",
    "NearestPrototype",
    "NoMeta",
    "Pooled",
    "PooledOffset",
    "Situated",
    "Tuned",
    "baseline_reasons",
    "make_baseline",
]


@dataclass(frozen=True)
class NoMeta(Baseline):
    """The learner's own class without a prior, fitted to the support alone; fallback: mean or class frequencies."""

    plain: Any = None
    name: ClassVar[str] = "no-meta"
    needs_train: ClassVar[bool] = False

    def _adapt(self, X: Any, y: np.ndarray) -> Any:
        return clone(self.plain).fit(X, y)


@dataclass(frozen=True)
class Tuned(Baseline):
    """A grid search on the support alone: linear models and support vector machines, chosen by cross-validation.

    Columns are standardised by the training rows where there are training tasks with the same columns (by five
    support rows alone the error on parkinsons_updrs was .166 instead of .067), else by the support; targets always by
    the support. Up to 5 folds; with too few rows for folds ridge or logistic regression with scikit-learn's defaults.
    Chosen by squared error, AUC (two shared classes) or accuracy; class probabilities are sharpened by held-out rows.
    Fallback: mean or class frequencies.
    """

    encoder: Encoder | None = None
    name: ClassVar[str] = "tuned"
    needs_train: ClassVar[bool] = False

    def meta_fit(self, train: TaskSet | ClassPool) -> Tuned:
        """Take over the scale of the columns, and nothing else."""
        if not self.at.same_columns:
            return self
        if isinstance(train, ClassPool):
            return replace(self, encoder=Encoder.fit(train.X.reshape(len(train.y), -1).astype(np.float64)))
        columns = concatenate_columns(list(train.canonical()))
        return replace(self, encoder=Encoder.fit(columns, categorical=self.at.categorical))

    def _adapt(self, X: Any, y: np.ndarray) -> Any:
        encoder = self.encoder or Encoder.fit(X)
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
        known = np.array(self.at.classes or classes.tolist())
        places = np.searchsorted(known, classes)

        def logits_of(new: Any) -> np.ndarray:
            found = as_logits(chosen.decision_function(encoder.encode(new))) * sharpness
            return with_unseen(found, places, len(known), len(y))

        return ClassModel(known, logits_of)


@dataclass(frozen=True)
class NearestPrototype(Baseline):
    """Nearest class mean, raw features for arrays and standardised columns for frames.

    Probabilities are a softmax of minus the squared distance times a factor: by log loss on training episodes where
    there are training tasks, else from the spread inside the classes of the support. Fallback: class frequencies.
    """

    sharpness: float | None = None
    name: ClassVar[str] = "nearest prototype"
    needs_train: ClassVar[bool] = False

    def meta_fit(self, train: TaskSet | ClassPool) -> NearestPrototype:
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
    ('', 'needs labels that are own to a task', 'needs train=')
    """
    own = at.kind == "classification" and at.labels != "shared"
    found = {}
    for name, entry in BASELINES.items():
        reason = ""
        if entry is NearestPrototype and not own:
            reason = "needs labels that are own to a task"
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
