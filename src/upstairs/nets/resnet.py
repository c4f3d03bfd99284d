"""The residual network of the few-shot literature, and statistics of a batch.

References
----------
.. [1] Oreshkin, B. N., Rodriguez, P. and Lacoste, A. (2018). TADAM: task dependent adaptive metric for improved few-shot
   learning. NeurIPS, arXiv 1805.10123; section 4 and the supplement's description of the feature extractor.
.. [2] Lee, K., Maji, S., Ravichandran, A. and Soatto, S. (2019). Meta-learning with differentiable convex optimization.
   CVPR, arXiv 1904.03758; section 4.1.
"""

from __future__ import annotations

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from upstairs.nets.conv import Norm, normalise
from upstairs.nets.convolution import FORM, as_window, by_rows, convolve_rows, max_pool
from upstairs.nets.mlp import Linear

__all__ = ["Convolution", "ResNet", "ResidualBlock", "convolve", "normalise_together"]

SLOPE = 0.1
_AROUND = [(1, 1), (1, 1)]


def normalise_together(
    x: Float[Array, "row height width channel"],
    scale: Float[Array, " channel"],
    shift: Float[Array, " channel"],
    *,
    mask: Bool[Array, " row"],
) -> Float[Array, "row height width channel"]:
    """Give every channel mean 0 and variance 1 over the places of all rows that count, then scale and shift it.

    The statistics are those of these rows, at prediction too: there are no running averages, and the result for a row
    depends on the other rows (transduction).

    Parameters
    ----------
    x : array of shape (row, height, width, channel)
    scale, shift : arrays of shape (channel,)
    mask : array of shape (row,)
        Rows that count; the others (padding) are normalised by the statistics of those.

    References
    ----------
    Ioffe, S. and Szegedy, C. (2015). Batch normalization, algorithm 1.

    Examples
    --------
    >>> x = jnp.array([1.0, 3.0, 50.0]).reshape(3, 1, 1, 1)
    >>> mask = jnp.array([True, True, False])
    >>> normalise_together(x, jnp.ones(1), jnp.zeros(1), mask=mask).ravel().round(2).tolist()
    [-1.0, 1.0, 48.0]
    """
    real = mask[:, None, None, None]
    count = jnp.maximum(mask.sum(), 1) * (x.shape[1] * x.shape[2])
    centred = x - jnp.where(real, x, 0.0).sum(axis=(0, 1, 2)) / count
    spread = jax.lax.rsqrt(jnp.square(jnp.where(real, centred, 0.0)).sum(axis=(0, 1, 2)) / count + 1e-5)
    return centred * (spread * scale) + shift


