"""Gradient descent with momentum, and Adam, whose numbers are learned over tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from upstairs.inner.descent import Descent, Weights
from upstairs.inner.knobs import Per, check_knobs, fresh, number, share, turned

__all__ = ["LearnedAdam", "LearnedSGD", "root"]


@final
@dataclass(frozen=True)
class LearnedSGD(Descent):
    """Gradient descent whose step size, and momentum, are learned over tasks.

    Learned over tasks: ``"rate"`` (the log of the step size), ``"momentum"`` (its logit); with ``per`` not "all" one
    array for each array of weights (``"rate/<name>"``), with ``steps`` a leading axis over steps. Rates stay positive
    and momentum between zero and one.

    Parameters
    ----------
    rate : float
        Where step sizes start.
    momentum : float, optional
        Where momentum starts; None: none, and none is learned.
    nesterov : bool
        Whether to look ahead along the velocity.
    per : {"all", "array", "weight"}
        Whether all weights share a number, each array has one, or each weight.
    steps : int, optional
        Steps with numbers of their own, a learned schedule; later steps use the last. None: the same in every step.

    References
    ----------
    Maclaurin, D., Duvenaud, D. and Adams, R. P. (2015). Gradient-based hyperparameter optimization through reversible
    learning. ICML; learned schedules and rates per layer.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> rule = LearnedSGD(0.5, momentum=0.9, steps=3)
    >>> weights = {"w": jnp.zeros(2)}
    >>> settings = rule.settings(weights)
    >>> {name: array.shape for name, array in settings.items()}
    {'rate': (3,), 'momentum': (3,)}
    >>> weights, memory = rule.update(settings, rule.init(settings, weights), {"w": jnp.ones(2)}, weights)
    >>> [round(value, 4) for value in weights["w"].tolist()]
    [-0.5, -0.5]
    """

    rate: float = 0.1
    momentum: float | None = 0.9
    nesterov: bool = False
    per: Per = "all"
    steps: int | None = None

    def __post_init__(self) -> None:
        check_knobs("LearnedSGD", self.per, self.steps, {"rate": self.rate}, {"momentum": self.momentum})

    def settings(self, weights: Weights) -> dict[str, Array]:
        """Return the knobs."""
        found = fresh("rate", number(self.rate), weights, per=self.per, steps=self.steps)
        if self.momentum is not None:
            found |= fresh("momentum", share(self.momentum), weights, per=self.per, steps=self.steps)
        return found

    def init(self, settings: Weights, weights: Weights) -> dict[str, Array]:
        """No velocity, no step."""
        zero = {f"velocity/{name}": jnp.zeros_like(array) for name, array in weights.items()}
        return (zero if self.momentum is not None else {}) | {"step": jnp.zeros((), jnp.int32)}

    def update(
        self, settings: Weights, memory: Weights, gradient: Weights, weights: Weights
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Add the gradient to the velocity, and step along it."""
        step = memory["step"]
        out: dict[str, Array] = {}
        new: dict[str, Array] = {"step": step + 1}
        for name, slope in gradient.items():
            direction = slope
            if self.momentum is not None:
                kept = jax.nn.sigmoid(turned(settings, "momentum", name, step, self.per, self.steps))
                velocity = kept * memory[f"velocity/{name}"] + slope
                new[f"velocity/{name}"] = velocity
                direction = slope + kept * velocity if self.nesterov else velocity
            out[name] = weights[name] - jnp.exp(turned(settings, "rate", name, step, self.per, self.steps)) * direction
        return out, new

    def shown(self, settings: Weights) -> dict[str, Array]:
        """Return step sizes and momentum as they are used."""
        return {
            name: jnp.exp(array) if name.startswith("rate") else jax.nn.sigmoid(array)
            for name, array in settings.items()
        }


_FOUR = ("rate", "beta1", "beta2", "epsilon")


