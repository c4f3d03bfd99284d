"""Kernels of plain support vector machines between rows, and the distance that widths are measured by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

__all__ = ["KERNELS", "dense", "kernel_between", "middle_distance"]

KERNELS = ("linear", "rbf", "poly")
_LOOKED_AT = 256


def kernel_between(params: Mapping[str, np.ndarray], a: Any, b: Any) -> Float[np.ndarray, "first second"]:
    """Kernel of every row of ``a`` with every row of ``b`` (dense or sparse).

    Parameters
    ----------
    params : mapping of arrays
        ``kernel`` (its place in `KERNELS`), ``gamma``, ``degree`` and ``coef0``, as scikit-learn defines them.

    Examples
    --------
    >>> params = {"kernel": np.asarray(1.0), "gamma": np.asarray(0.5)}
    >>> kernel_between(params, np.zeros((1, 2)), np.ones((1, 2))).round(4)
    array([[0.3679]])
    """
    product = dense(a @ b.T)
    name = KERNELS[int(params["kernel"])]
    if name == "linear":
        return product
    gamma = float(params["gamma"])
    if name == "poly":
        return (gamma * product + float(params["coef0"])) ** int(params["degree"])
    apart = _squares(a)[:, None] + _squares(b)
    product *= 2.0
    apart -= product
    np.maximum(apart, 0.0, out=apart)
    apart *= -gamma
    return np.exp(apart, out=apart)


def middle_distance(x: Float[np.ndarray, "row feature"]) -> float:
    """Median of the squared distances of two (different) rows; of some rows, whatever their order, if there are many.

    Examples
    --------
    >>> middle_distance(np.array([[0.0], [3.0], [3.0]]))
    9.0
    """
    size = _squares(x)
    if len(x) > _LOOKED_AT:
        order = np.lexsort([x @ np.cos(np.arange(x.shape[1])), size])
        x = x[order[np.linspace(0, len(x) - 1, _LOOKED_AT).round().astype(np.int64)]]
        size = _squares(x)
    apart = (size[:, None] + size - 2.0 * x @ x.T)[np.tri(len(x), k=-1, dtype=bool)]  # every two rows once
    apart = apart[apart > 1e-9 * max(float(size.max(initial=0.0)), 1e-300)]
    return float(np.median(apart)) if len(apart) else 1.0


def dense(array: Any) -> np.ndarray:
    """Return an array, sparse or not, as a dense one."""
    return array.toarray() if hasattr(array, "toarray") else np.asarray(array)


def _squares(a: Any) -> Float[np.ndarray, " row"]:
    if hasattr(a, "multiply"):
        return np.asarray(a.multiply(a).sum(axis=1)).ravel()
    return np.einsum("nf,nf->n", a, a)
