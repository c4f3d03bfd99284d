"""The dual of the multi-class support vector machine, solved exactly and differentiable by its optimality conditions.

With ``G`` the kernel matrix, ``Y`` the one-hot classes and ``C`` the cost, `solve_dual` finds the ``alpha`` that
minimises ``0.5 sum_k alpha_k' G alpha_k - sum_n alpha_{y_n, n}`` where ``alpha <= C Y`` and every row of data sums to
zero over the classes ([1]_ program 7, [2]_ equation 6). Written for ``beta = C Y - alpha`` every row of data has a
simplex of its own, and Newton's systems fall apart into one matrix of size row x row for every class, and one more that
ties the classes together: an interior-point iteration costs ``O(way row^3)``, and not ``O((way row)^3)``. The last
iterates are polished by solving the equations that hold on the free variables alone, until the set of these is stable.

Arrays have the shape (way, row), so that linear algebra runs over the last axes. Rows that are masked out and classes
without rows take no part: their ``alpha`` is zero.

References
----------
.. [1] Crammer, K. and Singer, Y. (2001). On the algorithmic implementation of multiclass kernel-based vector machines.
   JMLR 2, section 4.
.. [2] Lee, K., Maji, S., Ravichandran, A. and Soatto, S. (2019). Meta-learning with differentiable convex optimization.
   CVPR; equations 4 to 9 (the implicit function theorem on the optimality conditions).
.. [3] Mehrotra, S. (1992). On the implementation of a primal-dual interior point method. SIAM J. Optim. 2, 575-601.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

__all__ = ["duality_gap", "solve_dual"]

MOST_ITERATIONS = 40
POLISHES = 3
_TOLERANCE = {"float32": 1e-5, "float64": 1e-11}
"""Gap at which the interior-point method stops, a unit of cost and a row."""
_STAY = 0.995
"""Share of the way to the boundary that a step goes at most."""


class _System(NamedTuple):
    """Newton's matrix, factored: an inverse for every class, and the root of what ties the classes together."""

    inverse: Float[Array, "way row row"]
    lower: Float[Array, "row row"]


class _Iterate(NamedTuple):
    beta: Float[Array, "way row"]
    slack: Float[Array, "way row"]
    level: Float[Array, " row"]
    count: Any
    going: Any


@jax.custom_vjp
def solve_dual(
    kernel: Float[Array, "row row"],
    cost: Float[Array, ""],
    target: Float[Array, "way row"],
    valid: Bool[Array, "way row"],
) -> Float[Array, "way row"]:
    """Solve the dual; first derivatives by ``kernel`` and ``cost`` come from the optimality conditions.

    Where a variable sits at its bound without being held there, the derivative is one-sided and either side may be
    given.

    Parameters
    ----------
    kernel : array of shape (row, row)
        Symmetric and positive definite (a multiple of the identity added to a kernel makes it so).
    cost : array of shape ()
        Positive.
    target : array of shape (way, row)
        One-hot classes; zero for rows that are masked out.
    valid : array of shape (way, row)
        Which variables there are: false for rows that are masked out and for classes that take no part. A row with
        any is to have that of its own class.

    Returns
    -------
    alpha : array of shape (way, row)

    Examples
    --------
    Two rows of different classes: the gradient of the cost of margins is zero at ``alpha = 1 / 2``.

    >>> found = jax.jit(solve_dual)(2.0 * jnp.eye(2), jnp.array(10.0), jnp.eye(2), jnp.ones((2, 2), bool))
    >>> [[round(value, 3) for value in row] for row in found.tolist()]
    [[0.25, -0.25], [-0.25, 0.25]]
    """
    return _solve(kernel, cost, target, valid)


def duality_gap(
    kernel: Float[Array, "row row"],
    cost: Float[Array, ""],
    target: Float[Array, "way row"],
    valid: Bool[Array, "way row"],
    alpha: Float[Array, "way row"],
) -> Float[Array, ""]:
    """Primal minus dual objective at a feasible ``alpha``; zero at the solution and nowhere else.

    Both objectives are never formed: their difference is the sum of non-negative products, without cancellation.
    """
    return jnp.sum((cost * target - alpha) * _slack(kernel, target, valid, alpha))


