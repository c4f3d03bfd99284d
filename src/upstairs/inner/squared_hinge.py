"""Support vector machines with a squared loss, an offset and the intercept in the kernel, solved by Newton's method.

For every task (and every latent: one for two classes or a regression, else one a class) this finds the function
``f = offset + g`` that minimises ``|g|^2 / 2 + sum_i cost_i / 2 loss_i^2`` in the space of the kernel, where the loss is
``max(0, 1 - t f)`` for a target ``t`` of 1 or -1, and ``max(0, |t - f| - epsilon)`` for a number. On a fixed set of rows
with a loss the solution is linear, so that Newton's method moves from set to set and ends after a few [1]_; a line search
keeps it from going in circles. All tasks of a batch are solved at once.

References
----------
.. [1] Chapelle, O. (2007). Training a support vector machine in the primal. Neural Computation 19, sections 3 and 4.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

__all__ = ["Solved", "solve_squared"]

_STEPS = 60


class Solved(NamedTuple):
    """Dual coefficients (zero where a row costs nothing), which rows cost, the signs of their loss, and the objective."""

    alpha: Float[np.ndarray, "machine row"]
    active: Bool[np.ndarray, "machine row"]
    objective: Float[np.ndarray, " machine"]


def solve_squared(
    kernel: Float[np.ndarray, "machine row row"],
    rest: Float[np.ndarray, "machine row"],
    sign: Float[np.ndarray, "machine row"] | None,
    cost: Float[np.ndarray, "machine row"],
    epsilon: float = 0.0,
    active: Bool[np.ndarray, "machine row"] | None = None,
) -> Solved:
    """Solve machines that are laid out along one axis.

    Parameters
    ----------
    kernel : array of shape (machine, row, row)
    rest : array of shape (machine, row)
        Target minus offset.
    sign : array of shape (machine, row), optional
        The targets 1 and -1 of a classification; None for a regression.
    cost : array of shape (machine, row)
        Zero for rows that take no part.
    epsilon : float
        Of a regression.
    active : array of shape (machine, row), optional
        Where to start: rows that are thought to cost something.

    Examples
    --------
    Two rows on their own: ``f = alpha``, and ``alpha = cost (1 - f)`` gives one half for a cost of one.

    >>> solve_squared(np.eye(2)[None], np.array([[1.0, -1.0]]), np.array([[1.0, -1.0]]), np.ones((1, 2))).alpha
    array([[ 0.5, -0.5]])
    """
    real = cost > 0
    active = real.copy() if active is None else active & real
    alpha = np.zeros_like(rest)
    left = rest.copy()

    def lost(left: np.ndarray) -> np.ndarray:
        """Signed loss of every row, given target minus decision."""
        if sign is not None:
            return sign * np.maximum(sign * left, 0.0)
        return np.sign(left) * np.maximum(np.abs(left) - epsilon, 0.0)

    def value(alpha: np.ndarray, left: np.ndarray) -> np.ndarray:
        return 0.5 * (alpha * (rest - left)).sum(axis=1) + 0.5 * (cost * lost(left) ** 2).sum(axis=1)

    now = value(alpha, left)
    shift = _shift(left, sign, epsilon)
    for _ in range(_STEPS):
        target = on_active(kernel, rest - shift, cost, active)
        ahead = rest - _times(kernel, target)
        length = np.ones(len(rest))
        for _ in range(30):
            part = length[:, None]
            new_alpha, new_left = alpha + part * (target - alpha), left + part * (ahead - left)
            reached = value(new_alpha, new_left)
            worse = reached > now + 1e-12 * (1.0 + np.abs(now))
            if not worse.any():
                break
            length = np.where(worse, 0.5 * length, length)
        gain = now - reached
        alpha, left, now = new_alpha, new_left, reached
        new_active, new_shift = real & (lost(left) != 0), _shift(left, sign, epsilon)
        settled = (new_active == active).all(axis=1) & (new_shift == shift).all(axis=1) & (length == 1.0)
        if (settled | (gain <= 1e-14 * np.maximum(now, 1e-300)) & (length == 1.0)).all():
            active = new_active
            break
        active, shift = new_active, new_shift
    return Solved(alpha, active, now)


def on_active(
    kernel: Float[np.ndarray, "machine row row"],
    target: Float[np.ndarray, "machine row"],
    cost: Float[np.ndarray, "machine row"],
    active: Bool[np.ndarray, "machine row"],
) -> Float[np.ndarray, "machine row"]:
    """Solve ``(K + 1 / cost) alpha = target`` on the active rows; zero elsewhere."""
    found = np.linalg.solve(matrix_on(kernel, cost, active), np.where(active, target, 0.0)[..., None])[..., 0]
    return np.where(active, found, 0.0)


def matrix_on(kernel: np.ndarray, cost: np.ndarray, active: np.ndarray) -> Float[np.ndarray, "machine row row"]:
    """``K + 1 / cost`` on the active rows, the identity elsewhere."""
    matrix = np.where(active[:, :, None] & active[:, None, :], kernel, 0.0)
    rows = np.arange(matrix.shape[1])
    matrix[:, rows, rows] += np.where(active, 1.0 / np.where(active, cost, 1.0), 1.0)
    return matrix


def _shift(left: np.ndarray, sign: np.ndarray | None, epsilon: float) -> np.ndarray:
    """What epsilon moves the targets by."""
    return np.zeros_like(left) if sign is not None or epsilon == 0.0 else epsilon * np.sign(left)


def _times(kernel: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return (kernel @ alpha[..., None])[..., 0]
