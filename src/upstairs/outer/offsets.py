"""Pooled predictions that a learned tree stands on: what is known of a row before its task is looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float

from upstairs.inner.pooled import from_linear, pooled_prediction
from upstairs.outer.pooling import Data, Pooling
from upstairs.outer.reduction import Reduction, reduced

__all__ = ["KINDS", "Offset"]

KINDS = {"none": "", "linear": "ridge", "boosting": "boosting", "mean": ""}
"""Kinds of `Offset`, and what `upstairs.outer.pooling.Pooling` calls them. "mean": the mean decision of models of single
tasks, for many columns and rows that tasks share."""


@dataclass(frozen=True)
class Offset:
    """A pooled prediction for sets of folds, and of no column at all for the kind "none"."""

    data: Data
    kind: str
    found: dict[frozenset[int], tuple[np.ndarray, int]] = field(default_factory=dict)

    def told(self, folds: frozenset[int]) -> Float[np.ndarray, "row output"]:
        """Predictions for the rows of the tasks in ``folds`` by models that have not seen the task."""
        if self.kind == "none":
            return np.zeros((int(np.isin(self.data.row_fold, list(folds)).sum()), 0))
        if self.kind == "mean":
            return self._reduction.told(folds)[:, : self.outputs]
        return self._out_of_fold(folds)[0]

    def arrays(self, folds: frozenset[int]) -> dict[str, np.ndarray]:
        """The model of the tasks in ``folds``, as `upstairs.inner.pooled` has models."""
        if self.kind == "none":
            return {}
        if self.kind == "mean":
            coef = self._reduction.coef(folds)[0, :, : self.outputs]
            return from_linear(coef[1:], coef[0])
        return self._pooling.arrays(folds, self._out_of_fold(folds)[1])

    def of(self, folds: frozenset[int], x: Float[np.ndarray, "row feature"]) -> Float[np.ndarray, "row output"]:
        """Predictions for rows of other tasks by the model of the tasks in ``folds``."""
        if self.kind == "none":
            return np.zeros((len(x), 0))
        if self.kind == "mean":
            return reduced(self._reduction.coef(folds)[:, :, : self.outputs], x)
        return pooled_prediction(self.arrays(folds), x)

    @property
    def outputs(self) -> int:
        """Columns of the prediction: one, or one a class for more than two classes."""
        return self.data.ways if self.data.kind == "classification" and self.data.ways > 2 else 1

    def _out_of_fold(self, folds: frozenset[int]) -> tuple[np.ndarray, int]:
        if folds not in self.found:
            self.found[folds] = self._pooling.out_of_fold(folds)
        return self.found[folds]

    @cached_property
    def _pooling(self) -> Pooling:
        return Pooling(self.data, KINDS[self.kind])

    @cached_property
    def _reduction(self) -> Reduction:
        return Reduction.fit(self.data)
