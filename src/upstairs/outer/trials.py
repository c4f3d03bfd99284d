"""One trial: an estimator with some settings, fitted and scored on one task by held-out rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.base import clone

from upstairs.errors import TaskError
from upstairs.outer.ranks import area_under_curve
from upstairs.storage import content_hash
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.task import Kind, Task

__all__ = ["SCORES", "Settings", "Trials", "balanced_accuracy", "check_cv", "held_out", "scores_of", "with_settings"]

Settings: TypeAlias = Mapping[str, Any]

SCORES: Mapping[Kind, tuple[str, ...]] = {
    "classification": ("neg_log_loss", "accuracy", "balanced_accuracy", "roc_auc"),
    "regression": ("r2", "neg_mean_absolute_error"),
}
"""What a trial measures, by scikit-learn's names (more is better); the first is used when nothing is asked for."""
_LEAST = float(np.finfo(np.float64).eps)
"""Probabilities below count as this one in the log loss, as in scikit-learn."""
_NEVER_MORE_THAN_ROWS = ("n_neighbors",)
"""Arguments that scikit-learn refuses above the number of rows."""


@final
@dataclass(frozen=True)
class Trials:
    """Trials of one estimator on one task: called with a task it returns a function of settings.

    The recipe is that of `upstairs.RecommendedClassifier`: the encoder (missing cells, categories, scale) and, for a
    regression, the scale of the target are fitted on the training rows of each fold.

    Parameters
    ----------
    estimator : scikit-learn estimator
        Unfitted; settings are put over its own.
    cv : int or float
        An int: folds; all are held out in turn. A float: the share of rows that is held out, once.
    seed : int
        For the folds and for the estimator's ``random_state``.
    max_rows : int, optional
        Larger tasks are thinned out to so many rows, keeping the shares of the classes.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 3))
    >>> trial = Trials(Ridge(), cv=3)(Task(X, X @ [1.0, 2.0, 3.0], name="plane"))
    >>> found = trial({"alpha": 1e-6})
    >>> round(found["r2"], 3), found["seconds"] > 0
    (1.0, True)
    """

    estimator: Any
    cv: int | float = 3
    seed: int = 0
    max_rows: int | None = None

    @property
    def plan(self) -> str:
        """Name everything beside data and settings that a score depends on."""
        cls = type(self.estimator)
        params = {name: repr(value) for name, value in self.estimator.get_params().items()}
        document = {"estimator": f"{cls.__module__.split('.')[0]}.{cls.__qualname__}", "params": params}
        return content_hash(document | {"cv": self.cv, "seed": self.seed, "max_rows": self.max_rows}, {})

    def __call__(self, task: Task) -> Callable[[Settings], dict[str, float]]:
        """Prepare the folds of a task.

        Returns
        -------
        callable
            From settings to the mean score of every measure (see `SCORES`; NaN where it cannot be computed), and
            ``"seconds"``, the mean time of a fit.

        Raises
        ------
        TaskError
            If no fold has two classes to train on.
        """
        folds = self.folds(task)

        def trial(settings: Settings) -> dict[str, float]:
            found = [fold.score(with_settings(self.estimator, settings, self.seed, len(fold.x))) for fold in folds]
            return {name: float(np.mean([scores[name] for scores in found])) for name in found[0]}

        return trial

    def folds(self, task: Task) -> list[Fold]:
        """Return the parts of a task that can be trained on.

        Raises
        ------
        TaskError
            If there is none.
        """
        task = _thinned(task, self.max_rows, self.seed)
        folds = [Fold.of(task, *rows) for rows in held_out(task.y, str(task.kind), self.cv, self.seed)]
        folds = [fold for fold in folds if fold.usable]
        if not folds:
            raise TaskError(
                f"Task {task.name!r} ({len(task)} rows): no part of it has two classes to train on; leave it out."
            )
        return folds


@dataclass(frozen=True)
class Fold:
    """Encoded rows to train on and to score by."""

    x: Float[np.ndarray, "row column"]
    y: np.ndarray
    x_held_out: Float[np.ndarray, "query column"]
    y_held_out: np.ndarray
    classes: np.ndarray | None

    @classmethod
    def of(cls, task: Task, train: np.ndarray, held_out: np.ndarray) -> Fold:
        part, rest = task.take(train), task.take(held_out)
        encoder = Encoder.fit(part.X)
        y, y_rest, classes = part.y, rest.y, None
        if task.kind == "regression":
            center, scale = float(y.mean()), float(y.std()) or 1.0
            y, y_rest = (y - center) / scale, (y_rest - center) / scale
        else:
            classes = np.arange(len(task.classes))
            y, y_rest = (np.searchsorted(np.array(task.classes), labels) for labels in (y, y_rest))
        return cls(encoder.encode(part.X), y, encoder.encode(rest.X), y_rest, classes)

    @property
    def usable(self) -> bool:
        return self.classes is None or len(np.unique(self.y)) > 1

    def score(self, model: Any) -> dict[str, float]:
        start = time.perf_counter()
        model.fit(self.x, self.y)
        seconds = time.perf_counter() - start
        return scores_of(model, self.x_held_out, self.y_held_out, self.classes) | {"seconds": seconds}


def check_cv(cv: Any) -> None:
    """Raise unless ``cv`` is a number of folds or a share.

    Raises
    ------
    TaskError
    """
    folds = isinstance(cv, int) and not isinstance(cv, bool) and cv >= 2
    if not folds and not (isinstance(cv, float) and 0 < cv < 1):
        raise TaskError(f"cv must be a number of folds (2 or more) or a share between 0 and 1, but is {cv!r}.")


