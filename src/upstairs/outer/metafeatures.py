"""A data set in thirty numbers: cheap, bounded in time and memory, and never NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from upstairs.outer.landmarks import LANDMARK_ROWS, LANDMARKS, landmarks
from upstairs.tasks.table import Table, as_columns
from upstairs.tasks.task import Kind, infer_kind

__all__ = ["FEATURES", "describe", "feature_names"]

FEATURES: tuple[str, ...] = (
    "log10 rows",
    "log10 columns",
    "log10 rows per column",
    "share of category columns",
    "share of missing cells",
    "mean log2 categories of a category column",
    "share of columns with two values",
    "share of constant columns",
    "mean log distinct values, relative to rows",
    "mean log(1 + |skewness|)",
    "mean log(1 + excess kurtosis)",
    "share of zeros",
    "mean |correlation| of two columns",
    "largest |correlation| of two columns",
    "effective share of directions",
    "log2 classes",
    "share of the largest class",
    "log10 share of the smallest class",
    "entropy of the classes, relative to equal shares",
    "log(1 + |skewness|) of the target",
    "log(1 + excess kurtosis) of the target",
    "log distinct targets, relative to rows",
    "mean |correlation| of a column with the target",
    "largest |correlation| of a column with the target",
    "share of columns that are correlated with the target",
)
"""What the numbers of `describe` are, in order; the landmarks (see `upstairs.outer.landmarks`) come after them."""

_ROWS, _COLUMNS = 1000, 100
"""A larger table is described by so many rows and columns."""


def feature_names(*, with_landmarks: bool | int = True) -> tuple[str, ...]:
    """Names of what `describe` returns."""
    return FEATURES + (LANDMARKS if with_landmarks else ())


def describe(
    X: Any, y: Shaped[np.ndarray, " row"], kind: Kind | None = None, *, with_landmarks: bool | int = True
) -> Float[np.ndarray, " feature"]:
    """Describe a data set.

    Parameters
    ----------
    X : array of shape (row, column), or a data frame
        At most 1,000 rows and 100 columns are looked at, drawn with a fixed seed, after rows and columns were counted.
    y : array of shape (row,)
        Targets or labels.
    kind : {"regression", "classification"}, optional
        Inferred as for a `Task` when not given.
    with_landmarks : bool or int
        Append how well five very simple models predict held-out rows of a sample of 256, or of so many.

    Returns
    -------
    array of shape (feature,)
        Named by `feature_names`; finite whatever the table.

    Raises
    ------
    TaskError
        If the table cannot be read.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4))
    >>> found = dict(zip(feature_names(), describe(X, X @ [1.0, 0, 0, 0]).round(2).tolist()))
    >>> found["log10 rows"], found["largest |correlation| of a column with the target"]
    (2.3, 1.0)
    """
    X, y = as_columns(X), np.asarray(y)
    kind = kind or infer_kind(y)
    rows, columns = X.shape
    rng = np.random.default_rng(0)
    if rows > _ROWS:
        some = np.sort(rng.choice(rows, _ROWS, replace=False))
        X, y = (X.take(some) if isinstance(X, Table) else X[some]), y[some]
    names = np.sort(rng.choice(columns, _COLUMNS, replace=False)) if columns > _COLUMNS else np.arange(columns)
    coded, levels = _coded([X.columns[n] for n in names]) if isinstance(X, Table) else (X[:, names], 0 * names)
    numbers = levels == 0
    target = target_columns(y, kind)
    with np.errstate(all="ignore"):
        scaled = _scaled(coded)
        moving = (scaled != 0).any(axis=0)
        found = [
            *_shape(rows, columns, coded, levels),
            *_spread(coded[:, numbers], scaled[:, numbers & moving]),
            *_together(scaled[:, moving]),
            *_of_target(y, kind),
            *_association(scaled, target),
        ]
        if with_landmarks:
            size = LANDMARK_ROWS if with_landmarks is True else int(with_landmarks)
            found += landmarks(scaled if numbers.all() else _scaled(_one_hot(coded, levels)), target, size)
    return np.clip(np.nan_to_num(np.array(found, dtype=np.float64), posinf=20.0, neginf=-20.0), -20.0, 20.0)


def target_columns(y: Shaped[np.ndarray, " row"], kind: str) -> Float[np.ndarray, "row output"]:
    """One standardised column for numbers, one centred column a class for labels; all of them have variance 1 in sum."""
    raw = y[:, None] if kind == "regression" else y[:, None] == np.unique(y)[None, :]
    out = raw.astype(np.float64)
    out = out / max(float(np.abs(out).max(initial=0.0)), 1e-300)  # so that squares are finite
    out = out - out.mean(axis=0)
    total = np.sqrt(np.mean(out**2, axis=0).sum())
    return out / total if total > 0 else out


# --- columns as numbers ---------------------------------------------------------------------------------------------
def _coded(parts: list[np.ndarray]) -> tuple[Float[np.ndarray, "row column"], Int[np.ndarray, " column"]]:
    """Categories as codes, NaN for a missing cell; and the number of categories of a column (0: numbers)."""
    coded = np.full((len(parts[0]) if parts else 0, len(parts)), np.nan, order="F")
    levels = np.zeros(len(parts), dtype=np.int64)
    for number, part in enumerate(parts):
        if part.dtype != object:
            coded[:, number] = part
            continue
        text = [None if value is None else str(value) for value in part]
        code = {value: place for place, value in enumerate(sorted({value for value in text if value is not None}))}
        coded[:, number] = [np.nan if value is None else code[value] for value in text]
        levels[number] = max(len(code), 1)
    return coded, levels


def _one_hot(coded: np.ndarray, levels: np.ndarray, most: int = 10) -> np.ndarray:
    """Numbers as they are, categories as a column for each of the first few."""
    wide = [coded[:, levels == 0]]
    for number in np.flatnonzero(levels):
        wide.append((coded[:, [number]] == np.arange(min(levels[number], most))).astype(np.float64))
    return np.concatenate(wide, axis=1)[:, : 2 * _COLUMNS]


def _scaled(X: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1 a column, missing cells 0; huge numbers are divided first, so that squares are finite."""
    missing = np.isnan(X)
    moved = np.where(missing, 0.0, X)
    moved /= np.abs(moved).max(axis=0, initial=1.0)
    count = np.maximum(len(X) - missing.sum(axis=0), 1)
    moved -= moved.sum(axis=0) / count
    moved[missing] = 0.0
    spread = np.sqrt(np.square(moved).sum(axis=0) / count)
    moved /= np.where(spread > 1e-12, spread, np.inf)
    return moved


