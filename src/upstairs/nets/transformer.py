"""A transformer over the rows of a task: support rows see support rows, query rows see support rows only.

References
----------
.. [1] Vaswani, A. et al. (2017). Attention is all you need, equation 1 and section 3.2.2.
.. [2] Xiong, R. et al. (2020). On layer normalization in the transformer architecture (pre-norm).
.. [3] Müller, S. et al. (2022). Transformers can do Bayesian inference. ICLR, arXiv 2112.10510, section 4.
"""

from __future__ import annotations

from typing import NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from upstairs.nets.mlp import MLP, Linear, RowNorm

__all__ = ["Block", "Memory", "Transformer", "attend"]


class Memory(NamedTuple):
    """What later rows need to know of the support: keys and values of every layer; place 0 is the token always seen."""

    keys: Float[Array, "layer place width"]
    values: Float[Array, "layer place width"]
    seen: Bool[Array, " place"]


@jax.custom_vjp
def attend(
    query: Float[Array, "head row feature"],
    key: Float[Array, "head place feature"],
    value: Float[Array, "head place feature"],
    bias: Float[Array, "*head_row place"],
) -> Float[Array, "head row feature"]:
    """Mean of the values, weighted by the softmax of ``query @ key' + bias`` (equation 1 of [1]_).

    The gradient is written out: it uses that the mean of the slopes is the product of result and its slope, which saves
    a sum over the places and takes two thirds of the time on a CPU.

    Parameters
    ----------
    query, key, value : arrays of shape (head, row or place, feature)
    bias : array of shape (place,) or (head, row, place)

    Examples
    --------
    >>> query, key = jnp.zeros((1, 1, 2)), jnp.ones((1, 2, 2))
    >>> attend(query, key, jnp.array([[[1.0, 0.0], [3.0, 0.0]]]), jnp.zeros(2))[0, 0].tolist()
    [2.0, 0.0]
    """
    return _attend(query, key, value, bias)[0]


def _attend(query: Array, key: Array, value: Array, bias: Array) -> tuple[Array, tuple[Array, ...]]:
    weight = jax.nn.softmax(query @ key.swapaxes(-1, -2) + bias, axis=-1)
    found = weight @ value
    return found, (query, key, value, bias, weight, found)


def _attend_back(kept: tuple[Array, ...], slope: Array) -> tuple[Array, ...]:
    query, key, value, bias, weight, found = kept
    score = weight * (slope @ value.swapaxes(-1, -2) - (slope * found).sum(axis=-1, keepdims=True))
    whole = score if bias.ndim == 3 else score.sum(axis=(0, 1))
    return score @ key, score.swapaxes(-1, -2) @ query, weight.swapaxes(-1, -2) @ slope, whole


attend.defvjp(_attend, _attend_back)


@final
class Block(eqx.Module):
    """One pre-norm layer: attention of several heads to the places that are seen, then a small network on each row.

    Parameters
    ----------
    width, heads : int
        Numbers a row, and heads that share them evenly.
    depth : int
        Layers of the whole transformer: what a layer adds starts smaller in a deeper one.
    key : jax.random key
    """

    before: RowNorm
    query: Linear
    key: Linear
    value: Linear
    out: Linear
    between: RowNorm
    up: Linear
    down: Linear
    alike: Float[Array, " head"]
    heads: int = eqx.field(static=True)

    def __init__(self, width: int, heads: int, depth: int, *, key: PRNGKeyArray) -> None:
        keys = jax.random.split(key, 6)
        small = (2 * depth) ** -0.5
        self.before, self.between = RowNorm(width), RowNorm(width)
        self.query, self.key, self.value = (Linear(width, width, key=one) for one in keys[:3])
        self.out = Linear(width, width, key=keys[3], gain=small)
        self.up = Linear(width, 2 * width, key=keys[4], gain=2.0**0.5)
        self.down = Linear(2 * width, width, key=keys[5], gain=small)
        self.alike = jnp.zeros(heads)
        self.heads = heads

    def remember(self, x: Float[Array, "place width"]) -> tuple[Array, Array]:
        """Keys and values of some places."""
        x = self.before(x)
        return self.key(x), self.value(x)

    def __call__(
        self,
        x: Float[Array, "row width"],
        keys: Float[Array, "place width"],
        values: Float[Array, "place width"],
        seen: Bool[Array, " place"],
        same: Float[Array, "row place"] | None = None,
    ) -> Float[Array, "row width"]:
        """Let rows look at places; ``same`` says which pairs share a label, which every head may value."""
        split = lambda part: part.reshape(len(part), self.heads, -1).swapaxes(0, 1)  # noqa: E731
        query, key, value = split(self.query(self.before(x))), split(keys), split(values)
        bias = jnp.where(seen, 0.0, -1e30).astype(x.dtype)
        if same is not None:
            bias = bias + self.alike[:, None, None] * same
        found = attend(query, key * key.shape[2] ** -0.5, value, bias)
        x = x + self.out(found.swapaxes(0, 1).reshape(x.shape))
        return x + self.down(jax.nn.relu(self.up(self.between(x))))


