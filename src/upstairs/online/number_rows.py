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
        try:
            found: np.ndarray = validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan")
        except ValueError as error:
            if (odd := _first_text(X)) is None:
                raise
            raise _not_a_number(*odd) from error
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
        For a key that is no column, and for a value that is no number.

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
    cells = []
    for name in names:
        cell = x.get(name)
        try:
            cells.append(np.nan if cell is None else float(cell))
        except (TypeError, ValueError) as error:
            raise _not_a_number(name, cell) from error
    return np.array([cells])


def _first_text(X: Any) -> tuple[Any, Any] | None:
    """The column and the value of the first cell of an array or a data frame that is text, and no number."""
    names = getattr(X, "columns", None)
    cells = np.asarray(X, dtype=object)
    for row in cells if cells.ndim == 2 else ():
        for number, cell in enumerate(row):
            if isinstance(cell, str) and not _reads(cell):
                return (number if names is None else list(names)[number]), cell
    return None


def _reads(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _not_a_number(column: Any, cell: Any) -> TaskError:
    return TaskError(
        f"X must be numbers, because the learner of this stream knows no columns, but column {column!r} has {cell!r}; encode it "
        "as numbers, drop it, or use a prior that was learned on these columns, which knows its categories."
    )
