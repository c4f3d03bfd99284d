"""A 3 x 3 convolution and 2 x 2 max pooling in one, fast on a CPU in derivatives of any order.

On a CPU, XLA convolves as fast as it multiplies matrices where images come first and channels last, and many times
slower otherwise, as in its own gradient by the window. So all goes through that one form, here also the gradients: the
one by the image is a convolution with the turned window, the one by the window a convolution of the image with the
gradient from above, where images and channels have changed places. Pooling comes at once, a few images at a time, so
that what is larger than its result stays in the cache.

Once it is known which place of each 2 x 2 cell was the largest, everything is one trilinear form: the sum of above x
(chosen places of (x convolved with window)). Its derivatives by above, by x and by the window are the three functions
`_chosen`, `_to_image` and `_to_window`, and the derivatives of these are again the three.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["FORM", "as_window", "by_rows", "convolve_and_pool", "convolve_rows", "max_pool"]

IMAGES = 5
"""Images that go through at once."""
FORM = ("NHWC", "HWIO", "NHWC")

Odd: TypeAlias = tuple[int, int]


def convolve_and_pool(
    x: Float[Array, "*row height width channel"],
    weight: Float[Array, "nine_channels output"],
    *,
    native: bool | None = None,
) -> Float[Array, "*row half_height half_width output"]:
    """Convolve with a 3 x 3 window (stride 1, zero padding of one) and take the largest of every 2 x 2 cells.

    An odd last line is left out of the cells. Where several places of a cell are the largest, the gradient goes to the
    first of them (``native``: to all).

    Parameters
    ----------
    x : array of shape (*row, height, width, channel)
    weight : array of shape (9 * channel, output)
        The window row by row, channels last: ``weight.reshape(3, 3, channel, output)`` in the usual order.
    native : bool, optional
        Whether to leave derivatives to XLA. None: unless on a CPU.

    Examples
    --------
    >>> convolve_and_pool(jnp.ones((4, 5, 1)), jnp.ones((9, 1)))[..., 0].tolist()
    [[9.0, 9.0], [9.0, 9.0]]
    """
    if native is None:
        native = jax.default_backend() != "cpu"
    flat = x.reshape(-1, *x.shape[-3:])
    if native:
        pooled = max_pool(jax.lax.conv_general_dilated(flat, as_window(weight), (1, 1), "SAME", dimension_numbers=FORM))
    else:
        pooled, _ = _largest(flat, weight)
    return pooled.reshape(*x.shape[:-3], *pooled.shape[1:])


def max_pool(x: Float[Array, "*row height width channel"]) -> Float[Array, "*row half_height half_width channel"]:
    """Take the largest of every 2 x 2 cells; an odd last line is left out.

    Examples
    --------
    >>> max_pool(jnp.arange(12.0).reshape(3, 4, 1)).ravel().tolist()
    [5.0, 7.0]
    """
    upper, lower = _lines(x)
    rows = jnp.maximum(upper, lower)
    return jnp.maximum(rows[..., 0, :], rows[..., 1, :])


# The three forms, and the choice of places ------------------------------------------------------------------------


@jax.custom_vjp
def _largest(x: Array, weight: Array) -> tuple[Array, Array]:
    """Return the largest of every cell of the convolution, and which of the four places it is."""

    def some(x: Array, weight: Array) -> tuple[Array, Array]:
        first, second, third, fourth = _places(convolve_rows(x, as_window(weight), _cut(x)))
        upper, lower = jnp.maximum(first, second), jnp.maximum(third, fourth)
        place = jnp.where(lower > upper, jnp.where(fourth > third, 3, 2), jnp.where(second > first, 1, 0))
        return jnp.maximum(upper, lower), place.astype(jnp.uint8)

    return by_rows(some, (x,), (weight,))


@jax.custom_vjp
def _chosen(x: Array, weight: Array, place: Array) -> Array:
    """Return the chosen places of the convolution."""

    def some(x: Array, place: Array, weight: Array) -> Array:
        first, second, third, fourth = _places(convolve_rows(x, as_window(weight), _cut(x)))
        return jnp.where(place < 2, jnp.where(place == 0, first, second), jnp.where(place == 2, third, fourth))

    return by_rows(some, (x, place), (weight,))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _to_image(above: Array, weight: Array, place: Array, odd: Odd) -> Array:
    """Lead back from chosen places to images, which may have an odd last line and column."""

    def some(above: Array, place: Array, weight: Array) -> Array:
        turned = as_window(weight)[::-1, ::-1].swapaxes(2, 3)
        return convolve_rows(_spread(above, place), turned, [(1, 1 + odd[0]), (1, 1 + odd[1])])

    return by_rows(some, (above, place), (weight,))


@jax.custom_vjp
def _to_window(x: Array, above: Array, place: Array) -> Array:
    """Sum over images and chosen places of (patch of x)' (row of ``above``)."""

    def some(x: Array, above: Array, place: Array) -> Array:
        return convolve_rows(x.transpose(3, 1, 2, 0), _spread(above, place).transpose(1, 2, 0, 3), _cut(x))

    total = by_rows(some, (x, above, place), (), total=(x.shape[-1], 3, 3, above.shape[-1]))
    return total.transpose(1, 2, 0, 3).reshape(-1, above.shape[-1])


def _largest_forward(x: Array, weight: Array) -> tuple[Any, Any]:
    pooled, place = _largest(x, weight)
    return (pooled, place), (x, weight, place)


