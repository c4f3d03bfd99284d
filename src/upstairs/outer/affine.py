"""Images moved, turned and stretched a little, each by a map of its own.

References
----------
.. [1] Simard, P. Y., Steinkraus, D. and Platt, J. C. (2003). Best practices for convolutional neural networks applied to visual
   document analysis. ICDAR, section 2 (affine distortions).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, PRNGKeyArray

__all__ = ["distorted"]


def distorted(key: PRNGKeyArray, images: Float[Array, "*row height width channel"], strength: float) -> Array:
    """Look at every image through a random affine map near that which changes nothing [1]_.

    A place is looked up where its distance from the centre, times the identity plus normal numbers of standard deviation
    ``strength``, leads to, moved by normal numbers of half that share of the sides. Between places is interpolated; beyond
    the border the image goes on as its last line.

    Parameters
    ----------
    key : jax.random key
    images : array of shape (*row, height, width, channel)
    strength : float

    Returns
    -------
    images : array of the same shape

    Examples
    --------
    >>> images = jnp.zeros((2, 9, 9, 1)).at[:, 4, 4].set(1.0)
    >>> one, other = distorted(jax.random.key(0), images, 0.2)
    >>> one.shape, bool((one != other).any())
    ((9, 9, 1), True)
    """
    height, width = images.shape[-3:-1]
    flat = images.reshape(-1, *images.shape[-3:])
    by_map, by_move = jax.random.split(key)
    maps = jnp.eye(2) + strength * jax.random.normal(by_map, (len(flat), 2, 2))
    sides = jnp.array([height, width], jnp.float32)
    moves = 0.5 * strength * sides * jax.random.normal(by_move, (len(flat), 2))
    centre = (sides - 1.0) / 2.0
    places = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), axis=-1) - centre

    def one(image: Array, turn: Array, move: Array) -> Array:
        there = places @ turn.T + move + centre
        look = lambda layer: map_coordinates(layer, [there[..., 0], there[..., 1]], order=1, mode="nearest")  # noqa: E731
        return jax.vmap(look, in_axes=-1, out_axes=-1)(image)

    return jax.vmap(one)(flat, maps, moves).reshape(images.shape)
