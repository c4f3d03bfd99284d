"""How well very simple models do on a sample of rows: the shortest question that one can ask of a data set."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

__all__ = ["LANDMARKS", "LANDMARK_ROWS", "landmarks"]

LANDMARKS = (
    "share of variance explained by a ridge regression",
    "share of variance explained by a Gaussian kernel",
    "share of variance explained by the nearest row",
    "share of variance explained by ten nearest rows",
    "share of variance explained by one split",
)
"""Each between -1 and 1, each row predicted without itself (of the split: with)."""

LANDMARK_ROWS = 256
"""How many rows are looked at where nothing else is said."""
_PENALTIES = np.logspace(-3, 3, 7)


def landmarks(
    X: Float[np.ndarray, "row column"], target: Float[np.ndarray, "row output"], rows: int = LANDMARK_ROWS
) -> list[float]:
    """Score five models on a sample of rows.

    Parameters
    ----------
    X : array of shape (row, column)
        Standardised columns without NaN.
    target : array of shape (row, output)
        Centred, with variance 1 in sum over the outputs.
    rows : int
        At most so many are looked at.

    Examples
    --------
    >>> x = np.linspace(-1, 1, 100)[:, None]
    >>> [round(value, 1) for value in landmarks(x / x.std(), x / x.std())]
    [1.0, 1.0, 1.0, 1.0, 0.8]
    """
    if len(X) > rows:
        some = np.random.default_rng(0).choice(len(X), rows, replace=False)
        X, target = X[some], target[some]
    target = target - target.mean(axis=0)
    total = float((target**2).sum())
    if len(X) < 3 or total <= 0 or X.shape[1] == 0:
        return [0.0] * len(LANDMARKS)
    inner = X @ X.T
    size = np.diag(inner)
    distance = np.maximum(size[:, None] + size[None, :] - 2 * inner, 0.0)
    width = max(float(np.median(distance[np.tri(len(X), k=-1, dtype=bool)])), 1e-12)
    near = distance.copy()
    np.fill_diagonal(near, np.inf)
    nearest = np.argpartition(near, min(10, len(X) - 1), axis=1)[:, : min(10, len(X) - 1)]
    order = np.take_along_axis(nearest, np.argsort(np.take_along_axis(near, nearest, 1), axis=1, kind="stable"), 1)
    found = [
        _left_out(*_directions(X), target),
        _left_out(*_spectrum(np.exp(-distance / width)), target),
        float(((target - target[order[:, 0]]) ** 2).sum()),
        float(((target - target[order].mean(axis=1)) ** 2).sum()),
        total - _best_split(X, target),
    ]
    return [float(np.clip(1.0 - lost / total, -1.0, 1.0)) for lost in found]


def _spectrum(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors of a centred kernel matrix."""
    return np.linalg.eigh(kernel - kernel.mean(axis=0) - kernel.mean(axis=1)[:, None] + kernel.mean())


def _directions(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same of the linear kernel ``X X' / columns``, without the directions that have no variance."""
    vectors, singular, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    return singular**2 / X.shape[1], vectors


def _left_out(values: np.ndarray, vectors: np.ndarray, target: np.ndarray) -> float:
    """Squared leave-one-out error of ridge regression in a kernel, at the best of a few penalties."""
    values = np.maximum(values, 0.0)
    penalties = _PENALTIES * max(float(values.sum()) / len(target), 1e-12)
    taken = values / (values + penalties[:, None])
    residual = target - vectors @ (taken[:, :, None] * (vectors.T @ target))
    free = np.maximum(1.0 - taken @ (vectors**2).T - 1.0 / len(target), 1e-6)
    return float(((residual / free[:, :, None]) ** 2).sum(axis=(1, 2)).min())


def _best_split(X: np.ndarray, target: np.ndarray) -> float:
    """Sum of squares that the best split of one column explains."""
    order = np.argsort(X, axis=0, kind="stable")
    values = np.take_along_axis(X, order, axis=0)
    sums = np.cumsum(target[order], axis=0)[:-1]
    left = np.arange(1, len(X))[:, None, None]
    gained = (sums**2 / left + sums**2 / (len(X) - left)).sum(axis=2)
    gained[values[1:] <= values[:-1]] = 0.0
    return float(gained.max(initial=0.0))
