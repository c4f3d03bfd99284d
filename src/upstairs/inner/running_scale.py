"""Running means and spreads of the columns of a stream, old rows fading, missing cells left out.

References
----------
.. [1] Chan, T. F., Golub, G. H. and LeVeque, R. J. (1983). Algorithms for computing the sample variance. The American
   Statistician 37; equation 1.5 (two sets of rows are merged), with weights.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from upstairs.inner.rule import State

__all__ = ["scale_learn", "scale_of", "scale_start", "standardised"]


def scale_start(columns: int) -> State:
    """Sums of no rows: ``rows``, ``mean`` and ``square`` (squared distance to the mean), each ``(column)``."""
    return {"rows": np.zeros(columns), "mean": np.zeros(columns), "square": np.zeros(columns)}


def scale_learn(state: State, x: Float[np.ndarray, "row column"], forgetting: float) -> State:
    """Add rows in their order; the same for a chunk and for its rows one after another.

    Examples
    --------
    >>> state = scale_learn(scale_start(1), np.array([[1.0], [np.nan], [3.0]]), 1.0)
    >>> float(state["rows"][0]), float(state["mean"][0]), float(state["square"][0])
    (2.0, 2.0, 2.0)
    """
    present = ~np.isnan(x)
    weight = present * forgetting ** np.arange(len(x) - 1, -1, -1.0)[:, None]
    filled = np.where(present, x, 0.0)
    new = weight.sum(axis=0)
    centre = (weight * filled).sum(axis=0) / np.maximum(new, 1e-300)
    kept = forgetting ** len(x) * state["rows"]
    total = kept + new
    share = new / np.maximum(total, 1e-300)
    apart = np.where(new > 0, centre - state["mean"], 0.0)
    around = (weight * np.square(filled - centre)).sum(axis=0)
    square = forgetting ** len(x) * state["square"] + around + np.square(apart) * kept * share
    return {"rows": total, "mean": state["mean"] + apart * share, "square": square}


def scale_of(state: State) -> Float[np.ndarray, " column"]:
    """Standard deviation of every column; zero for one that has shown no spread beyond rounding."""
    spread = np.sqrt(state["square"] / np.maximum(state["rows"], 1e-300))
    return np.where(spread > 1e-9 * np.abs(state["mean"]), spread, 0.0)


def standardised(
    state: State, x: Float[np.ndarray, "row column"], bound: float = np.inf
) -> Float[np.ndarray, "row column"]:
    """Columns with mean 0 and spread 1, cut at ``bound``; 0 for a missing cell and for a column without spread.

    Examples
    --------
    >>> state = scale_learn(scale_start(1), np.array([[1.0], [3.0]]), 1.0)
    >>> standardised(state, np.array([[3.0], [np.nan], [100.0]]), 4.0)[:, 0]
    array([1., 0., 4.])
    """
    spread = scale_of(state)
    slope = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
    z = (x - state["mean"]) * slope
    z[np.isnan(z)] = 0.0
    return np.minimum(np.maximum(z, -bound), bound)
