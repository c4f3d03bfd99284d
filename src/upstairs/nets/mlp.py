"""A multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

__all__ = ["MLP", "Activation", "Linear", "activation"]

Activation: TypeAlias = Literal["relu", "tanh"]


def _relu(x: Array) -> Array:
    return x * (x > 0)  # a gradient of a gradient costs less this way than through jax.nn.relu


_ACTIVATIONS: dict[str, Callable] = {"relu": _relu, "tanh": jnp.tanh}
_GAIN = {"relu": 2.0**0.5, "tanh": 1.0}


def activation(name: Activation) -> Callable:
    """Return the function of that name."""
    return _ACTIVATIONS[name]


@final
class Linear(eqx.Module):
    """An affine map of the last axis; ``weight`` is (input, output), so that rows go through in one product.

    Weights start from a normal distribution of standard deviation ``gain / sqrt(inputs)``, biases at zero.
    """

    weight: Float[Array, "input output"]
    bias: Float[Array, " output"]

    def __init__(self, inputs: int, outputs: int, *, key: PRNGKeyArray, gain: float = 1.0) -> None:
        self.weight = jax.random.normal(key, (inputs, outputs)) * (gain / max(inputs, 1) ** 0.5)
        self.bias = jnp.zeros(outputs)

    def __call__(self, x: Float[Array, "*row input"]) -> Float[Array, "*row output"]:
        """Map one example, or many along leading axes."""
        return x @ self.weight + self.bias


@final
class MLP(eqx.Module):
    """Layers of an affine map and an activation; the last layer has none, unless ``final`` is true.

    Parameters
    ----------
    inputs, outputs : int
    sizes : sequence of int
        Widths of the hidden layers.
    activation : {"relu", "tanh"}
    final : bool
        Whether the outputs go through the activation too (for features).
    key : jax.random key

    Examples
    --------
    >>> net = MLP(3, (8, 8), 2, key=jax.random.key(0))
    >>> net(jnp.zeros(3)).shape, net(jnp.zeros((5, 3))).shape
    ((2,), (5, 2))
    """

    layers: tuple[Linear, ...]
    activation: Activation = eqx.field(static=True)
    final: bool = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        sizes: Sequence[int],
        outputs: int,
        *,
        key: PRNGKeyArray,
        activation: Activation = "relu",
        final: bool = False,
    ) -> None:
        widths = (inputs, *sizes, outputs)
        keys = jax.random.split(key, len(widths) - 1)
        gains = [_GAIN[activation]] * len(sizes) + [_GAIN[activation] if final else 1.0]
        self.layers = tuple(
            Linear(n_in, n_out, key=one, gain=gain)
            for n_in, n_out, one, gain in zip(widths[:-1], widths[1:], keys, gains, strict=True)
        )
        self.activation = activation
        self.final = final

    def __call__(self, x: Float[Array, "*row input"]) -> Float[Array, "*row output"]:
        """Map one example, or many along leading axes."""
        bend = activation(self.activation)
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if self.final or number + 1 < len(self.layers):
                x = bend(x)
        return x
