"""The small convolutional network of the few-shot literature, fast on a CPU too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from upstairs.nets.convolution import convolve_and_pool
from upstairs.nets.mlp import Linear

__all__ = ["Conv4", "ConvBlock", "Norm", "normalise"]

Norm: TypeAlias = Callable[[Any, Any, Any], Any]
"""How maps of shape (*row, height, width, channel) are normalised, given a scale and a shift for each channel."""


def normalise(
    x: Float[Array, "*row height width channel"], scale: Float[Array, " channel"], shift: Float[Array, " channel"]
) -> Float[Array, "*row height width channel"]:
    """Give every example mean 0 and variance 1 over places and channels, then scale and shift each channel.

    Examples
    --------
    >>> out = normalise(jnp.arange(8.0).reshape(2, 2, 2), jnp.ones(2), jnp.zeros(2))
    >>> bool(abs(out.mean()) < 1e-6), bool(abs(out.var() - 1) < 1e-4)
    (True, True)
    """
    mean = x.mean(axis=(-3, -2, -1), keepdims=True)
    centred = x - mean
    spread = jax.lax.rsqrt(jnp.square(centred).mean(axis=(-3, -2, -1), keepdims=True) + 1e-5)
    return centred * (spread * scale) + shift


@final
class ConvBlock(eqx.Module):
    """A 3 x 3 convolution, 2 x 2 max pooling, normalisation, and ReLU."""

    weight: Float[Array, "nine_channels output"]
    scale: Float[Array, " output"]
    shift: Float[Array, " output"]

    def __init__(self, channels: int, outputs: int, *, key: PRNGKeyArray) -> None:
        self.weight = jax.random.normal(key, (9 * channels, outputs)) * (2.0 / (9 * channels)) ** 0.5
        self.scale = jnp.ones(outputs)
        self.shift = jnp.zeros(outputs)

    def __call__(
        self, x: Float[Array, "*row height width channel"], norm: Norm
    ) -> Float[Array, "*row half_h half_w output"]:
        """Map one image, or many along leading axes."""
        return jax.nn.relu(norm(convolve_and_pool(x, self.weight), self.scale, self.shift))


@final
class Conv4(eqx.Module):
    """Blocks of convolution, pooling, normalisation and ReLU; features, or with ``outputs`` a linear last layer.

    Departures from the papers: pooling comes before normalisation, which then touches a quarter of the numbers; and
    they normalise by the statistics of the batch, so that query rows see each other
    (transduction) or running averages become state. Here, unless the call says otherwise, each image is normalised by
    its own statistics over places and channels (layer normalisation): a prediction depends on nothing but the prior,
    the support and its own row.

    Parameters
    ----------
    inputs : (height, width, channels)
    sizes : tuple of int
        Channels of the blocks; the papers use ``(64, 64, 64, 64)``.
    outputs : int
        Width of the linear last layer; 0: the flattened map of the last block is the result.
    key : jax.random key

    References
    ----------
    Vinyals, O. et al. (2016). Matching networks for one shot learning, section 4.1.

    Examples
    --------
    >>> net = jax.eval_shape(lambda key: Conv4((28, 28, 1), (8, 8, 8, 8), 5, key=key), jax.random.key(0))
    >>> [block.weight.shape for block in net.blocks], net.last.weight.shape
    ([(9, 8), (72, 8), (72, 8), (72, 8)], (8, 5))
    """

    blocks: tuple[ConvBlock, ...]
    last: Linear | None

    def __init__(
        self, inputs: tuple[int, int, int], sizes: tuple[int, ...], outputs: int, *, key: PRNGKeyArray
    ) -> None:
        keys = jax.random.split(key, len(sizes) + 1)
        channels = (inputs[2], *sizes)
        pairs = zip(channels[:-1], channels[1:], keys[:-1], strict=True)
        self.blocks = tuple(ConvBlock(n_in, n_out, key=one) for n_in, n_out, one in pairs)
        height, width = (side >> len(sizes) for side in inputs[:2])
        self.last = Linear(height * width * channels[-1], outputs, key=keys[-1]) if outputs else None

    def __call__(
        self, x: Float[Array, "*row height width channel"], norm: Norm = normalise
    ) -> Float[Array, "*row output"]:
        """Map one image, or many along leading axes; ``norm`` says how they are normalised."""
        for block in self.blocks:
            x = block(x, norm)
        x = x.reshape(*x.shape[:-3], -1)
        return x if self.last is None else self.last(x)