def _slack(kernel: Array, target: Array, valid: Array, alpha: Array) -> Float[Array, "way row"]:
    """How far every constraint of the primal is from being the largest of its row."""
    reach = jnp.where(valid, alpha @ kernel - target, -jnp.inf)
    top = jnp.where(valid.any(axis=0), reach.max(axis=0), 0.0)
    return jnp.where(valid, top - reach, 0.0)


def _solve(kernel: Array, cost: Array, target: Array, valid: Array) -> Float[Array, "way row"]:
    beta, slack = _interior(kernel, cost, target, valid)
    free = _free(kernel, beta, slack, cost, valid)
    return _polished(kernel, cost, target, valid, _feasible(_alpha(beta, target), cost, target, valid), free)


def _interior(kernel: Array, cost: Array, target: Array, valid: Array) -> tuple[Array, Array]:
    """Predictor and corrector steps from the middle of the simplices; every iterate is feasible [3]_."""
    rows, number = valid.any(axis=0), jnp.maximum(valid.sum(), 1)
    tolerance = _TOLERANCE[kernel.dtype.name]
    total = jnp.where(rows, cost, 0.0)

    def reach(beta: Array) -> Array:
        return _alpha(beta, target) @ kernel - target

    def step(now: _Iterate) -> _Iterate:
        beta, slack, level = now.beta, now.slack, now.level
        safe = jnp.where(valid, beta, 1.0)
        system = _factored(kernel, valid, slack / safe)
        dual_rest = jnp.where(valid, slack - (level - reach(beta)), 0.0)
        rest = total - beta.sum(axis=0)

        def direction(push: Array) -> tuple[Array, Array, Array]:
            change, raised = _solved(system, jnp.where(valid, push / safe - slack + dual_rest, 0.0), rest)
            return change, jnp.where(valid, push / safe - slack - slack / safe * change, 0.0), raised

        change, relax, _ = direction(jnp.zeros_like(beta))
        length = _length(beta, slack, change, relax, valid, 1.0)
        mean = (beta * slack).sum() / number
        ahead = ((beta + length * change) * (slack + length * relax)).sum() / number
        centre = jnp.power(jnp.clip(ahead / mean, 0.0, 1.0), 3) * mean
        change, relax, raised = direction(centre - change * relax)
        length = _length(beta, slack, change, relax, valid, _STAY)
        new = (beta + length * change, slack + length * relax, level + length * raised)
        fine = jnp.stack([jnp.isfinite(array).all() for array in new]).all()
        kept = [jnp.where(fine, array, old) for array, old in zip(new, (beta, slack, level), strict=True)]
        far = (kept[0] * kept[1]).sum() > tolerance * (target * _alpha(kept[0], target)).sum()
        return _Iterate(kept[0], kept[1], kept[2], now.count + 1, fine & far)

    beta = jnp.where(valid, total / jnp.maximum(valid.sum(axis=0), 1), 0.0)
    first = reach(beta)
    level = jnp.where(rows, jnp.where(valid, first, -jnp.inf).max(axis=0), 0.0) + 1.0
    slack = jnp.where(valid, level - first, 0.0)
    start = _Iterate(beta, slack, level, jnp.int32(0), valid.any())
    end = jax.lax.while_loop(lambda now: now.going & (now.count < MOST_ITERATIONS), step, start)
    return end.beta, end.slack


def _polished(
    kernel: Array, cost: Array, target: Array, valid: Array, alpha: Array, free: Array
) -> Float[Array, "way row"]:
    """Solve on the free variables, let those change, and keep what closes the gap best."""

    def once(_: Any, carry: Any) -> Any:
        best, gap, free = carry
        held = jnp.where(valid & ~free, cost * target, 0.0)
        right = jnp.where(free, target - held @ kernel, 0.0)
        found, level = _solved(_factored(kernel, free, jnp.zeros_like(best)), right, -held.sum(axis=0))
        found = found + held
        slack = jnp.where(free, 0.0, -level - (found @ kernel - target))
        inside = _feasible(found, cost, target, valid)
        inside_gap = duality_gap(kernel, cost, target, valid, inside)
        better = inside_gap < gap  # false for NaN
        after = _free(kernel, jnp.where(valid, cost * target - found, 0.0), slack, cost, valid)
        return jnp.where(better, inside, best), jnp.where(better, inside_gap, gap), after

    start = (alpha, duality_gap(kernel, cost, target, valid, alpha), free)
    return jax.lax.fori_loop(0, POLISHES, once, start)[0]


