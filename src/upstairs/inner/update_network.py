"""A small network as an update rule: it steers an Adam step by step, tensor by tensor, and bends it a little."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from upstairs.inner.descent import Descent, Weights
from upstairs.inner.quasi_newton import flat, like, quasi_newton, remembered

__all__ = ["UpdateNetwork"]

_DECAYS = (0.5, 0.9, 0.99)
"""Of the running means of gradients; the gradient itself is a fourth direction."""
_BASE = (0.0, 0.0, 1.0, 0.0)
"""How the four directions are mixed before learning: Adam with beta1 = .9."""
_SECOND = 0.999
_TIMES = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_SIGNALS = 8
_TINY = 1e-20
_TRUST = 0.0
"""Logit of the trust in the quasi-Newton direction before learning."""
_EDGE = 14.0
"""Largest absolute log of the factor on the nominal rate."""


@final
@dataclass(frozen=True)
class UpdateNetwork(Descent):
    """A learned update rule of a few hundred numbers, for weights of any shape.

    Learned over tasks: the weights of two small networks, and the log of a rate. On a task, for every tensor (array of
    weights) and step, the *controller* sees how gradient, last gradient and last step lie to each other, how their
    lengths compare, and the time. It turns the tensor's rate up or down, and mixes four directions: the gradient and its
    running means with decays .5, .9 and .99, each divided by the root of the running mean of squares as in Adam. It also
    says how far to trust the limited-memory BFGS direction of the last steps, and how long a step along it may be. For
    every weight the *bender* sees the four directions, the weight, and four numbers from the controller, and adds a
    little. All inputs are ratios inside a tensor, so that multiplying the loss by a number changes nothing. Entries of a
    gradient that are not finite count as zero. Before
    learning both networks say nothing, and the rule is half Adam, half quasi-Newton (``pairs=0``: Adam).

    Departures from the papers: what is learned per coordinate is a small correction; most is learned per tensor, from
    signals of the kind that hypergradient descent uses; and a quasi-Newton direction, where it can be trusted, saves what
    a network of this size could hardly learn.

    Parameters
    ----------
    rate : float
        The rate of the Adam step that learning starts from.
    width : int
        Hidden units of the controller (two layers).
    bend : int
        Hidden units of the bender (one layer); 0: no bender.
    pairs : int
        Last steps that the quasi-Newton direction rests on; 0: no such direction.
    seed : int
        Draws the first weights of the networks.

    References
    ----------
    Andrychowicz, M. et al. (2016). Learning to learn by gradient descent by gradient descent. NeurIPS.
    Metz, L. et al. (2022). Practical tradeoffs between memory, compute, and performance in learned optimizers. CoLLAs,
    arXiv 2203.11860; inputs and normalisation.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> rule = UpdateNetwork(0.1, pairs=0, bend=0)
    >>> def first_step(weights, gradient):
    ...     settings = rule.settings(weights)
    ...     return rule.update(settings, rule.init(settings, weights), gradient, weights)[0]
    >>> step = jax.jit(first_step)({"w": jnp.zeros(2)}, {"w": jnp.array([3.0, -5.0])})
    >>> [round(value, 4) for value in step["w"].tolist()]
    [-0.1, 0.1]
    """

    rate: float = 1e-2
    width: int = 16
    bend: int = 8
    pairs: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ValueError(f"UpdateNetwork: rate must be a positive number, but is {self.rate!r}.")
        for name, least in (("width", 1), ("bend", 0), ("pairs", 0)):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= least):
                raise ValueError(f"UpdateNetwork: {name} must be a whole number of at least {least}, but is {value!r}.")

    def settings(self, weights: Weights) -> dict[str, Array]:
        """Draw the networks; their last layers are zero."""
        dtype = next(iter(weights.values())).dtype
        inputs = 2 * _SIGNALS + len(_TIMES)
        sizes = {"control/0": (inputs, self.width), "control/1": (self.width, self.width)}
        if self.bend:
            sizes["bend/0"] = (len(_BASE) + 5, self.bend)
        keys = jax.random.split(jax.random.key(self.seed), len(sizes))
        found = {"rate": jnp.asarray(np.log(self.rate), dtype)}
        for key, (name, (rows, columns)) in zip(keys, sizes.items(), strict=True):
            found[f"{name}/weight"] = jax.random.normal(key, (rows, columns), dtype) / np.sqrt(rows)
            found[f"{name}/bias"] = jnp.zeros(columns, dtype)
        found["control/2/weight"] = jnp.zeros((self.width, 4 + len(_BASE)), dtype)
        found["control/2/bias"] = jnp.zeros(4 + len(_BASE), dtype)
        if self.bend:
            found["control/tell"] = jax.random.normal(keys[0], (self.width, 4), dtype) / np.sqrt(self.width)
            found["bend/1/weight"] = jnp.zeros((self.bend, 1), dtype)
        return found

    def init(self, settings: Weights, weights: Weights) -> dict[str, Array]:
        """Means, squares and last gradient are zero; the place is known."""
        place = flat(weights)
        pairs = {name: jnp.zeros((self.pairs, place.size), place.dtype) for name in ("moves", "yields") if self.pairs}
        return pairs | {
            "means": jnp.zeros((len(_DECAYS), place.size), place.dtype),
            "squares": jnp.zeros_like(place),
            "gradient": jnp.zeros_like(place),
            "place": place,
            "factor": jnp.zeros(len(weights), place.dtype),
            "step": jnp.zeros((), jnp.int32),
        }

    def update(
        self, settings: Weights, memory: Weights, gradient: Weights, weights: Weights
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Make one step."""
        slope, place = flat(gradient), flat(weights)
        slope = jnp.where(jnp.isfinite(slope), slope, 0.0)
        parts = _Parts([weights[name].size for name in sorted(weights)])
        moved = place - memory["place"]  # not what was asked for: others may have scaled or clipped it
        step = memory["step"] + 1
        time = step.astype(slope.dtype)
        decays = jnp.asarray(_DECAYS, slope.dtype)[:, None]
        means = decays * memory["means"] + (1.0 - decays) * slope
        squares = _SECOND * memory["squares"] + (1.0 - _SECOND) * jnp.square(slope)
        spread = jnp.sqrt(squares / (1.0 - _SECOND**time) + _TINY)
        directions = jnp.concatenate([slope[None], means / (1.0 - decays**time)]) / spread

        rows = jnp.stack([slope, memory["gradient"], moved, slope - memory["gradient"], means[1], means[2]])
        hidden, out = _controls(settings, parts, rows, squares / (1.0 - _SECOND**time), time)
        factor = jnp.clip(memory["factor"] + jnp.tanh(out[:, 0]), -_EDGE, _EDGE)
        rate = jnp.exp(settings["rate"] + factor + jnp.tanh(out[:, 1]))
        mix = jnp.asarray(_BASE, slope.dtype) + out[:, 2:6]
        along = (parts.spread(mix).T * directions).sum(axis=0)
        if self.bend:
            sizes = jnp.sqrt(parts.mean(jnp.square(directions)) + _TINY)  # (part, direction)
            seen = [(directions.T / parts.spread(sizes)), parts.spread(hidden @ settings["control/tell"])]
            own = place / parts.spread(jnp.sqrt(parts.mean(jnp.square(place)) + _TINY))
            inputs = jnp.concatenate([*seen, own[:, None]], axis=1)
            bent = jnp.tanh(inputs @ settings["bend/0/weight"] + settings["bend/0/bias"]) @ settings["bend/1/weight"]
            along = along + bent[:, 0] * parts.spread(sizes[:, 2])
        change = -parts.spread(rate) * along
        pairs: dict[str, Array] = {}
        if self.pairs:
            pairs = remembered(memory, moved, slope)
            change = _trusting(quasi_newton(slope, pairs["moves"], pairs["yields"]), change, moved, out[:, 6:])
        new = {
            "means": means,
            "squares": squares,
            "gradient": slope,
            "place": place,
            "factor": factor,
            "step": step,
        } | pairs
        return like(place + change, weights), new

    def shown(self, settings: Weights) -> dict[str, Array]:
        """Return the nominal rate; the networks' numbers say nothing by themselves."""
        return {"rate": jnp.exp(settings["rate"])}


