"""Learn a task in context: a transformer reads the support rows and predicts, and nothing is fitted.

References
----------
.. [1] Müller, S., Hollmann, N., Pineda Arango, S., Grabocka, J. and Hutter, F. (2022). Transformers can do Bayesian
   inference. ICLR, arXiv 2112.10510; equation 2, algorithm 1, section 4.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped

from upstairs.inner.gradient import part
from upstairs.inner.traced import Arrays, Logits, Normal, Spec, TaskRows, TracedRule, log_density, masked_mean
from upstairs.nets.build import flatten, unflatten
from upstairs.nets.transformer import Memory, Transformer

__all__ = ["InContext"]

LEAST_VARIANCE = 1e-4


@final
@dataclass(frozen=True)
class InContext(TracedRule):
    """A prior-data fitted network: one pass over the support rows approximates the posterior predictive [1]_.

    Learned over tasks: all weights of a transformer (``net/...``) and of its last layer (``last/...``), by the negative
    log-likelihood of query rows given the support rows (equation 2 of [1]_), whose least value is that of the posterior
    predictive under the distribution of the tasks. Learned on a task: nothing; keys and values of its support rows are
    kept, so that a prediction costs one pass of the query rows alone.

    A regression gets a normal distribution for each row. A class has the sum of two logits: a linear one, for labels
    that tasks share, and one of nearness to the mean of the class, whose params know no class; heads may also attend to
    rows of the same label. Linear logits and embeddings of labels start at zero, so that classes whose numbers mean
    nothing stay exchangeable at the start, and episodes with classes in random order keep them so on average.

    Departures from the paper: a normal distribution in place of a discretised one; query rows do not attend to
    themselves; one learned token stands beside the support rows; the two further parts for classes; a part of the
    tasks of a step is read with fewer rows than were drawn (``recut``).

    Parameters
    ----------
    ways : int
        Most classes; 0 for a regression. The params depend on it.
    width, layers, heads : int
        Of the transformer: numbers a row, a multiple of ``heads``; work grows with the square of the support rows.
    recut : float
        Probability that a task of a training step keeps a random part of its support rows only: their number is
        log-uniform between none and all, and the others become query rows. Without it the prior does not learn what
        to say without rows.

    Examples
    --------
    >>> rule = InContext(width=8, layers=1, heads=2)
    >>> params = jax.jit(rule.init, static_argnums=1)(jax.random.key(0), Spec((1,)))
    >>> state = jax.jit(rule.adapt)(params, jnp.ones((3, 1)), jnp.ones(3), jnp.ones(3, bool))
    >>> jax.jit(rule.predict)(params, state, jnp.zeros((2, 1))).mean.shape
    (2,)
    >>> InContext(width=8, heads=3)
    Traceback (most recent call last):
    ...
    ValueError: InContext: width must be a positive multiple of heads, but width=8 and heads=3.
    """

    ways: int = 0
    width: int = 64
    layers: int = 3
    heads: int = 4
    recut: float = 0.5
    grows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width < 1 or self.width % self.heads:
            raise ValueError(
                f"InContext: width must be a positive multiple of heads, but width={self.width} and heads={self.heads}."
            )
        if self.layers < 1:
            raise ValueError(f"InContext: layers must be at least 1, but is {self.layers}.")
        if not 0.0 <= self.recut <= 1.0:
            raise ValueError(f"InContext: recut must be a probability from 0 to 1, but is {self.recut}.")

    def init(self, key: PRNGKeyArray, spec: Spec) -> dict[str, Array]:
        """Draw a transformer; its predictions start at mean zero, or with linear logits of zero."""
        net = _fresh(math.prod(spec.inputs), self.ways, self.width, self.layers, self.heads, key)
        params = {f"net/{name}": array for name, array in flatten(net).items()}
        outputs = self.ways or 2
        last = {"weight": jnp.zeros((self.width, outputs)), "bias": jnp.zeros(outputs)}
        if self.ways:
            last |= {"near": jnp.full((), -0.5 * math.log(self.width)), "shrink": jnp.full((), -2.0)}
        return params | {f"last/{name}": array for name, array in last.items()}

    def adapt(
        self, params: Arrays, x: Float[Array, "row ..."], y: Shaped[Array, "row ..."], mask: Bool[Array, " row"]
    ) -> dict[str, Array]:
        """Read the support rows."""
        hidden, memory = self._read(params, x, y, mask)
        kept = {"keys": memory.keys, "values": memory.values, "seen": memory.seen.astype(memory.keys.dtype)}
        return kept | {"center": self._centers(params, hidden, y, mask)} if self.ways else kept

    def predict(
        self, params: Arrays, state: Arrays, x: Float[Array, "row ..."], mask: Bool[Array, " row"] | None = None
    ) -> Normal | Logits:
        """Pass the rows through the transformer, each on its own."""
        memory = Memory(state["keys"], state["values"], state["seen"] > 0)
        return self._last(params, self._net(params).ask(memory, x.reshape(len(x), -1)), state.get("center"))

    def outer_loss(self, params: Arrays, support: TaskRows, query: TaskRows, key: PRNGKeyArray) -> Float[Array, ""]:
        """Mean negative log-likelihood of the rows that are not read, in one pass over all of them."""
        seen = self._cut(support.mask, key)
        x, y = (jnp.concatenate([getattr(rows, name) for rows in (support, query)]) for name in ("x", "y"))
        real = jnp.concatenate([support.mask, query.mask])
        seen = jnp.concatenate([seen, jnp.zeros_like(query.mask)])
        x = jnp.where(real.reshape(-1, *[1] * (x.ndim - 1)), x, 0.0)
        hidden, _ = self._read(params, x, y, seen, len(support.mask))
        centers = self._centers(params, hidden, y, seen) if self.ways else None
        predicted = self._last(params, hidden, centers)
        y = jnp.where(real, y, 0)
        return masked_mean(-log_density(predicted, y), real & ~seen)

    def _cut(self, mask: Bool[Array, " row"], key: PRNGKeyArray) -> Bool[Array, " row"]:
        """Leave all rows, or a random part of random size."""
        if self.recut == 0.0:
            return mask
        whether, size, which = jax.random.split(key, 3)
        count = mask.sum()
        fewer = jnp.floor(jnp.exp(jax.random.uniform(size) * jnp.log(count + 1.0) + 1e-6)).astype(int) - 1
        # of 1 to n + 1, less one: no row at all about as often as one or two
        fewer = jnp.where(jax.random.uniform(whether) < self.recut, jnp.minimum(fewer, count), count)
        draw = jnp.where(mask, jax.random.uniform(which, mask.shape), 2.0)
        rank = (draw[None, :] < draw[:, None]).sum(axis=1)
        return mask & (rank < fewer)

    def _read(
        self, params: Arrays, x: Array, y: Array, seen: Bool[Array, " row"], places: int | None = None
    ) -> tuple[Array, Memory]:
        x = x.reshape(len(x), -1)
        if places is None:  # rows that are not seen are padding
            x = jnp.where(seen[:, None], x, 0.0)
        if not self.ways:
            target = jnp.where(seen, y, 0.0).astype(x.dtype)[:, None]
            return self._net(params).read(x, target, seen, places=places)
        target = jax.nn.one_hot(y, self.ways, dtype=x.dtype) * seen[:, None]
        return self._net(params).read(x, target, seen, target @ target.T, places=places)

    def _centers(self, params: Arrays, hidden: Array, y: Array, seen: Array) -> Float[Array, "way width"]:
        """Means of the classes, drawn to zero by ``shrink`` rows."""
        member = jax.nn.one_hot(y, self.ways, dtype=hidden.dtype) * seen[:, None]
        return member.T @ hidden / (member.sum(axis=0) + jnp.exp(params["last/shrink"]))[:, None]

    def _last(self, params: Arrays, hidden: Float[Array, "row width"], centers: Array | None) -> Normal | Logits:
        out = hidden @ params["last/weight"] + params["last/bias"]
        if centers is None:
            return Normal(out[:, 0], jax.nn.softplus(out[:, 1]) + LEAST_VARIANCE)
        near = hidden @ centers.T - 0.5 * jnp.square(centers).sum(axis=1)
        return Logits(out + jnp.exp(params["last/near"]) * near)

    def _net(self, params: Arrays) -> Any:
        inputs = params["net/features.layers.0.weight"].shape[0]
        return unflatten(_shapes(inputs, self.ways, self.width, self.layers, self.heads), part(params, "net"))


def _fresh(inputs: int, ways: int, width: int, layers: int, heads: int, key: PRNGKeyArray) -> Transformer:
    return Transformer(inputs, ways or 1, width=width, layers=layers, heads=heads, blank=ways > 0, key=key)


@functools.cache
def _shapes(inputs: int, ways: int, width: int, layers: int, heads: int) -> Any:
    """Return the module with shapes in place of arrays; made once for each description."""
    return jax.eval_shape(lambda key: _fresh(inputs, ways, width, layers, heads, key), jax.random.key(0))
