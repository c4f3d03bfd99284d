"""The small convolutional network of the few-shot literature, fast on a CPU too.

XLA convolves well on a CPU, but its gradient by the window is several times slower than shifted slices side by side
and one matrix product. `convolve` therefore brings its own derivatives there: by the image it is another convolution,
by the window it is that product, a few images at a time so that the slices stay in the cache. Both are linear in each
argument and their derivatives are each other, so any order of derivative is as fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from upstairs.nets.mlp import Linear

__all__ = ["Conv4", "ConvBlock", "convolve", "max_pool", "normalise"]

IMAGES = 5
"""Images whose slices are multiplied at once."""


def convolve(
    x: Float[Array, "*row height width channel"],
    weight: Float[Array, "nine_channels output"],
    *,
    native: bool | None = None,
) -> Float[Array, "*row height width output"]:
    """Convolve with a 3 x 3 window, stride 1, zero padding of one.

    Parameters
    ----------
    x : array of shape (*row, height, width, channel)
    weight : array of shape (9 * channel, output)
        The window row by row, channels last: ``weight.reshape(3, 3, channel, output)`` in the usual order.
    native : bool, optional
        Whether to leave derivatives to XLA. None: unless on a CPU.

    Examples
    --------
    >>> convolve(jnp.ones((4, 4, 1)), jnp.ones((9, 1)))[..., 0].tolist()[:2]
    [[4.0, 6.0, 6.0, 4.0], [6.0, 9.0, 9.0, 6.0]]
    """
    if native is None:
        native = jax.default_backend() != "cpu"
    flat = x.reshape(-1, *x.shape[-3:])
    mapped = _xla(flat, weight) if native else _convolved(flat, weight)
    return mapped.reshape(*x.shape[:-1], weight.shape[1])


def _xla(x: Array, weight: Array) -> Array:
    window = weight.reshape(3, 3, x.shape[-1], -1)
    return jax.lax.conv_general_dilated(x, window, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@jax.custom_vjp
def _convolved(x: Array, weight: Array) -> Array:
    return _xla(x, weight)


@jax.custom_vjp
def _window_gradient(x: Array, above: Array) -> Array:
    """Sum over images and places of (patch of x)' (row of ``above``): the derivative of a convolution by its window."""
    count, height, width, channels = x.shape
    padded = jnp.pad(x, [(0, -count % IMAGES), (1, 1), (1, 1), (0, 0)])
    above = jnp.pad(above, [(0, -count % IMAGES), (0, 0), (0, 0), (0, 0)])

    def some(total: Array, images: tuple[Array, Array]) -> tuple[Array, None]:
        slices = [images[0][:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        patches = jnp.concatenate(slices, axis=-1).reshape(-1, 9 * channels)
        return total + patches.T @ images[1].reshape(-1, above.shape[-1]), None

    parts = (padded.reshape(-1, IMAGES, *padded.shape[1:]), above.reshape(-1, IMAGES, *above.shape[1:]))
    return jax.lax.scan(some, jnp.zeros((9 * channels, above.shape[-1]), x.dtype), parts)[0]


def _turned(weight: Array, channels: int) -> Array:
    """Return the window of the convolution that leads back from outputs to inputs."""
    window = weight.reshape(3, 3, channels, -1)[::-1, ::-1]
    return window.swapaxes(2, 3).reshape(-1, channels)


def _forward(function: Callable) -> Callable:
    return lambda one, other: (function(one, other), (one, other))


_convolved.defvjp(
    _forward(_convolved),
    lambda kept, above: (_convolved(above, _turned(kept[1], kept[0].shape[-1])), _window_gradient(kept[0], above)),
)
_window_gradient.defvjp(
    _forward(_window_gradient),
    lambda kept, above: (_convolved(kept[1], _turned(above, kept[0].shape[-1])), _convolved(kept[0], above)),
)


def max_pool(x: Float[Array, "*row height width channel"]) -> Float[Array, "*row half_height half_width channel"]:
    """Take the largest of every 2 x 2 cells; an odd last line is left out.

    Examples
    --------
    >>> max_pool(jnp.arange(12.0).reshape(3, 4, 1)).ravel().tolist()
    [5.0, 7.0]
    """
    height, width = (size // 2 for size in x.shape[-3:-1])
    cells = x[..., : 2 * height, : 2 * width, :].reshape(*x.shape[:-3], height, 2, width, 2, x.shape[-1])
    rows = jnp.maximum(cells[..., 0, :, :, :], cells[..., 1, :, :, :])  # many times faster on a CPU than strided slices
    return jnp.maximum(rows[..., 0, :], rows[..., 1, :])


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
    """A 3 x 3 convolution, 2 x 2 max pooling, normalisation inside the example, and ReLU."""

    weight: Float[Array, "nine_channels output"]
    scale: Float[Array, " output"]
    shift: Float[Array, " output"]

    def __init__(self, channels: int, outputs: int, *, key: PRNGKeyArray) -> None:
        self.weight = jax.random.normal(key, (9 * channels, outputs)) * (2.0 / (9 * channels)) ** 0.5
        self.scale = jnp.ones(outputs)
        self.shift = jnp.zeros(outputs)

    def __call__(self, x: Float[Array, "*row height width channel"]) -> Float[Array, "*row half_h half_w output"]:
        """Map one image, or many along leading axes."""
        return jax.nn.relu(normalise(max_pool(convolve(x, self.weight)), self.scale, self.shift))


@final
class Conv4(eqx.Module):
    """Blocks of convolution, pooling, normalisation and ReLU; features, or with ``outputs`` a linear last layer.

    Departures from the papers: pooling comes before normalisation, which then touches a quarter of the numbers; and
    they normalise by the statistics of the batch, so that query rows see each other
    (transduction) or running averages become state. Here each image is normalised by its own statistics over places
    and channels (layer normalisation): a prediction depends on nothing but the prior, the support and its own row.

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

    def __call__(self, x: Float[Array, "*row height width channel"]) -> Float[Array, "*row output"]:
        """Map one image, or many along leading axes."""
        for block in self.blocks:
            x = block(x)
        x = x.reshape(*x.shape[:-3], -1)
        return x if self.last is None else self.last(x)