class _Parts:
    """Where each tensor lies in the flat vector of all weights."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.bounds = [0, *np.cumsum(sizes).tolist()]

    def sum(self, flat: Float[Array, "... weight"]) -> Float[Array, "part ..."]:
        return jnp.stack([flat[..., a:b].sum(axis=-1) for a, b in pairwise(self.bounds)])

    def mean(self, flat: Float[Array, "... weight"]) -> Float[Array, "part ..."]:
        return jnp.stack([flat[..., a:b].mean(axis=-1) for a, b in pairwise(self.bounds)])

    def spread(self, values: Float[Array, "part ..."]) -> Float[Array, "weight ..."]:
        if len(self.sizes) == 1:
            return jnp.broadcast_to(values[0], (self.sizes[0], *values.shape[1:]))
        return jnp.repeat(values, jnp.asarray(self.sizes), axis=0, total_repeat_length=self.bounds[-1])


def _controls(
    settings: Weights, parts: _Parts, rows: Float[Array, "row weight"], squares: Array, time: Array
) -> tuple[Float[Array, "part width"], Float[Array, "part out"]]:
    """Signals of every tensor through the controller: its hidden units, and what it says.

    ``rows`` are the gradient, the last one, the last move, how the gradient changed, and two running means.
    """
    gram = parts.sum(rows[:, None] * rows[None])  # (part, row, row): every inner product at once
    length = jnp.sqrt(jnp.diagonal(gram, axis1=1, axis2=2) + _TINY)

    def cosine(one: int, other: int) -> Array:
        return gram[:, one, other] / (length[:, one] * length[:, other])

    def ratio(one: Array, other: Array) -> Array:
        return jnp.tanh(0.5 * jnp.log(one / other))

    begun = time > 1.0
    signals = jnp.stack(
        [
            cosine(0, 2),
            cosine(0, 1),
            cosine(2, 3),
            cosine(0, 5),
            cosine(4, 5),
            jnp.where(begun, ratio(length[:, 0], length[:, 1]), 0.0),
            jnp.where(begun, ratio(length[:, 3], length[:, 1]), 0.0),
            ratio(length[:, 0], jnp.sqrt(parts.sum(squares) + _TINY)),
        ],
        axis=1,
    )
    clock = jnp.tanh(time / jnp.asarray(_TIMES, rows.dtype) - 1.0)
    common = jnp.concatenate([signals.mean(axis=0), clock])
    hidden: Any = jnp.concatenate([signals, jnp.broadcast_to(common, (len(signals), common.size))], axis=1)
    for layer in ("control/0", "control/1"):
        hidden = jnp.tanh(hidden @ settings[f"{layer}/weight"] + settings[f"{layer}/bias"])
    return hidden, hidden @ settings["control/2/weight"] + settings["control/2/bias"]


def _trusting(
    straight: Float[Array, " weight"], change: Array, moved: Array, said: Float[Array, "part 2"]
) -> Float[Array, " weight"]:
    """Mix a quasi-Newton direction into a change, as far as the controller trusts it and no longer than it allows.

    The direction counts as a constant: its own derivatives are wild where it is not to be trusted.
    """
    straight = jax.lax.stop_gradient(jnp.where(jnp.isfinite(straight).all(), straight, 0.0))
    size, usual, last = (jnp.sqrt(jnp.square(a).sum() + _TINY) for a in (straight, change, moved))
    trust, reach = said.mean(axis=0)
    longest = jnp.exp(3.0 * jnp.tanh(reach)) * jax.lax.stop_gradient(jnp.maximum(last, usual))
    trusted = jnp.where(size > 2.0 * _TINY**0.5, jax.nn.sigmoid(trust + _TRUST), 0.0)
    return (1.0 - trusted) * change - trusted * jnp.minimum(1.0, longest / size) * straight