@final
@dataclass(frozen=True)
class LearnedAdam(Descent):
    """Adam whose four numbers are learned over tasks.

    Learned over tasks: the logs of ``"rate"`` and ``"epsilon"``, the logits of ``"beta1"`` and ``"beta2"``; names and
    shapes with ``per`` and ``steps`` are as for `LearnedSGD`.

    Parameters
    ----------
    rate, beta1, beta2, epsilon : float
        Where they start.
    per, steps
        As for `LearnedSGD`.

    References
    ----------
    Kingma, D. P. and Ba, J. (2015). Adam: a method for stochastic optimization, algorithm 1. Departure: with numbers
    that differ from step to step, the corrections divide by one minus the product of all betas so far.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> rule = LearnedAdam(0.1)
    >>> weights = {"w": jnp.zeros(2)}
    >>> settings = rule.settings(weights)
    >>> weights, memory = rule.update(settings, rule.init(settings, weights), {"w": jnp.array([3.0, -5.0])}, weights)
    >>> [round(value, 4) for value in weights["w"].tolist()]
    [-0.1, 0.1]
    """

    rate: float = 1e-2
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    per: Per = "all"
    steps: int | None = None

    def __post_init__(self) -> None:
        positive = {"rate": self.rate, "epsilon": self.epsilon}
        check_knobs("LearnedAdam", self.per, self.steps, positive, {"beta1": self.beta1, "beta2": self.beta2})

    def settings(self, weights: Weights) -> dict[str, Array]:
        """Return the knobs."""
        found: dict[str, Array] = {}
        for name in _FOUR:
            start = (share if name.startswith("beta") else number)(getattr(self, name))
            found |= fresh(name, start, weights, per=self.per, steps=self.steps)
        return found

    def init(self, settings: Weights, weights: Weights) -> dict[str, Array]:
        """Moments are zero; ``left`` is the product of the betas so far."""
        found = {"step": jnp.zeros((), jnp.int32)}
        for name, array in weights.items():
            shape = array.shape if self.per == "weight" else ()
            found |= {f"{part}/{name}": jnp.zeros_like(array) for part in ("m", "v")}
            found |= {f"{part}/{name}": jnp.ones(shape, array.dtype) for part in ("left1", "left2")}
        return found

    def update(
        self, settings: Weights, memory: Weights, gradient: Weights, weights: Weights
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Step along the running mean of gradients over the root of that of their squares."""
        step = memory["step"]
        out: dict[str, Array] = {}
        new: dict[str, Array] = {"step": step + 1}
        for name, slope in gradient.items():
            rate, beta1, beta2, epsilon = (
                (jax.nn.sigmoid if knob.startswith("beta") else jnp.exp)(
                    turned(settings, knob, name, step, self.per, self.steps)
                )
                for knob in _FOUR
            )
            first = beta1 * memory[f"m/{name}"] + (1.0 - beta1) * slope
            second = beta2 * memory[f"v/{name}"] + (1.0 - beta2) * jnp.square(slope)
            left1, left2 = beta1 * memory[f"left1/{name}"], beta2 * memory[f"left2/{name}"]
            new |= {f"m/{name}": first, f"v/{name}": second, f"left1/{name}": left1, f"left2/{name}": left2}
            out[name] = weights[name] - rate * first / (1.0 - left1) / (root(second / (1.0 - left2)) + epsilon)
        return out, new

    def shown(self, settings: Weights) -> dict[str, Array]:
        """Return the four numbers as they are used."""
        return {
            name: jax.nn.sigmoid(array) if name.startswith("beta") else jnp.exp(array)
            for name, array in settings.items()
        }


def root(square: Float[Array, ...]) -> Float[Array, ...]:
    """Square root whose derivative at zero is zero, not infinite: a weight without a gradient yet teaches nothing."""
    some = square > 0.0
    return jnp.where(some, jnp.sqrt(jnp.where(some, square, 1.0)), 0.0)
