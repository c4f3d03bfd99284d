"""Fit the pooled prediction m(x), and its predictions for tasks it has not seen.

What a task is told by ``m`` must be learned from tasks whose own rows ``m`` has never seen, else its worth is
overrated. Tasks lie in folds; one model is fitted for every set of folds that is asked for, and shared.

For a regression the boosted trees are fitted to targets from which every task's own deviation, as a linear prior
on ``[1, x]`` sees it, has been taken away: otherwise trees explain by x what differs between tasks [1]_. This
is done twice, the second time for the targets around a first model.

References
----------
.. [1] Hajjem, A., Bellavance, F. and Larocque, D. (2014). Mixed-effects random forest for clustered data. Journal
   of Statistical Computation and Simulation 84.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression

from upstairs.inner.gaussian import factor
from upstairs.inner.pooled import from_boosting, from_linear
from upstairs.outer.empirical_bayes import learn_gaussian, moments
from upstairs.outer.threads import threads_for

LEAVES = 31
RATE = 0.1
MOST_TREES = {"regression": 200, "classification": 120}
"""Most boosting iterations; fewer are kept if unseen tasks say so."""
FIRST_TREES = 50
"""Iterations of a first model, without which a task's own deviation is told more exactly."""


@dataclass(frozen=True, slots=True)
class Data:
    """Training rows, task after task, with columns and targets standardised; ``fold`` is the fold of every task."""

    x: Float[np.ndarray, "row feature"]
    y: Shaped[np.ndarray, " row"]
    offsets: Int[np.ndarray, " boundary"]
    fold: Int[np.ndarray, " task"]
    kind: str
    ways: int
    seed: int

    @property
    def row_fold(self) -> Int[np.ndarray, " row"]:
        """The fold of every row."""
        return np.repeat(self.fold, np.diff(self.offsets))

    def part(self, folds: Iterable[int]) -> Data:
        """The tasks of some folds."""
        chosen = np.isin(self.fold, list(folds))
        rows = np.repeat(chosen, np.diff(self.offsets))
        offsets = np.concatenate([[0], np.cumsum(np.diff(self.offsets)[chosen])])
        return Data(self.x[rows], self.y[rows], offsets, self.fold[chosen], self.kind, self.ways, self.seed)


def make_folds(groups: Shaped[np.ndarray, " task"], most: int, seed: int) -> Int[np.ndarray, " task"]:
    """A fold number for every task, groups kept together and folds of about equal numbers of tasks.

    Examples
    --------
    >>> import numpy as np
    >>> fold = make_folds(np.array(["a", "a", "b", "c"]), 3, 0)
    >>> bool(fold[0] == fold[1]), len(set(fold.tolist()))
    (True, 3)
    """
    _, number, size = np.unique(groups, return_inverse=True, return_counts=True)
    folds = min(most, len(size))
    order = np.random.default_rng(seed).permutation(len(size))
    order = order[np.argsort(-size[order], kind="stable")]
    load, place = np.zeros(folds), np.empty(len(size), dtype=np.int64)
    for group in order:
        place[group] = int(np.argmin(load))
        load[place[group]] += size[group]
    return place[number]


def without_deviation(data: Data, pooled: Float[np.ndarray, " row"] | float = 0.0) -> Float[np.ndarray, " row"]:
    """Targets minus what is a task's own, as the posterior of a linear prior on ``[1, x]`` says.

    The prior is that of the targets around ``pooled``.
    """
    phi = np.column_stack([np.ones(len(data.x)), data.x])
    stats = moments(phi, data.y - pooled, data.offsets)
    learned = learn_gaussian(stats, strength=5.0, target=0.01, max_iter=100, tolerance=1e-4)
    spread = factor(learned.covariance)
    inner = spread.T @ stats.gram @ spread / learned.noise + np.eye(spread.shape[1])
    side = (stats.cross - stats.gram @ learned.mean) @ spread / learned.noise
    own = np.linalg.solve(inner, side[..., None])[..., 0] @ spread.T
    return data.y - (np.repeat(own, np.diff(data.offsets), axis=0) * phi).sum(axis=1)


