"""Update rules for the steps inside a task: small pairs of pure functions, given to a gradient rule as an argument.

A rule's ``settings`` are arrays that may be learned over tasks; its ``memory`` starts anew on every task. Weights,
gradients and memories are flat dictionaries of arrays.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

import jax
import jax.numpy as jnp
from jaxtyping import Array

__all__ = ["DEFAULT", "SGD", "Adam", "Descent", "PerParameterSGD", "PerStepSGD"]

Weights: TypeAlias = Mapping[str, Array]


class Descent(abc.ABC):
    """How a gradient changes the weights; frozen and hashable, all arrays are arguments."""

    @abc.abstractmethod
    def settings(self, weights: Weights) -> dict[str, Array]:
        """Return what is learned over tasks about descending, as it is before learning; may look at shapes of weights."""

    def init(self, settings: Weights, weights: Weights) -> dict[str, Array]:
        """Return the memory of a task that starts."""
        return {}

    @abc.abstractmethod
    def update(
        self, settings: Weights, memory: Weights, gradient: Weights, weights: Weights
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Make one step; returns the new weights and the new memory."""

    def shown(self, settings: Weights) -> dict[str, Array]:
        """Return what was learned in natural units, for people; empty where single numbers say nothing."""
        return dict(settings)


@final
@dataclass(frozen=True)
class SGD(Descent):
    """Plain gradient descent with one rate.

    Parameters
    ----------
    rate : float
        Step size, the start of learning where it is learned. A learned rate is free to become zero or negative.
    learned : bool
        Whether the rate is learned over tasks, as the array ``"rate"``.
    clip : float, optional
        Most norm of the gradient of all weights together: one task with an extreme row then leads nowhere far away.

    Examples
    --------
    >>> rule = SGD(0.5)
    >>> weights, _ = rule.update({}, {}, {"w": jnp.ones(2)}, {"w": jnp.zeros(2)})
    >>> weights["w"].tolist()
    [-0.5, -0.5]
    """

    rate: float = 0.1
    learned: bool = False
    clip: float | None = None

    def settings(self, weights: Weights) -> dict[str, Array]:
        """Return the rate, if it is learned."""
        return {"rate": jnp.asarray(self.rate, _dtype(weights))} if self.learned else {}

    def update(
        self, settings: Weights, memory: Weights, gradient: Weights, weights: Weights
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Subtract rate times gradient."""
        rate = settings.get("rate", self.rate)
        if self.clip is not None:
            square = sum((jnp.square(part).sum() for part in gradient.values()), jnp.zeros((), _dtype(weights)))
            rate = rate * self.clip / jnp.sqrt(jnp.maximum(square, self.clip**2))
        return {name: weights[name] - rate * gradient[name] for name in weights}, {}


@final
@dataclass(frozen=True)
class Adam(Descent):
    """Adam; with ``beta1=0``, as Reptile uses it, the steps of a task carry no momentum.

    References
    ----------
    Kingma, D. P. and Ba, J. (2015). Adam: a method for stochastic optimization, algorithm 1.

    Examples
    --------
    >>> rule = Adam(0.1)
    >>> weights = {"w": jnp.zeros(2)}
    >>> weights, memory = rule.update({}, rule.init({}, weights), {"w": jnp.array([3.0, -5.0])}, weights)
    >>> [round(value, 4) for value in weights["w"].tolist()]
    [-0.1, 0.1]
    """

    rate: float = 1e-3
    beta1: float = 0.0
    beta2: float = 0.999
    epsilon: float = 1e-8

    def settings(self, weights: Weights) -> dict[str, Array]:
        """Nothing is learned."""
        return {}

    def init(self, settings: Weights, weights: Weights) -> dict[str, Array]:
        """Moments and the step count are zero."""
        zero = {f"{part}/{name}": jnp.zeros_like(value) for part in ("m", "v") for name, value in weights.items()}
        return zero | {"step": jnp.zeros((), _dtype(weights))}

    def update(
        self, settings: Weights, memory: Weights, gradient: Weights, weights: Weights
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Step along the running mean of gradients over the root of that of their squares."""
        step = memory["step"] + 1.0
        out: dict[str, Array] = {}
        new: dict[str, Array] = {"step": step}
        for name, value in weights.items():
            first = self.beta1 * memory[f"m/{name}"] + (1.0 - self.beta1) * gradient[name]
            second = self.beta2 * memory[f"v/{name}"] + (1.0 - self.beta2) * jnp.square(gradient[name])
            new |= {f"m/{name}": first, f"v/{name}": second}
            fair = first / (1.0 - self.beta1**step)
            out[name] = value - self.rate * fair / (jnp.sqrt(second / (1.0 - self.beta2**step)) + self.epsilon)
        return out, new


@final
@dataclass(frozen=True)
class PerParameterSGD(Descent):
    """Gradient descent with one learned rate a weight, as in Meta-SGD; a rate is free to become negative.

    Learned over tasks: ``"rate/<name>"``, of the shape of each array of weights. Departure from the paper: all rates
    start at the same number; there they are drawn evenly from [0.005, 0.1].

    Parameters
    ----------
    rate : float
        Where every rate starts.

    References
    ----------
    Li, Z., Zhou, F., Chen, F. and Li, H. (2017). Meta-SGD: learning to learn quickly for few-shot learning.
    arXiv 1707.09835, equation 2.

    Examples
    --------
    >>> rule = PerParameterSGD(0.5)
    >>> settings = rule.settings({"w": jnp.zeros(2)})
    >>> settings["rate/w"].tolist()
    [0.5, 0.5]
    >>> settings = {"rate/w": jnp.array([0.5, -1.0])}
    >>> rule.update(settings, {}, {"w": jnp.ones(2)}, {"w": jnp.zeros(2)})[0]["w"].tolist()
    [-0.5, 1.0]
    """

    rate: float = 0.05

    def settings(self, weights: Weights) -> dict[str, Array]:
        """Return one rate a weight."""
        return {f"rate/{name}": jnp.full_like(array, self.rate) for name, array in weights.items()}

    def update(
        self, settings: Weights, memory: Weights, gradient: Weights, weights: Weights
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Subtract rate times gradient, weight by weight."""
        return {name: weights[name] - settings[f"rate/{name}"] * gradient[name] for name in weights}, {}


@final
@dataclass(frozen=True)
class PerStepSGD(Descent):
    """Gradient descent with one learned rate an array of weights and step, as in MAML++.

    Learned over tasks: ``"rate/<name>"`` of shape (step,). Rates are free to become negative. A step beyond the last
    one uses the last rate.

    Parameters
    ----------
    rate : float
        Where every rate starts.
    steps : int
        Steps that have rates of their own, at least 1.

    References
    ----------
    Antoniou, A., Edwards, H. and Storkey, A. (2019). How to train your MAML. ICLR; section 4, "learning per-layer
    per-step learning rates and gradient directions".

    Examples
    --------
    >>> rule = PerStepSGD(0.5, steps=2)
    >>> weights = {"w": jnp.zeros(2)}
    >>> settings = rule.settings(weights)
    >>> settings["rate/w"].tolist()
    [0.5, 0.5]
    >>> weights, memory = rule.update(settings, rule.init(settings, weights), {"w": jnp.ones(2)}, weights)
    >>> weights["w"].tolist(), float(memory["step"])
    ([-0.5, -0.5], 1.0)
    """

    rate: float = 0.05
    steps: int = 5

    def settings(self, weights: Weights) -> dict[str, Array]:
        """Return one rate an array and step."""
        return {f"rate/{name}": jnp.full(self.steps, self.rate, array.dtype) for name, array in weights.items()}

    def init(self, settings: Weights, weights: Weights) -> dict[str, Array]:
        """Count the steps."""
        return {"step": jnp.zeros((), _dtype(weights))}

    def update(
        self, settings: Weights, memory: Weights, gradient: Weights, weights: Weights
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Subtract the rate of this step times the gradient."""
        now = jnp.minimum(memory["step"], self.steps - 1).astype(jnp.int32)
        new = {name: weights[name] - settings[f"rate/{name}"][now] * gradient[name] for name in weights}
        return new, {"step": memory["step"] + 1.0}


DEFAULT = SGD(0.03, learned=True, clip=10.0)
"""How gradient rules descend unless told otherwise: without the clip one extreme row can end a training."""


def _dtype(weights: Weights) -> jnp.dtype:
    return jax.tree.leaves(dict(weights))[0].dtype
