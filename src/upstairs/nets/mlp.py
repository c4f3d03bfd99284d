"""A multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

__all__ = ["MLP", "Activation", "Linear", "RowNorm", "activation"]

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
class RowNorm(eqx.Module):
    """Layer normalisation of the last axis, with a learned gain and shift: each row by its own mean and variance."""

    gain: Float[Array, " width"]
    shift: Float[Array, " width"]

    def __init__(self, width: int) -> None:
        self.gain, self.shift = jnp.ones(width), jnp.zeros(width)

    def __call__(self, x: Float[Array, "*row width"]) -> Float[Array, "*row width"]:
        """Give every row mean zero and variance one, then gain and shift."""
        x = x - x.mean(axis=-1, keepdims=True)
        scale = jax.lax.rsqrt(jnp.square(x).mean(axis=-1, keepdims=True) + 1e-5)
        return x * scale * self.gain + self.shift


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
    normalised : bool
        Whether what goes through the activation is normalised first, each row by its own mean and variance [1]_.
    key : jax.random key

    References
    ----------
    .. [1] Ba, J. L., Kiros, J. R. and Hinton, G. E. (2016). Layer normalization. arXiv 1607.06450, equation 4.

    Examples
    --------
    >>> net = MLP(3, (8, 8), 2, key=jax.random.key(0))
    >>> net(jnp.zeros(3)).shape, net(jnp.zeros((5, 3))).shape
    ((2,), (5, 2))
    """

    layers: tuple[Linear, ...]
    norms: tuple[RowNorm, ...]
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
        normalised: bool = False,
    ) -> None:
        widths = (inputs, *sizes, outputs)
        keys = jax.random.split(key, len(widths) - 1)
        gains = [_GAIN[activation]] * len(sizes) + [_GAIN[activation] if final else 1.0]
        self.layers = tuple(
            Linear(n_in, n_out, key=one, gain=gain)
            for n_in, n_out, one, gain in zip(widths[:-1], widths[1:], keys, gains, strict=True)
        )
        self.norms = tuple(RowNorm(width) for width in (*sizes, *[outputs] * final)) if normalised else ()
        self.activation = activation
        self.final = final

    def __call__(self, x: Float[Array, "*row input"]) -> Float[Array, "*row output"]:
        """Map one example, or many along leading axes."""
        bend = activation(self.activation)
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if self.final or number + 1 < len(self.layers):
                x = bend(self.norms[number](x) if self.norms else x)
        return x
