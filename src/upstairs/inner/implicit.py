"""Implicit MAML: the outer gradient of a solved problem, whatever way it was solved.

References
----------
.. [1] Rajeswaran, A., Finn, C., Kakade, S. and Levine, S. (2019). Meta-learning with implicit gradients. NeurIPS,
   arXiv 1909.04630; equations 3 to 7, lemma 1, algorithm 2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Shaped

from upstairs.inner.descent import SGD, Descent
from upstairs.inner.gradient import Composed, Maml, part
from upstairs.inner.traced import Arrays
from upstairs.nets.build import Net

__all__ = ["ImplicitMaml", "conjugate_gradients"]

LEAST_CURVATURE = 0.5
"""Of ``I + H / regulariser``, which is at least 1 in every direction where the task's loss is convex."""
ROUNDING = 1e-6
"""Relative rise of the problem that counts as none."""
_SGD = SGD(0.1)


@final
@dataclass(frozen=True)
class ImplicitMaml(Composed):
    """MAML whose task is a problem to be solved, not a number of steps [1]_.

    On a task the weights ``phi`` go down ``L(phi) + regulariser / 2 * ||phi - start||^2`` by gradient steps from the
    start, where ``L`` is half the mean squared error, or the mean log loss, of the support rows. Learned over tasks:
    the start (``net/...``), and for a regression the noise (``noise``, the log of its variance). At the solution the
    gradient of the start is ``(I + H / regulariser)^-1 g``, with ``H`` the Hessian of ``L`` and ``g`` the gradient of
    the query loss: it needs no memory of the steps, and no derivative of them. It is only right where the problem is
    solved, which `residual` tells. Rates that a ``descent`` would learn get no gradient. Departures from the paper:
    conjugate gradients start at ``g`` and not at zero, and stop at a direction along which the loss curves down by
    half the regulariser or more, so that the worst answer is the first-order gradient; support rows that are altered get no gradient.

    Parameters
    ----------
    net : Net
        Maps features to the mean of the target, or to the logits of a fixed number of classes.
    ways : int
        Classes; 0 for a regression.
    steps : int
        Gradient steps towards the solution. A step that leads uphill is not made, and those after it are half as long.
    regulariser : float
        How strongly a task is held to the start (lambda of the paper); it also acts on new tasks.
    cg_steps : int
        Conjugate gradient steps of the outer gradient; 0: the first-order gradient.
    damping : float
        Added to the regulariser in the outer gradient only, where the Hessian may be indefinite: the gradient moves
        towards the first-order one.
    descent : Descent

    Raises
    ------
    ValueError
        If the regulariser is not positive, or the damping is negative.

    Examples
    --------
    >>> from upstairs.nets import NetSpec
    >>> from upstairs.inner.traced import Spec
    >>> rule = ImplicitMaml(NetSpec("mlp", (3,), (), 1), steps=200)
    >>> params = jax.jit(rule.init, static_argnums=1)(jax.random.key(0), Spec((3,)))
    >>> rows = jnp.eye(3), jnp.ones(3), jnp.ones(3, bool)
    >>> bool(jax.jit(rule.residual)(params, *rows) < 1e-4)
    True
    """

    net: Net
    ways: int = 0
    steps: int = 16
    regulariser: float = 0.5
    cg_steps: int = 5
    damping: float = 0.0
    descent: Descent = _SGD

    def __post_init__(self) -> None:
        if not self.regulariser > 0:
            raise ValueError(f"ImplicitMaml: regulariser must be positive, but is {self.regulariser}; use 0.5, say.")
        if not self.damping >= 0:
            raise ValueError(f"ImplicitMaml: damping must not be negative, but is {self.damping}; use 0 or more.")

    @property
    def inside(self) -> Maml:
        """The network, its start and its predictions."""
        return Maml(self.net, self.ways, self.steps, self.descent)

    def adapt(
        self, params: Arrays, x: Float[Array, "row ..."], y: Shaped[Array, "row ..."], mask: Bool[Array, " row"]
    ) -> dict[str, Array]:
        """Solve the problem as far as the steps go."""
        return _solved(self, part(params, "net"), part(params, "descent"), x, y, mask)

    def residual(
        self, params: Arrays, x: Float[Array, "row ..."], y: Shaped[Array, "row ..."], mask: Bool[Array, " row"]
    ) -> Float[Array, ""]:
        """Norm of the gradient of the task's problem after the steps; zero where it is solved.

        Compare it with that of the same rule with ``steps=0``, the gradient at the start.
        """
        state = self.adapt(params, x, y, mask)
        gradient = jax.grad(functools.partial(_problem, self, part(params, "net"), x, y, mask))(state)
        return jnp.linalg.norm(ravel_pytree(gradient)[0])


