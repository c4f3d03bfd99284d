"""What a support vector machine says about its own rows when each is left out, without fitting anything again.

If leaving a row out changes none of the sets "free", "at the bound" and "not a support vector", then the decision at
a support vector p changes by ``coef_p S_p^2``, where ``S_p`` is the distance of its image from the span of the free
ones [1]_. All spans come from one matrix inverse. Departure: vectors at their bound give way too, held by a ridge of
`HELD` over their bound, which is nearer to fits without the row wherever sets do change (few free vectors, as in a linear
machine, would otherwise be made to answer for all). These decisions are what probabilities and intervals are set by:
decisions at rows that a machine was fitted to are too sure of themselves.

References
----------
.. [1] Vapnik, V. and Chapelle, O. (2000). Bounds on error expectation for support vector machines. Neural
   Computation 12, theorem 2.2 (equality) and section 5.
.. [2] Platt, J. (1999). Probabilistic outputs for support vector machines. Advances in large margin classifiers.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.linalg.lapack import dpotrf, dtrtri

__all__ = ["left_out", "slope_of"]

HELD = 10.0
_BLOCK = 600
"""Support vectors whose span is computed together; with more, each part has a (smaller) span of its own."""
_SLOPES = np.linspace(np.log(0.02), np.log(50.0), 64)


def left_out(
    kernel: Float[np.ndarray, "vector vector"],
    coef: Float[np.ndarray, " vector"],
    decision: Float[np.ndarray, " vector"],
    bound: Float[np.ndarray, " vector"],
) -> Float[np.ndarray, " vector"]:
    """Decision at every support vector by the machine without it.

    Parameters
    ----------
    kernel : array of shape (vector, vector)
        Between the support vectors.
    coef : array of shape (vector,)
        Signed dual coefficients.
    decision : array of shape (vector,)
        At the support vectors, by the whole machine.
    bound : array of shape (vector,)
        Most that each ``|coef|`` may be.

    Examples
    --------
    Two rows on a line, one of each class, with the margin between them: without either the other's class is said.

    >>> kernel, bound = np.array([[1.0, -1.0], [-1.0, 1.0]]), np.full(2, 9.0)
    >>> left_out(kernel, np.array([0.5, -0.5]), np.array([1.0, -1.0]), bound).round(6)
    array([-1.,  1.])
    """
    usual = max(float(np.trace(kernel)) / max(len(kernel), 1), 1e-300)
    ridge = np.where(np.abs(coef) < bound * (1.0 - 1e-6), 0.0, HELD / bound)
    span = np.empty(len(coef))
    for start in range(0, len(coef), _BLOCK):
        part = slice(start, start + _BLOCK)
        # coefficients sum to zero: a constant changes nothing, and the matrix can be inverted
        root = _inverse_root(kernel[part, part] + usual, ridge[part], 1e-10 * usual)
        along = root.sum(axis=1) @ root  # sums of the inverse's rows: the intercept borders the system
        own = np.square(root).sum(axis=0) - along**2 / max(float(along.sum()), 1e-300)
        span[part] = np.maximum(1.0 / np.maximum(own, 1e-300) - ridge[part], 0.0)
    return decision - coef * span


def _inverse_root(
    matrix: Float[np.ndarray, "row row"], ridge: Float[np.ndarray, " row"], jitter: float
) -> Float[np.ndarray, "row row"]:
    """Return ``R`` with ``R' R`` the inverse of a symmetric matrix, positive but for rounding, and a ridge (both used up)."""
    diagonal = matrix.diagonal() + ridge
    while True:
        np.fill_diagonal(matrix, diagonal + jitter)
        root, failed = dpotrf(matrix.T, lower=1)
        if not failed:
            found: np.ndarray = dtrtri(root, lower=1, overwrite_c=1)[0]
            return found
        jitter *= 10.0


def slope_of(
    margin: Float[np.ndarray, " row"],
    shift: Float[np.ndarray, " row"],
    weight: Float[np.ndarray, " row"],
    mean: float,
    spread: float,
) -> float:
    """Slope ``a`` of ``p(own class) = 1 / (1 + exp(-a margin - shift))``: most probable under a log-normal prior.

    Parameters
    ----------
    margin : array of shape (row,)
        Decision times the sign of the row's own class, the row left out.
    shift : array of shape (row,)
        Log odds that are added whatever the margin (of class weights).
    weight : array of shape (row,)
        How many rows each counts as.
    mean, spread : float
        Mean and standard deviation of ``log a`` over tasks.

    Examples
    --------
    >>> round(slope_of(np.zeros(0), np.zeros(0), np.zeros(0), 0.5, 1.0), 2)
    1.65
    """
    odds = np.exp(_SLOPES)[:, None] * margin + shift
    line = (np.maximum(-odds, 0.0) + np.log1p(np.exp(-np.abs(odds)))) @ weight  # a quarter of the time of logaddexp
    value = line + 0.5 * ((_SLOPES - mean) / spread) ** 2
    best = int(np.clip(np.argmin(value), 1, len(_SLOPES) - 2))
    before, at, after = value[best - 1 : best + 2]
    bend = before - 2.0 * at + after
    step = 0.5 * (before - after) / bend if bend > 0 else 0.0
    return float(np.exp(_SLOPES[best] + np.clip(step, -1.0, 1.0) * (_SLOPES[1] - _SLOPES[0])))
