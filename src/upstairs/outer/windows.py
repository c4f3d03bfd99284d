"""Gradients from windows of long runs: runs go on from one outer step to the next, and each step sees a piece of them.

An outer step then costs a window, however long a run is. Truncated back-propagation ignores how earlier windows depend
on the params; the two evolution strategies do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, final

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray

from upstairs.inner.loss_descent import Unrolled
from upstairs.inner.traced import Arrays
from upstairs.inner.trajectory import Run
from upstairs.outer.draws import Draw
from upstairs.outer.outer_gradient import limited

__all__ = ["Windows"]

_KINDS = ("truncated", "nres", "pes")


class _Particle(NamedTuple):
    """One run that is under way; evolution strategies have a twin with the opposite noise."""

    task: Any
    run: Run
    twin: Run
    first: Float[Array, ""]
    noise: Float[Array, " number"]
    key: Array
    until: Int[Array, ""]


@final
@dataclass(frozen=True)
class Windows:
    """How gradients come from windows.

    Parameters
    ----------
    kind : {"truncated", "nres", "pes"}
        "truncated": back through the window alone, which is biased towards what pays at once. "nres": evolution
        strategies with the noise of a run held until its end (noise-reuse). "pes": new noise in every window and its
        sum as the weight (persistent evolution strategies). Both are unbiased, the first has less variance.
    window : int
        Steps.
    sigma : float
        Deviation of the noise.

    References
    ----------
    Vicol, P., Metz, L. and Sohl-Dickstein, J. (2021). Unbiased gradient estimation in unrolled computation graphs with
    persistent evolution strategies. ICML, arXiv 2112.13835; algorithm 2.
    Li, O. et al. (2023). Variance-reduced gradient estimation via noise-reuse in online evolution strategies. NeurIPS,
    arXiv 2304.12180; algorithm 2.

    Examples
    --------
    >>> Windows("nres", window=20)
    Windows(kind='nres', window=20, sigma=0.01)
    """

    kind: Literal["truncated", "nres", "pes"]
    window: int = 20
    sigma: float = 0.01

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"Windows: kind must be one of {', '.join(map(repr, _KINDS))}, but is {self.kind!r}.")
        if not (isinstance(self.window, int) and self.window >= 1):
            raise ValueError(f"Windows: window must be a whole number of at least 1, but is {self.window!r}.")
        if not self.sigma > 0:
            raise ValueError(f"Windows: sigma must be a positive number, but is {self.sigma!r}.")

    def begin(self, rule: Any, draw: Draw, data: Any, params: Arrays, seed: Any) -> _Particle:
        """Start a run for every task of a batch; their first ends are spread, so that all ages are seen at all times."""
        _, tasks, _ = draw(data, seed, jnp.uint32(0))
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 0x57A7), draw.batch)
        windows = -(-rule.steps // self.window)
        until = self.window * (1 + jnp.arange(draw.batch) * windows // draw.batch)
        return jax.vmap(lambda task, key, end: self._begun(rule, params, task, key, end))(tasks, keys, until)

    def step(
        self,
        rule: Any,
        draw: Draw,
        data: Any,
        params: Arrays,
        particles: _Particle,
        clip: float | None,
        seed: Any,
        number: Any,
    ) -> tuple[Array, Float[Array, " task"], dict[str, Array], _Particle]:
        """Go a window further with every run; runs that are over begin anew on tasks of this step.

        Returns
        -------
        tasks, losses, gradient, particles
            Numbers of the tasks that were drawn, mean counted loss of every window, mean gradient, and where the runs
            are now.
        """
        chosen, tasks, _ = draw(data, seed, number)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number), draw.batch)

        def one(particle: _Particle, task: Any, key: PRNGKeyArray) -> tuple[Array, dict[str, Array], _Particle]:
            fresh = self._begun(rule, params, task, key, jnp.asarray(rule.steps))
            over = particle.run.step >= particle.until
            particle = jax.tree.map(lambda new, old: jnp.where(over, new, old), fresh, particle)
            loss, gradient, particle = self._further(rule, params, particle, key)
            return *limited(loss, gradient, clip, rule.forgiving), particle

        losses, gradients, particles = jax.vmap(one)(particles, tasks, keys)
        return chosen, losses, jax.tree.map(lambda part: part.mean(axis=0), gradients), particles

    def _begun(self, rule: Unrolled, params: Arrays, task: Any, key: Array, until: Array) -> _Particle:
        size = ravel_pytree(dict(params))[0].size
        noise = jax.random.normal(key, (size,)) if self.kind == "nres" else jnp.zeros(size)
        moved, opposite = self._moved(params, noise)
        run, first = rule.begin(moved, task, key)
        return _Particle(task, run, rule.begin(opposite, task, key)[0], first, noise, key, until)

    def _moved(self, params: Arrays, noise: Array) -> tuple[dict[str, Array], dict[str, Array]]:
        flat, back = ravel_pytree(dict(params))
        return back(flat + self.sigma * noise), back(flat - self.sigma * noise)

    def _further(
        self, rule: Unrolled, params: Arrays, particle: _Particle, key: PRNGKeyArray
    ) -> tuple[Array, dict[str, Array], _Particle]:
        def counted(params: Arrays, run: Run) -> tuple[Array, Run]:
            run, losses = rule.proceed(params, particle.task, run, self.window, particle.key)
            return rule.objective.counted(losses, particle.first).mean(), run

        if self.kind == "truncated":
            (loss, run), gradient = jax.value_and_grad(counted, has_aux=True)(dict(params), particle.run)
            return loss, gradient, particle._replace(run=run)
        move = particle.noise
        if self.kind == "pes":
            move = jax.random.normal(jax.random.fold_in(key, 1), particle.noise.shape)
            particle = particle._replace(noise=particle.noise + move)
        there, opposite = self._moved(params, move)
        (up, run), (down, twin) = counted(there, particle.run), counted(opposite, particle.twin)
        slope = ravel_pytree(dict(params))[1]((up - down) / (2.0 * self.sigma) * particle.noise)
        return 0.5 * (up + down), slope, particle._replace(run=run, twin=twin)
