"""The machine of `upstairs.inner.prior_machine` in JAX, for one task: what its kernel and costs are learned with.

The rows that cost something are found by Newton's method, without gradients; on them the solution is one linear system, and
the gradient of that system is the exact gradient of the solution wherever no row changes sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped

from upstairs.inner.learned_kernel import PARTS, kernel_of_rows, squares_of
from upstairs.inner.traced import Arrays, Logits, Normal, Spec, TaskRows, TracedRule, log_density, masked_mean

__all__ = ["LOGS", "TracedMachine", "natural"]

LOGS = ("cost", "epsilon", "noise", "slope", "rbf", "poly", "lift", "spread")
"""Params that are learned as logarithms."""
_STEPS = 8
_LENGTHS = (1.0, 0.5, 0.25, 0.0625)


def natural(params: Mapping[str, Any], xp: Any) -> dict[str, Any]:
    """Undo logarithms, and fold ``lift`` into the prior decision function and ``spread`` into the factor of the kernel."""
    found = {name: xp.exp(array) if name in LOGS else array for name, array in params.items()}
    lift, spread = found.pop("lift"), found.pop("spread")
    found["mean"] = found["mean"] * lift + found.pop("level") * xp.eye(1, found["mean"].shape[-1])
    found["factor"] = found["factor"] * spread
    return found


@final
@dataclass(frozen=True)
class TracedMachine(TracedRule):
    """One task of a `PriorMachine`.

    ``params`` are those of `PriorMachine`, positive ones as logarithms, and ``lift``, ``spread`` and ``level``, by which the
    prior decision function and the linear part of the kernel are changed as a whole. What is not in ``trained`` stays.

    Parameters
    ----------
    ways : int
        0: a regression.
    parts : tuple of {"linear", "rbf", "poly"}
        Of the kernel.
    dimensions : int
        0: a scale for every feature; -1: one scale for all; else the dimensions of a linear map.
    trained : tuple of str
    own : bool
        Whether classes are a task's own.
    """

    ways: int
    parts: tuple[str, ...] = ("linear",)
    dimensions: int = 0
    trained: tuple[str, ...] = ("cost", "lift", "spread", "level", "slope", "epsilon")
    own: bool = False
    any_ways: ClassVar[bool] = True

    def __post_init__(self) -> None:
        odd = sorted(set(self.parts) - set(PARTS))
        if odd or not self.parts:
            raise ValueError(f"parts of the kernel must be some of {', '.join(PARTS)}, but are {self.parts!r}.")

    @property
    def fixed(self) -> tuple[str, ...]:
        """Params that are not trained."""
        every = (*LOGS, "level", "map", "mean", "factor")
        return tuple(name for name in every if name not in self.trained)

    def init(self, key: PRNGKeyArray, spec: Spec) -> dict[str, Array]:
        """No offset, and a linear part that is the same for every column; curved parts of one tenth and of one scale."""
        (columns,) = spec.inputs
        latents = 1 if self.ways <= 2 or self.own else self.ways
        found = {
            "mean": jnp.zeros((latents, 1 + columns)),
            "factor": jnp.tile(jnp.eye(1 + columns)[None] / jnp.sqrt(1.0 + columns), (latents, 1, 1)),
            "cost": jnp.zeros(1 if self.ways == 0 else 2),
            "lift": jnp.zeros(()),
            "spread": jnp.zeros(()),
            "level": jnp.zeros(()),
        }
        if self.ways == 0:
            found |= {"epsilon": jnp.full((), -6.0), "noise": jnp.zeros(())}
        else:
            found["slope"] = jnp.full((), 0.7)
        return found | curved_start(self, columns)

    def adapt(
        self, params: Arrays, x: Float[Array, "row ..."], y: Shaped[Array, "row ..."], mask: Bool[Array, " row"]
    ) -> dict[str, Array]:
        """Solve the task."""
        p = natural(params, jnp)
        latents = 1 if self.ways <= 2 and not (self.own and self.ways > 1) else self.ways
        real = mask.astype(x.dtype)
        phi = jnp.concatenate([jnp.ones((len(x), 1)), x], axis=1) * real[:, None]
        kernel = jnp.broadcast_to(kernel_of_rows(p, phi, phi, jnp), (latents, len(x), len(x)))
        if self.ways == 0:
            target, sign, cost = jnp.where(mask, y, 0.0)[None], None, (p["cost"] * real)[None]
        else:
            classes = jnp.ones(1, jnp.int32) if latents == 1 else jnp.arange(latents)
            member = y[None] == classes[:, None]
            target = jnp.where(member, 1.0, -1.0)
            sign, cost = target, jnp.where(member, p["cost"][1], p["cost"][0]) * real
        rest = target - jnp.broadcast_to((phi @ p["mean"].T).T, target.shape)
        epsilon = p.get("epsilon", jnp.zeros(()))
        still: list[Array] = [jax.lax.stop_gradient(array) for array in (kernel, rest, target, cost, epsilon)]
        active, shift = _sides(still[0], still[1], still[2], still[3], still[4], sign is None)
        matrix = jnp.where(active[:, :, None] & active[:, None, :], kernel, 0.0)
        inverse_cost = jnp.where(active, 1.0 / jnp.where(active, cost, 1.0), 1.0)
        matrix = matrix + inverse_cost[:, :, None] * jnp.eye(len(x))
        right = jnp.where(active, rest - epsilon * shift, 0.0)
        lower = jnp.linalg.cholesky(matrix)
        alpha = jax.vmap(lambda a, b: jax.scipy.linalg.cho_solve((a, True), b))(lower, right)
        found = {"x": x * real[:, None], "alpha": jnp.where(active, alpha, 0.0), "real": real}
        if self.ways == 0:
            half = jax.scipy.linalg.solve_triangular(lower[0], jnp.eye(len(x)), lower=True)
            found["half"] = jnp.where(active, half, 0.0)
        elif self.own:
            found["present"] = ((target > 0) & mask).any(axis=1).astype(x.dtype)
        return found

    def predict(
        self, params: Arrays, state: Arrays, x: Float[Array, "row ..."], mask: Bool[Array, " row"] | None = None
    ) -> Normal | Logits:
        """Predict rows."""
        p = natural(params, jnp)
        phi = jnp.concatenate([jnp.ones((len(x), 1)), x], axis=1)
        kept = jnp.concatenate([jnp.ones((len(state["x"]), 1)), state["x"]], axis=1) * state["real"][:, None]
        cross = kernel_of_rows(p, phi, kept, jnp)
        score = (phi @ p["mean"].T).T + (cross @ state["alpha"][..., None])[..., 0]
        if self.ways == 0:
            inside = squares_of(p, phi, jnp)[0]
            variance = jnp.maximum(inside - jnp.square(state["half"] @ cross[0].T).sum(axis=0), 0.0) + p["noise"]
            return Normal(score[0], variance)
        score = p["slope"] * score
        if "present" in state:
            score = jnp.where(state["present"][:, None] > 0, score, -1e9)
        return Logits(jnp.stack([jnp.zeros_like(score[0]), score[0]], axis=1) if len(score) == 1 else score.T)

    def outer_loss(self, params: Arrays, support: TaskRows, query: TaskRows, key: PRNGKeyArray) -> Float[Array, ""]:
        """Mean squared error of a regression's query rows, or the log loss of a classification's."""
        predicted = self.predict(params, self.adapt(params, *support), query.x, query.mask)
        if isinstance(predicted, Normal):
            return masked_mean(jnp.square(query.y - predicted.mean), query.mask)
        return masked_mean(-log_density(predicted, query.y), query.mask)


def curved_start(rule: TracedMachine, columns: int) -> dict[str, Array]:
    """Params of the curved parts before learning: small, and with features that are together about one wide."""
    found: dict[str, Array] = {name: jnp.full((), -2.3) for name in ("rbf", "poly") if name in rule.parts}
    if found:
        scale = columns**-0.5
        flat = jnp.full((columns,), scale)
        found["map"] = flat if rule.dimensions <= 0 else scale * jnp.eye(columns, rule.dimensions)
    return found


def _sides(kernel: Array, rest: Array, sign: Array, cost: Array, epsilon: Array, numbers: bool) -> tuple[Array, Array]:
    """Rows that cost something at the solution, and the sides on which they lie, for every machine of a task."""

    def lost(left: Array) -> Array:
        if numbers:
            return jnp.sign(left) * jnp.maximum(jnp.abs(left) - epsilon, 0.0)
        return sign * jnp.maximum(sign * left, 0.0)

    def value(alpha: Array, left: Array) -> Array:
        return 0.5 * (alpha * (rest - left)).sum(axis=-1) + 0.5 * (cost * lost(left) ** 2).sum(axis=-1)

    def step(_: Any, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        alpha, left = carry
        active = (cost > 0) & (lost(left) != 0)
        shift = jnp.sign(left) if numbers else jnp.zeros_like(left)
        matrix = jnp.where(active[:, :, None] & active[:, None, :], kernel, 0.0)
        matrix = matrix + jnp.where(active, 1.0 / jnp.where(active, cost, 1.0), 1.0)[:, :, None] * jnp.eye(
            left.shape[-1]
        )
        right = jnp.where(active, rest - epsilon * shift, 0.0)
        found = jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(matrix), True), right[..., None])[..., 0]
        target = jnp.where(active, found, 0.0)
        ahead = rest - (kernel @ target[..., None])[..., 0]
        lengths = jnp.array(_LENGTHS, left.dtype)[:, None, None]
        alphas, lefts = alpha + lengths * (target - alpha), left + lengths * (ahead - left)
        best = jnp.argmin(jax.vmap(value)(alphas, lefts), axis=0)
        pick = jnp.arange(len(best))
        return alphas[best, pick], lefts[best, pick]

    start = jnp.zeros_like(rest), rest
    _, left = jax.lax.fori_loop(0, _STEPS, step, start)
    return (cost > 0) & (lost(left) != 0), jnp.sign(left) if numbers else jnp.zeros_like(left)