# --- the groups of numbers ------------------------------------------------------------------------------------------
def _shape(rows: int, columns: int, coded: np.ndarray, levels: np.ndarray) -> list[float]:
    ordered = np.sort(coded.T, axis=1)  # missing cells stand last
    there = ~np.isnan(ordered)
    distinct = there[:, :1].sum(axis=1) + ((ordered[:, 1:] != ordered[:, :-1]) & there[:, 1:]).sum(axis=1)
    categories = levels[levels > 0]
    return [
        np.log10(max(rows, 1)),
        np.log10(max(columns, 1)),
        np.log10(max(rows, 1) / max(columns, 1)),
        _mean(levels > 0),
        _mean(np.isnan(coded)),
        _mean(np.log2(np.maximum(categories, 1))),
        _mean(distinct == 2),
        _mean(distinct <= 1),
        _mean(np.log(np.maximum(distinct[levels == 0], 1))) / max(np.log(max(len(coded), 2)), 1e-9),
    ]


def _spread(numbers: np.ndarray, moving: np.ndarray) -> list[float]:
    squares = moving * moving
    third, fourth = np.mean(squares * moving, axis=0), np.mean(squares * squares, axis=0)
    return [
        _mean(np.log1p(np.abs(third))),
        _mean(np.log1p(np.maximum(fourth - 3.0, 0.0))),
        _mean(numbers == 0),
    ]


def _together(moving: np.ndarray) -> list[float]:
    if moving.shape[1] < 2:
        return [0.0, 0.0, 1.0]
    correlation = moving.T @ moving / len(moving)
    apart = np.abs(correlation[~np.eye(len(correlation), dtype=bool)])
    share = np.trace(correlation) ** 2 / max(float((correlation**2).sum()), 1e-12) / len(correlation)
    return [float(apart.mean()), float(apart.max()), float(share)]


def _of_target(y: np.ndarray, kind: str) -> list[float]:
    if kind != "regression":
        shares = np.unique(y, return_counts=True)[1] / max(len(y), 1)
        entropy = -float(shares @ np.log(shares)) / np.log(max(len(shares), 2))
        return [np.log2(len(shares)), shares.max(), np.log10(shares.min()), entropy, 0.0, 0.0, 0.0]
    z = _scaled(y.astype(np.float64)[:, None])[:, 0]
    distinct = np.log(len(np.unique(y))) / np.log(max(len(y), 2))
    return [0.0, 0.0, 0.0, 0.0, np.log1p(abs(np.mean(z**3))), np.log1p(max(np.mean(z**4) - 3.0, 0.0)), distinct]


def _association(scaled: np.ndarray, target: np.ndarray) -> list[float]:
    """Correlation with the target: of a class target the root of what a column explains of all class columns."""
    explained = np.sqrt(((scaled.T @ target / max(len(scaled), 1)) ** 2).sum(axis=1))
    if not len(explained):
        return [0.0, 0.0, 0.0]
    return [_mean(explained), float(explained.max()), _mean(explained > 2.0 / np.sqrt(len(scaled)))]


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if np.size(values) else 0.0
