"""Recognise a data set by its content: under another name, in another order of rows or columns."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped, UInt64

from upstairs.tasks.table import Table, as_columns

__all__ = ["fingerprint", "fingerprints", "row_codes"]

_ODD = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def fingerprint(X: Any, y: Shaped[np.ndarray, " row"]) -> str:
    """Name the rows and targets of a data set by their content: 32 hexadecimal digits.

    The order of rows and columns, names of columns and the data type of numbers do not matter; one changed cell does.

    Parameters
    ----------
    X : array of shape (row, feature), or a data frame
    y : array of shape (row,)

    Examples
    --------
    >>> X, y = np.arange(6.0).reshape(3, 2), np.array(["a", "b", "b"])
    >>> fingerprint(X, y) == fingerprint(X[::-1, ::-1], y[::-1])
    True
    >>> fingerprint(X, y) == fingerprint(X, y[::-1])
    False
    """
    return fingerprints(X, y, np.array([0, len(y)]))[0]


def fingerprints(X: Any, y: Shaped[np.ndarray, " row"], offsets: Int[np.ndarray, " boundary"]) -> list[str]:
    """`fingerprint` of every stretch of rows, from ``offsets[t]`` to ``offsets[t + 1]``, none of them empty.

    Examples
    --------
    >>> X, y = np.arange(6.0).reshape(3, 2), np.array(["a", "b", "b"])
    >>> fingerprints(X, y, np.array([0, 1, 3])) == [fingerprint(X[:1], y[:1]), fingerprint(X[1:], y[1:])]
    True
    """
    X = as_columns(X)
    rows = row_codes(X, y)
    sums = [np.add.reduceat(codes, offsets[:-1]).tolist() for codes in (rows, _mixed(rows ^ _ODD))]
    parts = zip(np.diff(offsets).tolist(), [X.shape[1]] * (len(offsets) - 1), *sums, strict=True)
    return [hashlib.blake2b(repr(part).encode(), digest_size=16).hexdigest() for part in parts]


def row_codes(X: Any, y: Shaped[np.ndarray, " row"]) -> UInt64[np.ndarray, " row"]:
    """One number a row, by its content: equal for equal rows, whatever the order of columns."""
    X = as_columns(X)
    rows = np.zeros(len(y), dtype=np.uint64)
    for column in X.columns if isinstance(X, Table) else tuple(X.T):
        rows += _mixed(_codes(column))
    found: np.ndarray = _mixed(rows + _mixed(_codes(y) ^ _ODD))
    return found


def _codes(values: Shaped[np.ndarray, " row"]) -> UInt64[np.ndarray, " row"]:
    """One number a cell: the bits of a number, or a hash of the text; missing cells are alike."""
    if values.dtype.kind in "fiub":
        numbers = values.astype(np.float64) + 0.0
        return np.where(np.isnan(numbers), np.nan, numbers).view(np.uint64)
    text = np.array(["\0missing" if value is None else str(value) for value in values])
    found, where = np.unique(text, return_inverse=True)
    hashes = [int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little") for value in found]
    return np.array(hashes, dtype=np.uint64)[where]


def _mixed(values: UInt64[np.ndarray, " row"]) -> UInt64[np.ndarray, " row"]:
    """Scatter the bits of each number (the finaliser of SplitMix64)."""
    values = (values + _ODD).astype(np.uint64)
    values = (values ^ (values >> np.uint64(30))) * _FIRST
    values = (values ^ (values >> np.uint64(27))) * _SECOND
    return values ^ (values >> np.uint64(31))