def convolve(
    x: Float[Array, "*row height width channel"],
    weight: Float[Array, "places_channels output"],
    *,
    native: bool | None = None,
) -> Float[Array, "*row height width output"]:
    """Convolve with a 3 x 3 or 1 x 1 window (stride 1, zeros around the image): the result has the image's size.

    As in `upstairs.nets.convolution` derivatives of any order are, on a CPU, convolutions of the one form that XLA is
    fast in: the gradient by the image is a convolution with the turned window, the one by the window a convolution of
    the image with the gradient from above, and the derivatives of these are again the two.

    Parameters
    ----------
    x : array of shape (*row, height, width, channel)
    weight : array of shape (9 * channel, output) or (channel, output)
        The window row by row, channels last.
    native : bool, optional
        Whether to leave derivatives to XLA. None: unless on a CPU.

    Examples
    --------
    >>> convolve(jnp.ones((3, 3, 1)), jnp.ones((9, 1)))[..., 0].tolist()
    [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    if weight.shape[0] == x.shape[-1]:
        return x @ weight
    if native is None:
        native = jax.default_backend() != "cpu"
    out = (_native if native else _convolved)(x.reshape(-1, *x.shape[-3:]), weight)
    return out.reshape(*x.shape[:-1], weight.shape[1])


@final
class Convolution(eqx.Module):
    """A convolution and a normalisation.

    Parameters
    ----------
    channels, outputs : int
    side : {1, 3}
        Of the window.
    key : jax.random key
    """

    weight: Float[Array, "places_channels output"]
    scale: Float[Array, " output"]
    shift: Float[Array, " output"]

    def __init__(self, channels: int, outputs: int, side: int, *, key: PRNGKeyArray) -> None:
        fan = side * side * channels
        self.weight = jax.random.normal(key, (fan, outputs)) * (2.0 / fan) ** 0.5
        self.scale = jnp.ones(outputs)
        self.shift = jnp.zeros(outputs)

    def __call__(
        self, x: Float[Array, "*row height width channel"], norm: Norm
    ) -> Float[Array, "*row height width output"]:
        """Map one image, or many along leading axes."""
        return norm(convolve(x, self.weight), self.scale, self.shift)


@final
class ResidualBlock(eqx.Module):
    """Three 3 x 3 convolutions beside a 1 x 1 shortcut, their sum, and 2 x 2 max pooling.

    Parameters
    ----------
    channels, outputs : int
    key : jax.random key
    """

    first: Convolution
    second: Convolution
    third: Convolution
    shortcut: Convolution

    def __init__(self, channels: int, outputs: int, *, key: PRNGKeyArray) -> None:
        keys = jax.random.split(key, 4)
        self.first = Convolution(channels, outputs, 3, key=keys[0])
        self.second = Convolution(outputs, outputs, 3, key=keys[1])
        self.third = Convolution(outputs, outputs, 3, key=keys[2])
        self.shortcut = Convolution(channels, outputs, 1, key=keys[3])

    def __call__(
        self, x: Float[Array, "*row height width channel"], norm: Norm
    ) -> Float[Array, "*row half_height half_width output"]:
        """Map one image, or many along leading axes."""
        inside = _bend(self.second(_bend(self.first(x, norm)), norm))
        return _bend(max_pool(self.third(inside, norm) + self.shortcut(x, norm)))  # pooling first: the same, and less


@final
class ResNet(eqx.Module):
    """Residual blocks and the mean over places; features, or with ``outputs`` a linear last layer [1]_ [2]_.

    Four blocks are ResNet-12. Departures from the papers: no DropBlock (a network here draws no random numbers), and
    unless the call says otherwise each image is normalised by its own statistics over places and channels, as in
    `upstairs.nets.conv.Conv4`, not by those of the batch. Features are the mean over places, as in [1]_; [2]_ takes the
    whole last map.

    Parameters
    ----------
    channels : int
        Of the images.
    sizes : tuple of int
        Channels of the blocks: ``(64, 160, 320, 640)`` in [2]_, ``(64, 128, 256, 512)`` in [1]_.
    outputs : int
        Width of the linear last layer; 0: the mean over places of the last block's map is the result.
    key : jax.random key

    Examples
    --------
    >>> net = jax.eval_shape(lambda key: ResNet(3, (64, 160, 320, 640), 0, key=key), jax.random.key(0))
    >>> sum(leaf.size for leaf in jax.tree.leaves(net))
    12424320
    >>> net.blocks[1].first.weight.shape, net.blocks[1].shortcut.weight.shape
    ((576, 160), (64, 160))
    """

    blocks: tuple[ResidualBlock, ...]
    last: Linear | None

    def __init__(self, channels: int, sizes: tuple[int, ...], outputs: int, *, key: PRNGKeyArray) -> None:
        keys = jax.random.split(key, len(sizes) + 1)
        widths = (channels, *sizes)
        pairs = zip(widths[:-1], widths[1:], keys[:-1], strict=True)
        self.blocks = tuple(ResidualBlock(n_in, n_out, key=one) for n_in, n_out, one in pairs)
        self.last = Linear(widths[-1], outputs, key=keys[-1]) if outputs else None

    def __call__(
        self, x: Float[Array, "*row height width channel"], norm: Norm = normalise
    ) -> Float[Array, "*row output"]:
        """Map one image, or many along leading axes; ``norm`` says how they are normalised."""
        for block in self.blocks:
            x = block(x, norm)
        x = x.mean(axis=(-3, -2))
        return x if self.last is None else self.last(x)


def _native(x: Array, weight: Array) -> Array:
    return jax.lax.conv_general_dilated(x, as_window(weight), (1, 1), "SAME", dimension_numbers=FORM)


def _bend(x: Array) -> Array:
    return x * jnp.where(x > 0, 1.0, SLOPE).astype(x.dtype)  # the leaky ReLU, cheap in a gradient of a gradient


# The two forms ----------------------------------------------------------------------------------------------------


@jax.custom_vjp
def _convolved(x: Array, weight: Array) -> Array:
    """Convolve, a few rows at a time."""
    return by_rows(lambda x, weight: convolve_rows(x, as_window(weight), _AROUND), (x,), (weight,))


@jax.custom_vjp
def _to_window(x: Array, above: Array) -> Array:
    """Sum over images and places of (patch of x)' (row of ``above``)."""

    def some(x: Array, above: Array) -> Array:
        return convolve_rows(x.transpose(3, 1, 2, 0), above.transpose(1, 2, 0, 3), _AROUND)

    total = by_rows(some, (x, above), (), total=(x.shape[-1], 3, 3, above.shape[-1]))
    return total.transpose(1, 2, 0, 3).reshape(-1, above.shape[-1])


def _turned(weight: Array) -> Array:
    """Return the window that leads back: turned by half, inputs and outputs in each other's place."""
    window = as_window(weight)
    return window[::-1, ::-1].swapaxes(2, 3).reshape(-1, window.shape[2])


_convolved.defvjp(
    lambda *inputs: (_convolved(*inputs), inputs),
    lambda kept, above: (_convolved(above, _turned(kept[1])), _to_window(kept[0], above)),
)
_to_window.defvjp(
    lambda *inputs: (_to_window(*inputs), inputs),
    lambda kept, up: (_convolved(kept[1], _turned(up)), _convolved(kept[0], up)),
)
