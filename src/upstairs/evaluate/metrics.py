"""What a fitted model says about query rows, and how good that is."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.stats import norm

from upstairs.errors import TaskError
from upstairs.evaluate.calibration import confidence_bins
from upstairs.outer.ranks import area_under_curve

__all__ = [
    "COVERAGE",
    "METRICS",
    "Metric",
    "Scores",
    "classification_scores",
    "metrics_for",
    "regression_scores",
    "score",
]

COVERAGE = 0.9
"""Probability of the intervals whose coverage is measured."""
LEAST = 1e-12
"""Probabilities below count as this one in the log loss, so that one row costs at most 27.6."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One measure: which direction is good, and how it is written.

    ``goal`` is "higher", "lower", or a number that the mean should come near to (coverage).
    """

    name: str
    goal: Literal["higher", "lower"] | float
    meaning: str

    def loss(self, mean: float) -> float:
        """Turn a mean into a number of which less is better."""
        if isinstance(self.goal, float):
            return abs(mean - self.goal)
        return mean if self.goal == "lower" else -mean

    @property
    def said(self) -> str:
        """The direction in words."""
        return f"{self.goal} is better" if isinstance(self.goal, str) else f"{self.goal:g} is right"


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("mse", "lower", "squared error, target in standard deviations of the training targets"),
        Metric("mae", "lower", "absolute error, target in standard deviations of the training targets"),
        Metric("r2", "higher", "share of the variance inside a task that is explained"),
        Metric("nlpd", "lower", "negative log predictive density of the scaled target"),
        Metric("coverage", COVERAGE, "share of targets inside the 90 % interval"),
        Metric("auc", "higher", "area under the ROC curve"),
        Metric("accuracy", "higher", "share of right labels"),
        Metric("balanced_accuracy", "higher", "mean over the classes of the share of right labels"),
        Metric("log_loss", "lower", "negative log probability of the right label"),
        Metric("brier", "lower", "squared distance of the probabilities from the right label, from 0 to 2"),
    )
}


def metrics_for(kind: str, labels: str | None, classes: int) -> tuple[str, ...]:
    """Name the metrics of a kind of task, the primary one first.

    Examples
    --------
    >>> metrics_for("classification", "shared", 2)
    ('auc', 'log_loss', 'accuracy', 'balanced_accuracy', 'brier')
    """
    if kind == "regression":
        return ("mse", "r2", "mae", "nlpd", "coverage")
    if labels == "shared" and classes == 2:
        return ("auc", "log_loss", "accuracy", "balanced_accuracy", "brier")
    return ("accuracy", "log_loss", "balanced_accuracy", "brier")


class Scores(NamedTuple):
    """What was measured on some query rows: ``values`` by metric, and for probabilities ``bins`` of confidence."""

    values: dict[str, float]
    bins: Float[np.ndarray, "bin 3"] | None = None


def score(
    model: Any,
    X: Any,
    y: Shaped[np.ndarray, " row"],
    *,
    kind: str,
    labels: str | None,
    classes: Sequence[Any],
    scale: float,
) -> Scores:
    """Ask a fitted model about query rows and measure its answer.

    Parameters
    ----------
    model : fitted estimator
        Regression: ``predict`` (if it takes ``return_std``: densities, and normal intervals where the model has no
        ``predict_interval``). Classification: ``predict_proba`` and ``classes_``, or ``predict`` (and
        ``decision_function``).
    X : array or frame of query rows
    y : array of shape (row,)
        Targets or labels.
    kind, labels : str
    classes : sequence
        All labels that may occur, sorted.
    scale : float
        Regression: what the target is divided by.

    Raises
    ------
    ValueError
        If the model says something that is not finite or of the wrong shape.
    """
    if kind == "regression":
        if _takes_std(model):
            mean, std = (_finite(part, len(y)) for part in model.predict(X, return_std=True))
            interval = _interval(model, X, mean, std)
            return Scores(regression_scores(y / scale, mean / scale, std / scale, interval / scale))
        mean = _finite(model.predict(X), len(y))
        if hasattr(model, "predict_interval"):
            return Scores(regression_scores(y / scale, mean / scale, interval=_interval(model, X, mean, None) / scale))
        return Scores(regression_scores(y / scale, mean / scale))
    codes = _codes(y, classes)
    if hasattr(model, "predict_proba"):
        probability = _aligned(_finite(model.predict_proba(X), len(y), len(model.classes_)), model.classes_, classes)
        found = classification_scores(codes, probability, binary=labels == "shared" and len(classes) == 2)
        return Scores(found, confidence_bins(codes, probability))
    predicted = _codes(np.asarray(model.predict(X)), classes)
    found = _label_scores(codes, predicted)
    if labels == "shared" and len(classes) == 2:
        margin = (
            _finite(model.decision_function(X), len(y))
            if hasattr(model, "decision_function")
            else predicted.astype(float)
        )
        found["auc"] = area_under_curve(codes, margin)
    return Scores(found)


def regression_scores(
    y: Float[np.ndarray, " row"],
    mean: Float[np.ndarray, " row"],
    std: Float[np.ndarray, " row"] | None = None,
    interval: Float[np.ndarray, "row 2"] | None = None,
) -> dict[str, float]:
    """Measure predictions of a regression; ``r2`` of one row, or of targets that are all equal, is NaN.

    Examples
    --------
    >>> regression_scores(np.array([0.0, 2.0]), np.array([0.0, 1.0]))
    {'mse': 0.5, 'mae': 0.5, 'r2': 0.5}
    """
    error = y - mean
    spread = float(np.square(y - y.mean()).mean())
    mse = float(np.square(error).mean())
    found = {"mse": mse, "mae": float(np.abs(error).mean()), "r2": 1.0 - mse / spread if spread > 0 else np.nan}
    if std is not None:
        found["nlpd"] = float(-norm.logpdf(error, scale=np.maximum(std, 1e-9)).mean())
    if interval is not None:
        found["coverage"] = float(((y >= interval[:, 0]) & (y <= interval[:, 1])).mean())
    return found


def classification_scores(
    codes: Int[np.ndarray, " row"], probability: Float[np.ndarray, "row way"], *, binary: bool = False
) -> dict[str, float]:
    """Measure class probabilities; ``auc`` (binary) is NaN where only one class occurs.

    Examples
    --------
    >>> found = classification_scores(np.array([0, 1]), np.array([[0.8, 0.2], [0.4, 0.6]]), binary=True)
    >>> found["accuracy"], found["auc"], round(found["log_loss"], 4)
    (1.0, 1.0, 0.367)
    >>> round(found["brier"], 3)
    0.2
    """
    found = _label_scores(codes, probability.argmax(axis=1))
    chosen = probability[np.arange(len(codes)), codes]
    found["log_loss"] = float(-np.log(np.clip(chosen, LEAST, 1.0)).mean())
    found["brier"] = float((np.square(probability).sum(axis=1) - 2.0 * chosen + 1.0).mean())
    if binary:
        found["auc"] = area_under_curve(codes, probability[:, 1])
    return found


def _label_scores(codes: Int[np.ndarray, " row"], predicted: Int[np.ndarray, " row"]) -> dict[str, float]:
    right = codes == predicted
    recall = np.bincount(codes, weights=right) / np.maximum(np.bincount(codes), 1)
    return {"accuracy": float(right.mean()), "balanced_accuracy": float(recall[np.unique(codes)].mean())}


def _codes(y: Shaped[np.ndarray, " row"], classes: Sequence[Any]) -> Int[np.ndarray, " row"]:
    number = {label: code for code, label in enumerate(classes)}
    codes = [number.get(label, -1) for label in y.tolist()]
    if -1 in codes:
        raise TaskError(
            f"Label {y.tolist()[codes.index(-1)]!r} is not among the classes {', '.join(map(repr, list(classes)[:10]))}."
        )
    return np.array(codes, dtype=np.int64)


def _aligned(
    probability: Float[np.ndarray, "row own"], own: Any, classes: Sequence[Any]
) -> Float[np.ndarray, "row way"]:
    """Put the columns of a model into the order of ``classes``; classes it does not know get zero."""
    if list(own) == list(classes):
        return probability
    place = {label: code for code, label in enumerate(classes)}
    out = np.zeros((len(probability), len(classes)))
    for column, label in enumerate(np.asarray(own).tolist()):
        if label in place:
            out[:, place[label]] = probability[:, column]
    return out


def _interval(
    model: Any, X: Any, mean: Float[np.ndarray, " row"], std: Float[np.ndarray, " row"] | None
) -> Float[np.ndarray, "row 2"]:
    if hasattr(model, "predict_interval"):
        found = model.predict_interval(X, COVERAGE)
        return _finite(np.column_stack(found) if isinstance(found, tuple) else found, len(mean), 2)
    assert std is not None
    reach = norm.ppf(0.5 + COVERAGE / 2) * std
    return np.column_stack([mean - reach, mean + reach])


def _finite(values: Any, rows: int, columns: int | None = None) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if columns is None and array.shape == (rows, 1):
        array = array[:, 0]
    wanted = (rows,) if columns is None else (rows, columns)
    if array.shape != wanted:
        raise ValueError(f"predictions must have the shape {wanted}, but have {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(
            f"predictions must be finite, but that of query row {int(np.argwhere(~np.isfinite(array))[0][0])} is not"
        )
    return array


def _takes_std(model: Any) -> bool:
    try:
        return "return_std" in inspect.signature(model.predict).parameters
    except (TypeError, ValueError):
        return False
