"""The columns that the weights of a linear last layer belong to: ``phi(x) = [1, x, m(x), h(x)]``.

``m`` is the pooled prediction (`upstairs.inner.pooled`) and ``h`` the features of a network
(`upstairs.inner.hidden`); either may be absent.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from upstairs.inner import hidden, pooled

__all__ = ["features"]


def features(
    params: Mapping[str, np.ndarray],
    x: Float[np.ndarray, "task row feature"],
    mask: Bool[np.ndarray, "task row"] | None = None,
) -> Float[np.ndarray, "task row column"]:
    """The columns of every row; rows outside ``mask`` are zero."""
    tasks, rows, columns = x.shape
    flat = x.reshape(-1, columns)
    parts = [np.ones((tasks * rows, 1)), flat]
    if pooled.width(params):
        parts.append(pooled.pooled_prediction(params, flat))
    if hidden.width(params):
        parts.append(hidden.hidden_features(params, flat))
    phi = np.concatenate(parts, axis=1)
    phi = phi.reshape(tasks, rows, phi.shape[1])
    if mask is not None:
        phi *= mask[..., None]
    return phi