@final
class Transformer(eqx.Module):
    """Support rows see one another, query rows see the support rows and neither each other nor themselves [3]_.

    A row is the sum of what a small network makes of its features, whose units start to bend at places between -1 and 1, and
    of a linear map of its target; in place of an
    unknown target stands a learned vector. Nothing tells the places of rows, so that their order does not matter. One
    learned token is always seen, so that there may be no support rows at all.

    Parameters
    ----------
    inputs, targets : int
        Numbers that features and target of a row are given as.
    width, layers, heads : int
    blank : bool
        Whether targets start as if unknown (for labels, whose numbers need not mean anything).
    key : jax.random key

    Examples
    --------
    >>> def passed(key, x, y):
    ...     net = Transformer(3, 1, width=8, layers=1, heads=2, key=key)
    ...     _, memory = net.read(x, y, jnp.arange(5) < 4)
    ...     return net.ask(memory, x)
    >>> jax.jit(passed)(jax.random.key(0), jnp.ones((5, 3)), jnp.ones((5, 1))).shape
    (5, 8)
    """

    features: MLP
    target: Linear
    unknown: Float[Array, " width"]
    token: Float[Array, " width"]
    blocks: tuple[Block, ...]
    after: RowNorm

    def __init__(
        self,
        inputs: int,
        targets: int,
        *,
        width: int,
        layers: int,
        heads: int,
        blank: bool = False,
        key: PRNGKeyArray,
    ) -> None:
        keys = jax.random.split(key, layers + 4)
        features = MLP(inputs, (width,), width, key=keys[0])
        first = features.layers[0]
        bends = jax.random.uniform(jax.random.fold_in(keys[0], 2), (width,), minval=-1.0, maxval=1.0)
        places = bends * jnp.linalg.norm(first.weight, axis=0)  # without this all would bend at zero
        self.features = eqx.tree_at(lambda net: net.layers[0].bias, features, places)
        self.target = Linear(targets, width, key=keys[1], gain=0.0 if blank else 1.0)
        self.unknown = jnp.zeros(width) if blank else jax.random.normal(keys[2], (width,))
        self.token = jax.random.normal(keys[3], (width,))
        every = jax.vmap(lambda one: Block(width, heads, layers, key=one))(keys[4:])  # all at once: compiles sooner
        self.blocks = tuple(jax.tree.map(lambda leaf, n=n: leaf[n], every) for n in range(layers))
        self.after = RowNorm(width)

    def read(
        self,
        x: Float[Array, "row input"],
        y: Float[Array, "row target"],
        seen: Bool[Array, " row"],
        same: Float[Array, "row row"] | None = None,
        *,
        places: int | None = None,
    ) -> tuple[Float[Array, "row width"], Memory]:
        """Pass rows through, of which those that are seen are the support, and all others are query rows.

        Parameters
        ----------
        x, y : arrays of shape (row, ...)
            What ``y`` holds where a row is not seen does not matter, as long as it is finite.
        seen : array of shape (row,)
        same : array of shape (row, row), optional
            One where two rows share a label; counts between rows that are seen.
        places : int, optional
            All rows that are seen are among so many first ones: saves work.

        Returns
        -------
        hidden : array of shape (row, width)
        memory : Memory
            Of the first ``places`` rows.
        """
        places = len(x) if places is None else places
        tokens = self.features(x) + jnp.where(seen[:, None], self.target(y), self.unknown)
        tokens = jnp.concatenate([self.token[None], tokens])
        known = jnp.concatenate([jnp.ones(1, bool), seen[:places]])
        if same is not None:
            same = jnp.pad(same[:, :places] * seen[:, None], ((1, 0), (1, 0)))
        kept = []
        for block in self.blocks:
            keys, values = block.remember(tokens[: places + 1])
            kept.append((keys, values))
            tokens = block(tokens, keys, values, known, same)
        every = [jnp.stack(part) for part in zip(*kept, strict=True)]
        return self.after(tokens[1:]), Memory(every[0], every[1], known)

    def ask(self, memory: Memory, x: Float[Array, "row input"]) -> Float[Array, "row width"]:
        """Pass query rows through, given what is remembered of the support."""
        tokens = self.features(x) + self.unknown
        for block, keys, values in zip(self.blocks, memory.keys, memory.values, strict=True):
            tokens = block(tokens, keys, values, memory.seen)
        return self.after(tokens)