@dataclass(frozen=True)
class Pooling:
    """Pooled models of one kind (``"ridge"`` or ``"boosting"``) for sets of folds, fitted when first asked for."""

    data: Data
    kind: str
    models: dict[frozenset[int], Any] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        """Columns of the pooled prediction: one, or one a class for more than two classes."""
        return self.data.ways if self.data.kind == "classification" and self.data.ways > 2 else 1

    def arrays(self, folds: frozenset[int], trees: int) -> dict[str, np.ndarray]:
        """The model of some folds as arrays, cut after ``trees`` iterations."""
        model = self._model(folds)
        if self.kind == "ridge" or isinstance(model, dict):
            return dict(model)
        whole = from_boosting(model)
        kept = trees * self.outputs
        end = int(whole["pooled/start"][kept]) if kept < len(whole["pooled/start"]) else None
        for name in ("feature", "threshold", "mask"):
            whole[f"pooled/{name}"] = whole[f"pooled/{name}"][:end]
        for name in ("start", "leaf"):
            whole[f"pooled/{name}"] = whole[f"pooled/{name}"][:kept]
        return whole

    def out_of_fold(self, folds: frozenset[int]) -> tuple[Float[np.ndarray, "row output"], int]:
        """Predictions for the tasks of ``folds`` by models that have not seen their fold, and the best tree number.

        One fold alone cannot be split further: its tasks are then dealt into two new folds.
        """
        part = self.data.part(folds)
        if len(folds) < 2:
            if len(part.fold) < 2:
                return np.zeros((len(part.x), self.outputs)), 1
            part = Data(part.x, part.y, part.offsets, np.arange(len(part.fold)) % 2, part.kind, part.ways, part.seed)
            return Pooling(part, self.kind).out_of_fold(frozenset({0, 1}))
        staged: list[np.ndarray] = []
        where = []
        loss = np.zeros(1)
        target = without_deviation(part) if part.kind == "regression" else part.y
        for fold in sorted(folds):
            rows = part.row_fold == fold
            stages = self._staged(folds - {fold}, part.x[rows])
            staged.append(stages)
            where.append(rows)
            loss = loss + self._losses(stages, part, rows, target)
        best = int(np.argmin(loss))
        out = np.empty((len(part.x), self.outputs))
        for rows, stages in zip(where, staged, strict=True):
            out[rows] = stages[min(best, len(stages) - 1)]
        return out, best + 1

    def _losses(self, stages: np.ndarray, part: Data, rows: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Loss of every stage on unseen tasks."""
        y = part.y[rows]
        if part.kind == "classification":
            if self.outputs == 1:
                return np.array([np.logaddexp(0.0, np.where(y > 0, -s[:, 0], s[:, 0])).sum() for s in stages])
            label = y.astype(np.intp)[:, None]
            return np.array(
                [(np.logaddexp.reduce(s, axis=1) - np.take_along_axis(s, label, 1)[:, 0]).sum() for s in stages]
            )
        return np.array([np.square(target[rows] - stage[:, 0]).sum() for stage in stages])

    def _staged(self, folds: frozenset[int], x: np.ndarray) -> np.ndarray:
        """Predictions after every iteration, ``(stage, row, output)``."""
        model = self._model(folds)
        if isinstance(model, dict):
            return (x @ model["pooled/coef"] + model["pooled/intercept"])[None]
        stages = model.staged_predict(x) if self.data.kind == "regression" else model.staged_decision_function(x)
        return np.stack([np.asarray(stage, dtype=np.float32).reshape(len(x), -1) for stage in stages])

    def _model(self, folds: frozenset[int]) -> Any:
        if folds not in self.models:
            self.models[folds] = self._fit(self.data.part(folds))
        return self.models[folds]

    def _fit(self, part: Data) -> Any:
        if part.kind == "regression":
            y = without_deviation(part)
            if self.kind == "ridge":
                x = np.column_stack([np.ones(len(part.x)), part.x])
                weight = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ y)
                return from_linear(weight[1:, None], weight[:1])
            first = _boosting(part, y, FIRST_TREES).predict(part.x)
            return _boosting(part, without_deviation(part, first), MOST_TREES[part.kind])
        present = np.unique(part.y)
        if len(present) < max(part.ways, 2):
            return from_linear(np.zeros((part.x.shape[1], self.outputs)), np.zeros(self.outputs))
        if self.kind == "ridge":
            linear = LogisticRegression(C=1.0, max_iter=500).fit(part.x, part.y)
            return from_linear(linear.coef_.T, linear.intercept_)
        return _boosting(part, part.y, MOST_TREES[part.kind])


def _boosting(part: Data, y: np.ndarray, trees: int) -> Any:
    settings: dict[str, Any] = {
        "max_iter": trees,
        "learning_rate": RATE,
        "max_leaf_nodes": LEAVES,
        "early_stopping": False,
        "random_state": part.seed,
        "categorical_features": None,
    }
    family = HistGradientBoostingRegressor if part.kind == "regression" else HistGradientBoostingClassifier
    with threads_for(len(y)):
        return family(**settings).fit(part.x, y)
