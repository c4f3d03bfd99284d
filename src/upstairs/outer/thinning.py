"""Take at most so many rows of every task."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

__all__ = ["thinned"]


def thinned(
    offsets: Int[np.ndarray, " boundary"], most: int, seed: int
) -> tuple[Int[np.ndarray, " row"], Int[np.ndarray, " boundary"]]:
    """Draw at most ``most`` rows of every task; their numbers in rising order, and where each task starts then.

    Examples
    --------
    >>> rows, offsets = thinned(np.array([0, 2, 7]), 3, 0)
    >>> rows[:2].tolist(), offsets.tolist()
    ([0, 1], [0, 2, 5])
    """
    rng = np.random.default_rng(seed)
    sizes = np.diff(offsets)
    parts = [start + np.sort(rng.permutation(size)[:most]) for start, size in zip(offsets[:-1], sizes, strict=True)]
    return np.concatenate(parts).astype(np.int64), np.concatenate([[0], np.cumsum(np.minimum(sizes, most))])
