"""Rows and targets as an estimator may be given them, checked the way scikit-learn checks them."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    check_array,
    column_or_1d,
    validate_data,
)

from upstairs.errors import TaskError
from upstairs.tasks.table import Table, is_frame

__all__ = ["checked_columns", "checked_targets"]


def checked_columns(estimator: Any, X: Any, *, reset: bool) -> Float[np.ndarray, "row feature"] | Table:
    """Take frames by name and arrays by position, both checked the way scikit-learn does; images as a prior knows them.

    Raises
    ------
    ValueError
        For columns that are not those of ``fit``, or that are no numbers in an array.
    TaskError
        For a frame without rows.
    """
    if not is_frame(X):
        X = _flat(estimator, X)
        if _passes(estimator, X, reset=reset):
            estimator.n_features_in_ = X.shape[1]
            return X
        found: np.ndarray = validate_data(estimator, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan")
        return found
    table = Table.from_frame(X)
    if not isinstance(X, Table):
        _check_feature_names(estimator, X, reset=reset)
        _check_n_features(estimator, X, reset=reset)
    elif reset:
        estimator.n_features_in_ = len(table.names)
    if reset and len(table) == 0:
        raise TaskError(f"X has 0 rows; {type(estimator).__name__} needs at least one (for none, see adapt_zero).")
    return table


def _passes(estimator: Any, X: Any, *, reset: bool) -> bool:
    """Whether scikit-learn's checks would return an array as it is; on few rows they take longer than a fit."""
    return (
        type(X) is np.ndarray
        and X.dtype == np.float64
        and X.ndim == 2
        and X.size > 0
        and not hasattr(estimator, "feature_names_in_")
        and (reset or getattr(estimator, "n_features_in_", None) == X.shape[1])
        and not np.isinf(X).any()
    )


def _flat(estimator: Any, X: Any) -> Any:
    """Lay images out as rows, where a prior was learned on images of that many pixels."""
    prior = getattr(estimator, "prior", None)
    if prior is None or getattr(X, "ndim", 0) < 3:
        return X
    rows = np.asarray(X)
    known = len(prior.settings.get("encoder", {}).get("columns", ()))
    return rows.reshape(len(rows), -1) if rows[:1].size == known else rows


def checked_targets(estimator: Any, kind: str, y: Any, rows: int) -> np.ndarray:
    """Return targets (float64) or labels as an array of one dimension.

    Raises
    ------
    ValueError
        For missing or infinite targets, continuous labels, or none at all.
    TaskError
        For several targets, or another number of rows than X has.
    """
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")
    if hasattr(y, "to_numpy"):
        y = y.to_numpy()
    if _targets_pass(kind, y):
        pass
    elif kind == "regression":
        y = check_array(y, ensure_2d=False, dtype="numeric", input_name="y", estimator=estimator)
        if y.ndim == 2 and y.shape[1] > 1:
            raise TaskError(
                f"y has {y.shape[1]} columns, but {type(estimator).__name__} predicts one target; make one task of each "
                "target (target=[...] in the readers)."
            )
        y = column_or_1d(y, warn=True).astype(np.float64, copy=False)
    else:
        y = column_or_1d(y, warn=True)
        if y.dtype == object and all(isinstance(value, bool | np.bool_) for value in y):
            y = y.astype(bool)
        assert_all_finite(y, input_name="y")
        check_classification_targets(y)
    if len(y) != rows:
        raise TaskError(
            f"X has {rows} rows and y has {len(y)}; they must be the same rows (inconsistent numbers of samples)."
        )
    found: np.ndarray = y
    return found


def _targets_pass(kind: str, y: Any) -> bool:
    """Whether scikit-learn's checks would return targets or labels as they are, without a warning."""
    if type(y) is not np.ndarray or y.ndim != 1 or len(y) == 0:
        return False
    if kind == "regression":
        return y.dtype == np.float64 and bool(np.isfinite(y).all())
    return y.dtype.kind in "biuU" and len(np.unique(y)) <= max(len(y) // 2, 2)
