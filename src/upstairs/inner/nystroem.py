"""Support vector machines for very many rows: some rows stand for all, and the weights are found by Newton's method.

With landmarks ``L`` the kernel is ``k(x, L) K_LL^-1 k(L, y)`` [1]_; in the features ``k(x, L) K_LL^-1/2`` the machine is
linear, and with the squared hinge loss (or the squared loss beyond epsilon) its objective is smooth and strictly convex,
so that a few Newton steps solve it [2]_.

References
----------
.. [1] Williams, C. and Seeger, M. (2001). Using the Nystroem method to speed up kernel machines. NeurIPS.
.. [2] Keerthi, S. S. and DeCoste, D. (2005). A modified finite Newton method for fast solution of large scale linear
   SVMs. JMLR 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from upstairs.inner.svm_kernel import KERNELS, dense, kernel_between

__all__ = ["approximate_machine"]

LANDMARKS = 400
_CELLS = 60_000_000
"""Numbers in the table of features at most."""
_STEPS = 25
_BLOCK = 4096


def approximate_machine(
    params: Mapping[str, np.ndarray],
    x: Any,
    target: Float[np.ndarray, "row output"],
    bound: Float[np.ndarray, " row"],
    *,
    epsilon: float | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit one machine an output.

    Parameters
    ----------
    params : mapping of arrays
        Of the kernel.
    x : array or sparse matrix of shape (row, feature)
    target : array of shape (row, output)
        1, -1 or 0 (row takes no part), or targets of a regression.
    bound : array of shape (row,)
        Cost of every row.
    epsilon : float, optional
        For a regression: residuals that cost nothing.

    Returns
    -------
    vectors, coef, intercept : arrays of shape (vector, feature), (vector, output) and (output,)
    """
    rows = x.shape[0]
    if KERNELS[int(params["kernel"])] == "linear" and x.shape[1] <= LANDMARKS:
        z, vectors, back = dense(x), np.eye(x.shape[1]), np.eye(x.shape[1])
    else:
        count = int(min(LANDMARKS, max(50, _CELLS // rows), rows))
        chosen = np.sort(np.random.default_rng(0).choice(rows, count, replace=False))
        vectors = dense(x[chosen])
        value, vector = np.linalg.eigh(kernel_between(params, vectors, vectors))
        keep = value > 1e-10 * max(float(value[-1]), 1e-300)
        back = vector[:, keep] / np.sqrt(value[keep])
        z = np.concatenate(
            [kernel_between(params, x[start : start + _BLOCK], vectors) @ back for start in range(0, rows, _BLOCK)]
        )
    weights = np.empty((z.shape[1], target.shape[1]))
    intercept = np.empty(target.shape[1])
    for number, y in enumerate(target.T):
        part = slice(None) if epsilon is not None or (y != 0).all() else np.flatnonzero(y)
        weights[:, number], intercept[number] = newton(z[part], y[part], bound[part], epsilon)
    return vectors, back @ weights, intercept


def newton(
    z: Float[np.ndarray, "row feature"],
    y: Float[np.ndarray, " row"],
    bound: Float[np.ndarray, " row"],
    epsilon: float | None,
) -> tuple[Float[np.ndarray, " feature"], float]:
    """Minimise ``|w|^2 / 2 + sum bound/2 loss(y, z w + b)^2`` with a free intercept (a penalty of 1e-6)."""
    design = np.concatenate([z, np.ones((len(z), 1))], axis=1)
    pull = np.ones(design.shape[1])
    pull[-1] = 1e-6
    weights = np.zeros(design.shape[1])

    def missed(score: np.ndarray) -> np.ndarray:
        """How far every row is from costing nothing, signed."""
        if epsilon is None:
            return y * np.maximum(1.0 - y * score, 0.0)
        rest = y - score
        return np.sign(rest) * np.maximum(np.abs(rest) - epsilon, 0.0)

    score = design @ weights
    rest = missed(score)
    value = 0.5 * (bound * rest**2).sum()
    for _ in range(_STEPS):
        gradient = pull * weights - design.T @ (bound * rest)
        if np.abs(gradient).max() <= 1e-8 * (1.0 + np.abs(bound).max() * len(z)):
            break
        active = rest != 0
        some = design[active] * np.sqrt(bound[active])[:, None]
        step = np.linalg.solve(some.T @ some + np.diag(pull), -gradient)
        along, length = design @ step, 1.0
        while True:
            new = missed(score + length * along)
            trial = weights + length * step
            reached = 0.5 * (pull * trial**2).sum() + 0.5 * (bound * new**2).sum()
            if reached <= value or length < 1e-6:
                break
            length *= 0.5
        done = value - reached <= 1e-10 * max(value, 1e-300)
        weights, score, rest, value = trial, score + length * along, new, reached
        if done:
            break
    return weights[:-1], float(weights[-1])
