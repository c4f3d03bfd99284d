"""Rows of a stream whose columns are numbers: arrays, frames, and the dictionaries of river."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from upstairs.errors import TaskError
from upstairs.learners.rows import checked_targets
from upstairs.tasks.task import Kind

__all__ = ["NumberRows", "StreamRows", "row_of"]


class NumberRows(BaseEstimator):
    """Columns are known by the first rows; NaN is a missing cell, and rows without a label are left out."""

    _kind: Kind

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _columns(self, X: Any, *, reset: bool) -> Float[np.ndarray, "row feature"]:
        found: np.ndarray = validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan")
        return found

    def _labelled(self, X: Any, y: Any, *, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        """Rows that have a label."""
        x = self._columns(X, reset=reset)
        y = y if y is None or isinstance(y, np.ndarray) else np.asarray(y)
        if y is not None and y.ndim == 1 and len(y) == len(x) and y.dtype.kind in "fO":
            known = np.array([value is not None and value == value for value in y], dtype=bool)
            if known.any() and not known.all():
                y = np.array(y[known].tolist())
                x = x[known]
            elif not known.any():
                return x[:0], np.zeros(0)
        return x, checked_targets(self, self._kind, y, len(x))


class StreamRows(NumberRows):
    """Nothing but that, for a stream whose learner says nothing about columns.

    Parameters
    ----------
    kind : {"classification", "regression"}
    """

    def __init__(self, kind: Kind = "regression") -> None:
        self.kind = kind

    @property
    def _kind(self) -> Kind:  # type: ignore[override]
        return self.kind


def row_of(x: Mapping[str, Any], names: Sequence[str]) -> Float[np.ndarray, "one feature"]:
    """One row of numbers from a dictionary, in the order of names; a missing key is a missing cell.

    Raises
    ------
    TaskError
        For a key that is no column.

    Examples
    --------
    >>> row_of({"b": 2.0}, ["a", "b"])
    array([[nan,  2.]])
    """
    unknown = [name for name in x if name not in names]
    if unknown:
        raise TaskError(
            f"x has the key {unknown[0]!r}, which is no column of this stream; drop it, or start a new stream."
        )
    return np.array([[float(np.nan if x.get(name) is None else x[name]) for name in names]])
