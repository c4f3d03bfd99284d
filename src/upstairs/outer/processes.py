"""Several processes that train one prior together, as `jax.distributed` has joined them; without it there is one.

All of them run the same program on the same tasks. What depends on a clock, or on the memory that is free, one process says for all:
they would else make different numbers of steps, and wait for each other for ever.
"""

from __future__ import annotations

import sys

import numpy as np

__all__ = ["agreed", "count", "is_first"]


def count() -> int:
    """How many processes there are.

    Examples
    --------
    >>> count(), is_first(), agreed(0.5)
    (1, True, 0.5)
    """
    jax = sys.modules.get("jax")
    return jax.process_count() if jax is not None and jax.distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this process says what all do, and writes what is written."""
    return count() == 1 or sys.modules["jax"].process_index() == 0


def agreed(number: float) -> float:
    """Return the number that the first process gave; all have to ask."""
    if count() == 1:
        return number
    from jax.experimental.multihost_utils import broadcast_one_to_all

    return float(broadcast_one_to_all(np.float32(number)))
