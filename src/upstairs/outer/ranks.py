"""How well a number orders the rows of two classes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

__all__ = ["area_under_curve"]


def area_under_curve(codes: Int[np.ndarray, " row"], margin: Float[np.ndarray, " row"]) -> float:
    """Share of pairs of one row of each class that are in the right order, ties counting half; NaN for one class.

    Examples
    --------
    >>> area_under_curve(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8]))
    0.875
    """
    positive = codes == 1
    above, below = int(positive.sum()), int((~positive).sum())
    if above == 0 or below == 0:
        return np.nan
    return float((rankdata(margin)[positive].sum() - above * (above + 1) / 2) / (above * below))