def with_settings(estimator: Any, settings: Settings, seed: int | None, rows: int) -> Any:
    """Return an unfitted copy with settings, with a seed where it takes one and none is set, and no more neighbours than rows.

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsRegressor
    >>> from sklearn.tree import DecisionTreeRegressor
    >>> with_settings(DecisionTreeRegressor(), {"max_depth": 3}, 7, 20)
    DecisionTreeRegressor(max_depth=3, random_state=7)
    >>> with_settings(KNeighborsRegressor(), {"n_neighbors": 50}, 7, 20)
    KNeighborsRegressor(n_neighbors=20)
    """
    copy = clone(estimator)
    takes = copy.get_params()
    if "random_state" in takes and takes["random_state"] is None and seed is not None:
        copy.set_params(random_state=seed)
    if settings:
        copy.set_params(**settings)
    for name in _NEVER_MORE_THAN_ROWS:
        if name in takes and isinstance(copy.get_params()[name], int) and copy.get_params()[name] > rows:
            copy.set_params(**{name: rows})
    return copy


def scores_of(
    model: Any,
    X: Float[np.ndarray, "row column"],
    y: Shaped[np.ndarray, " row"],
    classes: Int[np.ndarray, " label"] | None,
) -> dict[str, float]:
    """Score a fitted model on rows that it has not seen, by every measure of its kind.

    Parameters
    ----------
    model : fitted estimator
    X, y : arrays
        Encoded rows; labels as numbers.
    classes : array of int, optional
        All labels of the task (also those that the model has not seen); None for a regression.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> X, y = np.zeros((4, 1)), np.array([0, 0, 0, 1])
    >>> found = scores_of(DummyClassifier().fit(X, y), X, y, np.array([0, 1]))
    >>> {name: round(value, 3) for name, value in found.items()}
    {'neg_log_loss': -0.562, 'accuracy': 0.75, 'balanced_accuracy': 0.5, 'roc_auc': 0.5}
    """
    said = np.asarray(model.predict(X))
    if classes is None:
        if not np.isfinite(said).all():
            return {"r2": -np.inf, "neg_mean_absolute_error": -np.inf}
        spread = float(((y - y.mean()) ** 2).sum())
        lost = float(((y - said) ** 2).sum())
        return {
            "r2": 1.0 - lost / spread if spread > 0 else float(lost == 0),
            "neg_mean_absolute_error": -float(np.abs(y - said).mean()),
        }
    seen = np.unique(y)
    scores = {
        "neg_log_loss": np.nan,
        "accuracy": float(np.mean(said == y)),
        "balanced_accuracy": balanced_accuracy(y, said),
        "roc_auc": np.nan,
    }
    if hasattr(model, "predict_proba"):
        full = np.zeros((len(X), len(classes)))
        full[:, np.searchsorted(classes, model.classes_)] = np.nan_to_num(model.predict_proba(X))
        taken = _proper(full)[np.arange(len(y)), np.searchsorted(classes, y)]
        scores["neg_log_loss"] = float(np.log(np.clip(taken, _LEAST, 1.0)).mean())
        which = seen[1:] if len(classes) == 2 else seen
        if len(seen) > 1:
            scores["roc_auc"] = float(np.mean([area_under_curve((y == k).astype(int), full[:, k]) for k in which]))
    return scores


def balanced_accuracy(y: Shaped[np.ndarray, " row"], said: Shaped[np.ndarray, " row"]) -> float:
    """Mean over the classes of ``y`` of the share of rows that are named rightly.

    Examples
    --------
    >>> balanced_accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])).__round__(3)
    0.833
    """
    return float(np.mean([np.mean(said[y == label] == label) for label in np.unique(y)]))


def held_out(
    y: Shaped[np.ndarray, " row"], kind: str, cv: int | float, seed: int
) -> list[tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]]:
    """Split rows into those to train on and those to score by; classes keep their shares, however few their rows.

    Examples
    --------
    >>> [len(test) for _, test in held_out(np.arange(10.0), "regression", 3, 0)]
    [4, 3, 3]
    >>> [test.tolist() for _, test in held_out(np.array([0] * 8 + [1] * 2), "classification", 0.5, 0)]
    [[0, 2, 3, 4, 9]]
    """
    order = _dealt(y, kind, seed)
    rows = np.arange(len(y))
    if isinstance(cv, float):
        held = np.diff(np.floor(np.arange(len(y) + 1) * cv + 0.5)) > 0
        parts = [order[held]]
    else:
        parts = [order[fold::cv] for fold in range(cv)]
    return [(rows[~np.isin(rows, part)], np.sort(part)) for part in parts]


def _dealt(y: np.ndarray, kind: str, seed: int) -> Int[np.ndarray, " row"]:
    """Rows in an order in which every k-th row holds the classes in their shares: shuffled, then class by class."""
    order = np.random.default_rng(seed).permutation(len(y))
    if kind != "classification":
        return order
    _, codes = np.unique(y, return_inverse=True)
    return order[np.argsort(codes[order], kind="stable")]


def _thinned(task: Task, most: int | None, seed: int) -> Task:
    if most is None or len(task) <= most:
        return task
    order = _dealt(task.y, str(task.kind), seed + 1)
    return task.take(np.sort(order[np.linspace(0, len(order) - 1, most).round().astype(np.int64)]))


def _proper(probabilities: np.ndarray) -> np.ndarray:
    total = probabilities.sum(axis=1, keepdims=True)
    return np.where(total > 0, probabilities / np.where(total > 0, total, 1.0), 1.0 / probabilities.shape[1])