def _problem(rule: ImplicitMaml, start: Arrays, x: Array, y: Array, mask: Array, weights: Arrays) -> Array:
    away = sum((jnp.square(weights[name] - start[name]).sum() for name in start), jnp.zeros(()))
    return rule.inside.inner_loss(weights, x, y, mask) + 0.5 * rule.regulariser * away


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _solved(
    rule: ImplicitMaml, start: dict[str, Array], settings: dict[str, Array], x: Array, y: Array, mask: Array
) -> dict[str, Array]:
    problem = functools.partial(_problem, rule, start, x, y, mask)

    def step(carry: Any, _: None) -> tuple[Any, None]:
        weights, memory, value, scale = carry
        ahead, later = rule.descent.update(settings, memory, jax.grad(problem)(weights), weights)
        ahead = {name: weights[name] + scale * (ahead[name] - weights[name]) for name in weights}
        new = problem(ahead)
        down = new <= value + ROUNDING * jnp.abs(value)  # false for a value that is not a number
        kept = jax.tree.map(lambda a, b: jnp.where(down, a, b), (ahead, later, new), (weights, memory, value))
        return (*kept, scale * jnp.where(down, 1.0, 0.5)), None

    begin = (dict(start), rule.descent.init(settings, start), problem(start), jnp.ones((), x.dtype))
    return jax.lax.scan(step, begin, None, length=rule.steps)[0][0]


def _forward(rule: ImplicitMaml, start: Any, settings: Any, x: Array, y: Array, mask: Array) -> Any:
    solution = _solved(rule, start, settings, x, y, mask)
    return solution, (solution, settings, x, y, mask)


def _backward(rule: ImplicitMaml, held: Any, cotangent: Any) -> Any:
    solution, settings, x, y, mask = held
    flat, unravel = ravel_pytree(solution)
    slope = jax.grad(lambda weights: rule.inside.inner_loss(unravel(weights), x, y, mask))
    strength = rule.regulariser + rule.damping

    def product(vector: Array) -> Array:
        return vector + jax.jvp(slope, (flat,), (vector,))[1] / strength

    found = conjugate_gradients(product, ravel_pytree(cotangent)[0], rule.cg_steps, LEAST_CURVATURE)
    return unravel(found), jax.tree.map(jnp.zeros_like, settings), None, None, None


_solved.defvjp(_forward, _backward)


def conjugate_gradients(
    product: Callable[[Float[Array, " weight"]], Float[Array, " weight"]],
    target: Float[Array, " weight"],
    steps: int,
    least: float = 0.0,
) -> Float[Array, " weight"]:
    """Solve ``A v = target`` for a symmetric ``A`` by a fixed number of conjugate gradient steps from ``v = target``.

    Parameters
    ----------
    product : callable
        Multiplies a vector by ``A``.
    target : array of shape (weight,)
    steps : int
        Most steps; it stops before where the residual is zero.
    least : float
        It also stops before a direction ``d`` whose curvature ``d A d / d d`` is not above this.

    References
    ----------
    Nocedal, J. and Wright, S. (2006). Numerical optimization, algorithms 5.2 and 7.1.

    Examples
    --------
    >>> matrix = jnp.array([[2.0, 1.0], [1.0, 3.0]])
    >>> found = conjugate_gradients(lambda v: matrix @ v, jnp.array([3.0, 4.0]), 2)
    >>> [round(value, 5) for value in found.tolist()]
    [1.0, 1.0]
    """
    if steps == 0:
        return target

    def step(carry: Any, _: None) -> tuple[Any, None]:
        value, rest, direction, norm = carry
        ahead = product(direction)
        curvature = direction @ ahead
        go = curvature > least * (direction @ direction)
        size = jnp.where(go, norm / jnp.where(go, curvature, 1.0), 0.0)
        value, rest = value + size * direction, rest - size * ahead
        new = rest @ rest
        turned = rest + jnp.where(go, new / jnp.where(norm > 0.0, norm, 1.0), 0.0) * direction
        return (value, rest, jnp.where(go, turned, 0.0), new), None  # a zero direction has no curvature: it stays

    rest = target - product(target)
    return jax.lax.scan(step, (target, rest, rest, rest @ rest), None, length=steps)[0][0]
