"""The kernel that is learned over tasks: a linear part, a Gaussian part and a quadratic part, added up.

Linear: ``phi(a)' F F' phi(b)`` on the columns ``phi = [1, x, m(x)]``, where ``F`` holds in which directions tasks differ
(its first line the intercept). Gaussian: ``s exp(-|M'(a - b)|^2 / 2)``, where ``M`` is a scale for every feature, or a
map to few dimensions. Quadratic: ``s ((M'a . M'b) / 2 + 1)^2 / 4``. Written for NumPy and JAX alike (``xp``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["PARTS", "curved_between", "kernel_of_rows", "squares_of"]

PARTS = ("linear", "rbf", "poly")


def kernel_of_rows(params: Mapping[str, Any], phi: Any, other: Any, xp: Any) -> Any:
    """Kernel between rows: shape (..., latent, row, other row).

    Parameters
    ----------
    params : mapping of arrays
        ``factor`` (latent, column, rank), and of the curved parts that there are ``rbf`` and ``poly`` (amplitudes) and
        ``map`` (feature,) or (feature, dimension).
    phi, other : arrays of shape (..., row, column)
        Columns ``[1, x, m(x)]``; the features ``x`` are as many as ``map`` has.
    xp : module
        ``numpy`` or ``jax.numpy``.
    """
    left = phi[..., None, :, :] @ params["factor"]
    right = left if other is phi else other[..., None, :, :] @ params["factor"]
    found = left @ xp.swapaxes(right, -1, -2)
    if is_curved(params):
        columns = params["map"].shape[0]
        curved = curved_between(params, phi[..., 1 : 1 + columns], other[..., 1 : 1 + columns], xp)
        found = found + curved[..., None, :, :]
    return found


def is_curved(params: Mapping[str, Any]) -> bool:
    """Whether there is more than the linear part."""
    return "rbf" in params or "poly" in params


def curved_between(params: Mapping[str, Any], a: Any, b: Any, xp: Any) -> Any:
    """Sum of the Gaussian and the quadratic part between rows of features: shape (..., row, other row)."""
    by = params["map"]
    a, b = (rows * by if by.ndim == 1 else rows @ by for rows in (a, b))
    product = a @ xp.swapaxes(b, -1, -2)
    found = 0.0
    if "rbf" in params:
        apart = (a * a).sum(-1)[..., :, None] + (b * b).sum(-1)[..., None, :] - 2.0 * product
        found = found + params["rbf"] * xp.exp(-0.5 * xp.maximum(apart, 0.0))
    if "poly" in params:
        found = found + params["poly"] * 0.25 * (0.5 * product + 1.0) ** 2
    return found


def squares_of(params: Mapping[str, Any], phi: Any, xp: Any) -> Any:
    """Kernel of every row with itself: shape (..., latent, row)."""
    left = phi[..., None, :, :] @ params["factor"]
    found = (left * left).sum(-1)
    if not is_curved(params):
        return found
    by = params["map"]
    a = phi[..., 1 : 1 + by.shape[0]]
    a = a * by if by.ndim == 1 else a @ by
    size = (a * a).sum(-1)
    curved = 0.0 * size
    if "rbf" in params:
        curved = curved + params["rbf"]
    if "poly" in params:
        curved = curved + params["poly"] * 0.25 * (0.5 * size + 1.0) ** 2
    return found + curved[..., None, :]
