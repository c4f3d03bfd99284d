"""From what pairs of classes say to probabilities of classes.

References
----------
.. [1] Wu, T.-F., Lin, C.-J. and Weng, R. C. (2004). Probability estimates for multi-class classification by pairwise
   coupling. JMLR 5, section 4.2 (second approach).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

__all__ = ["coupled", "pairs_of"]

_BLOCK = 4_000_000


def pairs_of(ways: int) -> Int[np.ndarray, "pair 2"]:
    """Every pair of classes, in the order of scikit-learn's one-vs-one machines.

    Examples
    --------
    >>> pairs_of(3).tolist()
    [[0, 1], [0, 2], [1, 2]]
    """
    return np.stack(np.triu_indices(ways, 1), axis=1)


def coupled(first: Float[np.ndarray, "row pair"], ways: int) -> Float[np.ndarray, "row way"]:
    """Class probabilities that agree best with those inside pairs.

    They minimise ``sum_ij (r_ji p_i - r_ij p_j)^2`` subject to ``sum p = 1``, equation 21 of [1]_.

    Parameters
    ----------
    first : array of shape (row, pair)
        Probability of the first class of every pair, given that it is one of the two.
    ways : int

    Examples
    --------
    >>> p = np.array([0.5, 0.3, 0.2])
    >>> i, j = pairs_of(3).T
    >>> coupled((p[i] / (p[i] + p[j]))[None], 3).round(6)
    array([[0.5, 0.3, 0.2]])
    """
    if ways == 2:
        return np.concatenate([first, 1.0 - first], axis=1)
    i, j = pairs_of(ways).T
    out = np.empty((len(first), ways))
    step = max(1, _BLOCK // (ways * ways))
    for start in range(0, len(first), step):
        part = np.clip(first[start : start + step], 1e-7, 1.0 - 1e-7)
        r = np.zeros((len(part), ways, ways))
        r[:, i, j], r[:, j, i] = part, 1.0 - part
        matrix = -r * r.swapaxes(1, 2)
        matrix[:, np.arange(ways), np.arange(ways)] = (r * r).sum(axis=1)
        bordered = np.ones((len(part), ways + 1, ways + 1))
        bordered[:, :ways, :ways] = matrix
        bordered[:, -1, -1] = 0.0
        right = np.zeros((len(part), ways + 1, 1))
        right[:, -1] = 1.0
        found = np.maximum(np.linalg.solve(bordered, right)[:, :ways, 0], 1e-12)
        out[start : start + step] = found / found.sum(axis=1, keepdims=True)
    return out
