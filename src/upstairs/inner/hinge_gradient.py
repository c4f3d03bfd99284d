"""How the loss of a fitted hinge-loss machine on query rows changes with its costs, widths and feature scales.

The machine is solved by libsvm on a precomputed kernel. Which support vectors are free and which are held by their cost
does not change under small changes of the params, and on the free ones the margins are met exactly: one linear system, whose
adjoint gives the gradient by every param at once [1]_ [2]_. The same system polishes libsvm's coefficients, so that the
gradient is that of the exact solution.

References
----------
.. [1] Chapelle, O., Vapnik, V., Bousquet, O. and Mukherjee, S. (2002). Choosing multiple parameters for support vector
   machines. Machine Learning 46, section 4.
.. [2] Keerthi, S. S., Sindhwani, V. and Chapelle, O. (2007). An efficient method for gradient-based adaptation of
   hyperparameters in SVM models. NeurIPS.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import SVC, SVR

from upstairs.inner.coupling import pairs_of

__all__ = ["Exact", "hinge_loss", "solved_exactly"]

_TOLERANCE = 1e-5
_ITERATIONS = 1_000_000


class Exact(NamedTuple):
    """One machine: signed coefficients, intercept, and which rows are free."""

    beta: Float[np.ndarray, " row"]
    intercept: float
    free: Bool[np.ndarray, " row"]


def solved_exactly(
    kernel: Float[np.ndarray, "row row"],
    target: Float[np.ndarray, " row"],
    cost: Float[np.ndarray, " row"],
    epsilon: float | None = None,
) -> Exact:
    """Solve one machine of two classes (``target`` 1 and -1) or of a regression (with ``epsilon``).

    Examples
    --------
    Two rows apart by two, a wide margin between them:

    >>> found = solved_exactly(np.array([[1.0, -1.0], [-1.0, 1.0]]), np.array([1.0, -1.0]), np.full(2, 10.0))
    >>> found.beta.round(6), abs(round(found.intercept, 6))
    (array([ 0.5, -0.5]), 0.0)
    """
    beta = np.zeros(len(target))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if epsilon is None:
            model = SVC(C=1.0, kernel="precomputed", tol=_TOLERANCE, max_iter=_ITERATIONS)
            model.fit(kernel, target, sample_weight=cost)
        else:
            model = SVR(C=1.0, kernel="precomputed", tol=_TOLERANCE, max_iter=_ITERATIONS, epsilon=epsilon)
            model.fit(kernel, target, sample_weight=cost)
    beta[model.support_] = model.dual_coef_[0]
    sign = np.sign(beta)
    size = np.abs(beta)
    held = size > cost * (1.0 - 1e-6)
    free = (size > 1e-8 * cost) & ~held
    beta = np.where(held, sign * cost, np.where(free, beta, 0.0))
    if not free.any():
        return Exact(beta, float(model.intercept_[0]), free)
    want = target[free] if epsilon is None else target[free] - epsilon * sign[free]
    right = np.append(want - kernel[np.ix_(free, held)] @ beta[held], -beta[held].sum())
    found = np.linalg.solve(_system(kernel, free), right)
    polished = found[:-1]
    inside = (np.sign(polished) == sign[free]) & (np.abs(polished) <= cost[free] * (1.0 + 1e-6))
    if inside.all():
        beta[free] = polished
        return Exact(beta, float(found[-1]), free)
    return Exact(beta, float(model.intercept_[0]), free)


def hinge_loss(
    params: Mapping[str, np.ndarray],
    x: Float[np.ndarray, "row feature"],
    y: np.ndarray,
    query: Float[np.ndarray, "query feature"],
    target: np.ndarray,
    *,
    kernel: str = "rbf",
    regression: bool = False,
) -> tuple[float, dict[str, np.ndarray]]:
    """Loss on the query rows, and its gradient.

    Parameters
    ----------
    params : mapping of arrays
        Logarithms: ``cost`` (one, or one a class), ``scale`` (one, or one a feature), ``slope`` () from decisions to log odds,
        or ``epsilon`` () of a regression.
    x, y, query, target
        Support and query rows; class numbers, or numbers.
    kernel : {"linear", "rbf"}
        ``sum_j s_j^2 a_j b_j``, or ``exp(-sum_j s_j^2 (a_j - b_j)^2 / 2)``.
    regression : bool

    Returns
    -------
    loss : float
        Mean log loss (classes by softmax of the sum of a class's decisions against each other one), or mean squared error.
    gradient : dict of arrays
        By every param.
    """
    scale = np.broadcast_to(np.exp(params["scale"]), (x.shape[1],))
    between = _Between(x * scale, query * scale, kernel)
    gradient = {name: np.zeros_like(np.asarray(value, float)) for name, value in params.items()}
    by_scale = np.zeros(x.shape[1])
    if regression:
        cost, epsilon = float(np.exp(params["cost"]).ravel()[0]), float(np.exp(params["epsilon"]))
        every = np.arange(len(y))
        found = solved_exactly(between.inside, y, np.full(len(y), cost), epsilon)
        rest = between.across @ found.beta + found.intercept - target
        back = _back(between, found, every, 2.0 * rest / len(target), np.sign(found.beta), epsilon)
        gradient["cost"] += (back.by_bound * np.abs(found.beta)).sum()
        gradient["epsilon"] += back.by_epsilon
        _spread(gradient, back.by_scale)
        return float(np.mean(rest**2)), gradient
    ways = max(int(max(y.max(), target.max(initial=0))) + 1, np.size(params["cost"]))
    costs = np.broadcast_to(np.exp(params["cost"]), (ways,))
    slope = float(np.exp(params["slope"]))
    score = np.zeros((len(query), ways))
    machines: list[tuple[int, int, np.ndarray, Exact]] = []
    for i, j in pairs_of(ways):
        rows = np.flatnonzero((y == i) | (y == j))
        if len(np.unique(y[rows])) < 2:
            continue
        sign = np.where(y[rows] == i, 1.0, -1.0)
        found = solved_exactly(between.inside[np.ix_(rows, rows)], sign, costs[y[rows]])
        decision = between.across[:, rows] @ found.beta + found.intercept
        score[:, i] += decision
        score[:, j] -= decision
        machines.append((int(i), int(j), rows, found))
    logits = slope * score if ways > 2 else 0.5 * slope * score
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    chosen = np.eye(ways)[target]
    loss = -float(np.log(np.maximum(share[np.arange(len(target)), target], 1e-300)).mean())
    by_logit = (share - chosen) / len(target)
    gradient["slope"] += (by_logit * logits).sum()
    by_score = by_logit * (slope if ways > 2 else 0.5 * slope)
    by_cost = np.zeros(ways)
    for i, j, rows, found in machines:
        back = _back(between, found, rows, by_score[:, i] - by_score[:, j], None, 0.0)
        np.add.at(by_cost, y[rows], back.by_bound * np.abs(found.beta))
        by_scale += back.by_scale
    gradient["cost"] += by_cost if np.size(params["cost"]) > 1 else by_cost.sum()
    _spread(gradient, by_scale)
    return loss, gradient


class _Back(NamedTuple):
    by_bound: Float[np.ndarray, " row"]
    by_epsilon: float
    by_scale: Float[np.ndarray, " feature"]


class _Between:
    """Kernel matrices of scaled rows, and what a change of the scales does to a weighted sum of their entries."""

    def __init__(self, x: np.ndarray, query: np.ndarray, kernel: str) -> None:
        self.x, self.query, self.kernel = x, query, kernel
        self.inside, self.across = self._of(x, x), self._of(query, x)

    def _of(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if self.kernel == "linear":
            return a @ b.T
        apart = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2.0 * a @ b.T
        return np.exp(-0.5 * np.maximum(apart, 0.0))

    def by_scale(self, rows: np.ndarray, found: Exact, on_query: np.ndarray, on_free: np.ndarray) -> np.ndarray:
        """Derivative by the log scales of ``on_query' K_qS beta - on_free' K_FS beta``."""
        used = np.flatnonzero(found.beta != 0)
        b, beta = self.x[rows[used]], found.beta[used]
        free = rows[found.free]
        total = np.zeros(self.x.shape[1])
        parts = (
            (self.query, on_query, self.across[:, rows[used]]),
            (self.x[free], -on_free, self.inside[np.ix_(free, rows[used])]),
        )
        for a, weight, kernel in parts:
            if self.kernel == "linear":
                total += 2.0 * (weight @ a) * (beta @ b)
                continue
            entry = weight[:, None] * kernel * beta
            total -= entry.sum(axis=1) @ (a * a) + entry.sum(axis=0) @ (b * b) - 2.0 * ((entry.T @ a) * b).sum(axis=0)
        return total


def _back(
    between: _Between,
    found: Exact,
    rows: np.ndarray,
    by_decision: Float[np.ndarray, " query"],
    sign: np.ndarray | None,
    epsilon: float,
) -> _Back:
    """Gradient of a loss by the bounds, epsilon (its log) and the scales, from that by the decisions at query rows."""
    free, held = found.free, ~found.free & (found.beta != 0)
    inside, across = between.inside[np.ix_(rows, rows)], between.across[:, rows]
    by_bound = np.zeros(len(rows))
    adjoint = np.zeros(int(free.sum()) + 1)
    if free.any():
        right = np.append(across[:, free].T @ by_decision, by_decision.sum())
        adjoint = np.linalg.solve(_system(inside, free), right)
    moved = across[:, held].T @ by_decision - inside[np.ix_(held, free)] @ adjoint[:-1] - adjoint[-1]
    by_bound[held] = moved * np.sign(found.beta[held])
    by_epsilon = 0.0 if sign is None else -float(adjoint[:-1] @ sign[free]) * epsilon
    return _Back(by_bound, by_epsilon, between.by_scale(rows, found, by_decision, adjoint[:-1]))


def _system(kernel: np.ndarray, free: np.ndarray) -> Float[np.ndarray, "bordered bordered"]:
    count = int(free.sum())
    found = np.ones((count + 1, count + 1))
    found[:-1, :-1] = kernel[np.ix_(free, free)]
    found[np.arange(count), np.arange(count)] += 1e-10 * max(float(np.trace(kernel)) / max(len(kernel), 1), 1e-300)
    found[-1, -1] = 0.0
    return found


def _spread(gradient: dict[str, np.ndarray], by_scale: np.ndarray) -> None:
    gradient["scale"] += by_scale if gradient["scale"].size > 1 else by_scale.sum()
