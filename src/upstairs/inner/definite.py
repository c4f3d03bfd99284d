"""Solve a batch of small symmetric positive definite systems by Cholesky's method, with little overhead for each."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.linalg.lapack import dposv, dtrtrs


def solve_definite(
    matrices: Float[np.ndarray, "batch rank rank"], sides: Float[np.ndarray, "batch side rank"]
) -> Float[np.ndarray, "batch side rank"]:
    """Solve ``matrices[b] @ answer[b, s] = sides[b, s]`` in place: ``sides`` become the answer and are returned.

    The upper triangle of ``matrices[b]`` becomes the factor ``R`` with ``R'R = matrices[b]``, for `squared_length`; what lies
    below means nothing. A matrix that rounding has made indefinite gets a diagonal of ``1e-13`` times its largest entry, then
    ten times more until it is definite: the answer is then that of a slightly stronger prior.

    Both arguments are contiguous float64 arrays without NaN.

    Examples
    --------
    >>> solve_definite(np.array([[[4.0, 0.0], [0.0, 2.0]]]), np.array([[[4.0, 4.0]]]))
    array([[[1., 2.]]])
    """
    if not matrices.shape[1] or not sides.shape[1]:
        return sides
    for k in range(len(matrices)):
        # a symmetric matrix read by columns is itself; sides read by columns are columns; LAPACK overwrites both
        kept = matrices[k].copy()
        failed = dposv(matrices[k].T, sides[k].T, 1, 1, 1)[2]
        jitter = 1e-13 * float(np.abs(np.diagonal(kept)).max()) if failed else 0.0
        while failed:
            matrices[k] = kept + jitter * np.eye(len(kept))
            failed = dposv(matrices[k].T, sides[k].T, 1, 1, 1)[2]
            jitter *= 10.0
    return sides


def squared_length(
    roots: Float[np.ndarray, "batch rank rank"], sides: Float[np.ndarray, "side rank"]
) -> Float[np.ndarray, "batch side"]:
    """``side' matrix^-1 side`` of every side, with the factors that `solve_definite` left in place of its matrices.

    Examples
    --------
    >>> matrices = np.array([[[4.0, 0.0], [0.0, 2.0]]])
    >>> _ = solve_definite(matrices, np.zeros((1, 1, 2)))
    >>> squared_length(matrices, np.array([[2.0, 0.0], [0.0, 2.0]]))
    array([[1., 2.]])
    """
    answer = np.zeros((len(roots), len(sides)))
    if not sides.size:
        return answer
    for k, root in enumerate(roots):
        solved = dtrtrs(root.T, sides.T, 1)[0]
        if len(sides) == 1:  # the same, in half the time
            along = solved[:, 0]
            answer[k, 0] = along @ along
        else:
            answer[k] = np.einsum("rs,rs->s", solved, solved)
    return answer