def _free(kernel: Array, beta: Array, slack: Array, cost: Array, valid: Array) -> Bool[Array, "way row"]:
    """Variables that are further from their bound than the bound is from holding them, both in units of a margin."""
    most = (beta >= beta.max(axis=0)) & (beta > 0.0)
    return valid & ((beta * jnp.maximum(1.0 / cost, jnp.diagonal(kernel)) > slack) | most)


def _alpha(beta: Array, target: Array) -> Float[Array, "way row"]:
    """Return ``C Y - beta`` without the cancellation where the cost is large."""
    others = beta * (1.0 - target)
    return target * others.sum(axis=0) - others


def _feasible(alpha: Array, cost: Array, target: Array, valid: Array) -> Float[Array, "way row"]:
    """Clip to the bounds, and make rows sum to zero."""
    others = jnp.where(valid, jnp.maximum(-alpha, 0.0), 0.0) * (1.0 - target)
    total = others.sum(axis=0)
    others = others * jnp.minimum(1.0, cost / jnp.where(total > 0.0, total, 1.0))
    return target * others.sum(axis=0) - others


def _length(beta: Array, slack: Array, change: Array, relax: Array, valid: Array, share: float) -> Float[Array, ""]:
    """Longest step up to one that keeps both positive."""

    def most(value: Array, by: Array) -> Array:
        shrinks = valid & (by < 0.0)
        return jnp.where(shrinks, value / jnp.where(shrinks, -by, 1.0), jnp.inf).min()

    return jnp.minimum(1.0, share * jnp.minimum(most(beta, change), most(slack, relax)))


def _factored(kernel: Array, part: Array, diagonal: Array) -> _System:
    """Factor ``[[G + D, A'], [A, 0]]`` on a part of the variables; ``A`` sums a row over its classes."""
    eye = jnp.eye(kernel.shape[0], dtype=kernel.dtype)
    both = part[:, :, None] & part[:, None, :]
    matrix = jnp.where(both, kernel, 0.0) + jnp.where(part, diagonal, 1.0)[:, :, None] * eye
    roots = jnp.linalg.cholesky(matrix)
    half = jax.scipy.linalg.solve_triangular(roots, jnp.broadcast_to(eye, roots.shape), lower=True)
    inverse = jnp.where(both, half.mT @ half, 0.0)
    alone = jnp.where(part.any(axis=0), 0.0, 1.0)
    return _System(inverse, jnp.linalg.cholesky(inverse.sum(axis=0) + alone[:, None] * eye))


def _solved(system: _System, right: Array, total: Array) -> tuple[Array, Array]:
    """Solve for variables and multipliers: variables of a row sum to ``total``."""
    some = jnp.einsum("wab,wb->wa", system.inverse, right)
    level = jax.scipy.linalg.cho_solve((system.lower, True), some.sum(axis=0) - total)
    return some - jnp.einsum("wab,b->wa", system.inverse, level), level


def _forward(kernel: Array, cost: Array, target: Array, valid: Array) -> tuple[Array, Any]:
    alpha = _solve(kernel, cost, target, valid)
    return alpha, (kernel, cost, target, valid, alpha)


def _backward(kept: Any, gradient: Array) -> tuple[Array, Array, None, None]:
    """Solve the equations of the free variables once more, with the gradient on the right [2]_."""
    kernel, cost, target, valid, alpha = kept
    beta = jnp.where(valid, cost * target - alpha, 0.0)
    free = _free(kernel, beta, _slack(kernel, target, valid, alpha), cost, valid)
    system = _factored(kernel, free, jnp.zeros_like(beta))
    moved, level = _solved(system, jnp.where(free, gradient, 0.0), jnp.zeros_like(cost))
    by_kernel = -jnp.einsum("wa,wb->ab", moved, alpha)
    held = valid & ~free  # alpha = C Y moves with the cost, and the free ones with it
    by_cost = jnp.where(held, target * (gradient - moved @ kernel - level), 0.0).sum()
    return by_kernel, by_cost, None, None


solve_dual.defvjp(_forward, _backward)