def _chosen_back(kept: Any, above: Array) -> tuple[Array, Array]:
    x, weight, place = kept
    return _to_image(above, weight, place, _odd(x)), _to_window(x, above, place)


def _to_window_back(kept: Any, above: Array) -> tuple[Array, Array, None]:
    x, up, place = kept
    return _to_image(up, above, place, _odd(x)), _chosen(x, above, place), None


_largest.defvjp(_largest_forward, lambda kept, above: _chosen_back(kept, above[0]))
_chosen.defvjp(lambda *inputs: (_chosen(*inputs), inputs), lambda kept, above: (*_chosen_back(kept, above), None))
_to_image.defvjp(
    lambda *inputs: (_to_image(*inputs), inputs[:3]),
    lambda odd, kept, above: (_chosen(above, *kept[1:]), _to_window(above, kept[0], kept[2]), None),
)
_to_window.defvjp(lambda *inputs: (_to_window(*inputs), inputs), _to_window_back)


# Pieces -----------------------------------------------------------------------------------------------------------


def as_window(weight: Array) -> Array:
    """Bring a window that is kept row by row into the shape (3, 3, channel, output)."""
    return weight.reshape(3, 3, weight.shape[0] // 9, -1)


def _odd(x: Array) -> Odd:
    return x.shape[1] % 2, x.shape[2] % 2


def _cut(x: Array) -> list[tuple[int, int]]:
    """Padding that leaves an odd last line and column of the result away, which no cell would use."""
    return [(1, 1 - odd) for odd in _odd(x)]


def convolve_rows(x: Array, window: Array, padding: list[tuple[int, int]]) -> Array:
    """Convolve a few images in the one form that a CPU is fast in."""
    if x.shape[1] * x.shape[2] < window.shape[0] * window.shape[1]:  # else XLA would let the two change places
        x, padding = jnp.pad(x, [(0, 0), *padding, (0, 0)]), [(0, 0), (0, 0)]
    x, window = jax.lax.optimization_barrier((x, window))  # else it would take transposes into the convolution
    return jax.lax.conv_general_dilated(x, window, (1, 1), padding, dimension_numbers=FORM)


def _lines(x: Array) -> tuple[Array, Array]:
    """Return the upper and the lower lines of all cells; many times faster on a CPU than strided slices."""
    height, width = (size // 2 for size in x.shape[-3:-1])
    cells = x[..., : 2 * height, : 2 * width, :].reshape(*x.shape[:-3], height, 2, width, 2, x.shape[-1])
    return cells[..., 0, :, :, :], cells[..., 1, :, :, :]


def _places(x: Array) -> tuple[Array, Array, Array, Array]:
    """Return the four places of every cell."""
    upper, lower = _lines(x)
    return upper[..., 0, :], upper[..., 1, :], lower[..., 0, :], lower[..., 1, :]


def _spread(above: Array, place: Array) -> Array:
    """Put every number at its place of the cell, and zeros elsewhere."""
    count, height, width, channels = above.shape
    four = jnp.arange(4, dtype=place.dtype).reshape(2, 1, 2, 1)
    cells = jnp.where(place[:, :, None, :, None] == four, above[:, :, None, :, None], 0)
    return cells.reshape(count, 2 * height, 2 * width, channels)


def by_rows(
    function: Callable, rows: Sequence[Array], shared: Sequence[Array], total: tuple[int, ...] | None = None
) -> Any:
    """Give a function a few rows at a time, and join the results or add them up.

    Under ``vmap``, tasks that share the weight are only more rows. Tasks of their own weights, or with sums of their
    own, go one after another: XLA has no fast convolution for many windows at once.
    """

    @jax.custom_batching.custom_vmap
    def call(*arrays: Array) -> Any:
        return _grouped(function, arrays[: len(rows)], arrays[len(rows) :], total)

    @call.def_vmap
    def _(size: int, mapped: list[bool], *arrays: Array) -> tuple[Any, Any]:
        if total is not None or any(mapped[len(rows) :]):

            def one(own: list[Array]) -> Any:
                left = iter(own)
                return call(*(next(left) if each else array for array, each in zip(arrays, mapped, strict=True)))

            out = jax.lax.map(one, [array for array, each in zip(arrays, mapped, strict=True) if each])
        else:
            full = [
                (array if each else jnp.broadcast_to(array, (size, *array.shape))).reshape(-1, *array.shape[-3:])
                for array, each in zip(arrays[: len(rows)], mapped, strict=False)
            ]
            out = jax.tree.map(lambda part: part.reshape(size, -1, *part.shape[1:]), call(*full, *arrays[len(rows) :]))
        return out, jax.tree.map(lambda _: True, out)

    return call(*rows, *shared)


def _grouped(function: Callable, rows: Sequence[Array], shared: Sequence[Array], total: tuple[int, ...] | None) -> Any:
    count = rows[0].shape[0]
    groups = max(1, -(-count // IMAGES))
    size = -(-count // groups)

    def grouped(array: Array) -> Array:
        padded = jnp.pad(array, [(0, groups * size - count), *[(0, 0)] * (array.ndim - 1)])
        return padded.reshape(groups, size, *array.shape[1:])

    parts = tuple(map(grouped, rows))
    if total is not None:
        start = jnp.zeros(total, rows[0].dtype)
        return jax.lax.scan(lambda sum_, some: (sum_ + function(*some, *shared), None), start, parts)[0]
    out = jax.lax.scan(lambda _, some: (None, function(*some, *shared)), None, parts)[1]
    return jax.tree.map(lambda part: part.reshape(groups * size, *part.shape[2:])[:count], out)
