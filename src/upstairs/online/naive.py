"""Learners of a stream that know nothing of X: the newest label, and the most frequent one or the mean. Beat them first."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from jaxtyping import Shaped
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from upstairs.errors import TaskError

__all__ = ["Average", "NoChange"]

KINDS = ("regression", "classification")


@final
class NoChange(BaseEstimator):
    """Predict the newest target that is known.

    Parameters
    ----------
    kind : {"classification", "regression"}

    Examples
    --------
    >>> NoChange().partial_fit([[0.0], [0.0]], ["up", "down"]).predict([[0.0]]).tolist()
    ['down']
    """

    def __init__(self, kind: str = "classification") -> None:
        self.kind = kind

    def __sklearn_tags__(self) -> Any:
        return _tags(super().__sklearn_tags__(), self.kind)

    def partial_fit(self, X: Any, y: Any) -> NoChange:
        """Learn targets; missing ones are left out."""
        present = _present(self.kind, y)
        if present:
            self.newest_ = present[-1]
        return self

    def predict(self, X: Any) -> Shaped[np.ndarray, " row"]:
        """Predict the same for all rows."""
        if not hasattr(self, "newest_"):
            raise NotFittedError("NoChange has seen no target yet; call partial_fit(X, y) first.")
        return np.repeat(np.asarray([self.newest_]), len(X))


@final
class Average(BaseEstimator):
    """Predict the most frequent label so far (of equal ones the first that came), or the mean so far.

    Parameters
    ----------
    kind : {"classification", "regression"}

    Examples
    --------
    >>> Average("regression").partial_fit([[0.0], [0.0]], [1.0, 2.0]).predict([[0.0]]).tolist()
    [1.5]
    """

    def __init__(self, kind: str = "classification") -> None:
        self.kind = kind

    def __sklearn_tags__(self) -> Any:
        return _tags(super().__sklearn_tags__(), self.kind)

    def partial_fit(self, X: Any, y: Any) -> Average:
        """Learn targets; missing ones are left out."""
        present = _present(self.kind, y)
        if self.kind == "regression":
            count, mean = getattr(self, "mean_", (0, 0.0))
            if present:
                total = count + len(present)
                self.mean_ = (total, mean + float(np.sum(np.subtract(present, mean))) / total)
            return self
        self.counts_ = getattr(self, "counts_", {})
        for label in present:
            self.counts_[label] = self.counts_.get(label, 0) + 1
        return self

    def predict(self, X: Any) -> Shaped[np.ndarray, " row"]:
        """Predict the same for all rows."""
        known = getattr(self, "mean_" if self.kind == "regression" else "counts_", None)
        if not known:
            raise NotFittedError("Average has seen no target yet; call partial_fit(X, y) first.")
        said = known[1] if self.kind == "regression" else max(known, key=known.__getitem__)
        return np.repeat(np.asarray([said]), len(X))


def _present(kind: str, y: Any) -> list[Any]:
    if kind not in KINDS:
        raise TaskError(f"kind={kind!r} must be one of {', '.join(map(repr, KINDS))}.")
    return [value for value in np.asarray(y).tolist() if value is not None and value == value]


def _tags(tags: Any, kind: str) -> Any:
    tags.estimator_type = "classifier" if kind == "classification" else "regressor"
    return tags
