"""Grow a learned tree further on the rows of one task: a split is made where the evidence for it outweighs its prior.

A split of a leaf adds a column ``c``, -1 on its left side and 1 on its right (0 elsewhere), whose weight has the prior
``N(0, effect)``. With ``q`` the slope of the log posterior along ``c`` and ``h`` its curvature, everything else integrated out,
the log evidence gains ``(q^2 effect / (1 + effect h) - log(1 + effect h)) / 2``: exactly for a regression, by Laplace's
approximation for classes. A split must gain more than its prior costs: the log probability that a leaf is split at all,
that it is split on this feature (both learned over tasks), and at this of all possible places [1]_.

References
----------
.. [1] Chipman, H. A., George, E. I. and McCulloch, R. E. (1998). Bayesian CART model search. Journal of the American
   Statistical Association 93; section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

__all__ = ["Habits", "Rest", "Split", "best_split"]


@dataclass(frozen=True, slots=True)
class Habits:
    """How trees grow on a task, learned over tasks.

    ``effect`` is the variance of what a split does, ``split`` the log odds that a leaf is split, ``feature`` the log
    probability of every feature; a side of a split has at least ``least`` rows, a task at most ``most`` splits of its
    own, and no leaf lies deeper than ``depth``.
    """

    effect: float
    split: float
    feature: Float[np.ndarray, " feature"]
    least: int
    most: int
    depth: float = np.inf


@dataclass(frozen=True, slots=True)
class Rest:
    """What is left to explain: for a column ``c``, ``q = c'slope`` and ``h = c'(weight c) - |seen' c|^2`` for every latent."""

    slope: Float[np.ndarray, "latent row"]
    weight: Float[np.ndarray, "latent row"]
    seen: Float[np.ndarray, "latent row rank"]


@dataclass(frozen=True, slots=True)
class Split:
    """A split of a leaf, and the log evidence that it gains beyond its ``cost``, minus the log of its prior."""

    gain: float
    cost: float
    feature: int
    threshold: float


def best_split(
    x: Float[np.ndarray, "row feature"], rest: Rest, rows: Int[np.ndarray, " inside"], habits: Habits
) -> Split | None:
    """Find the split of a leaf that gains most; None if none gains anything.

    Parameters
    ----------
    x
        Rows of the task.
    rest
        What is left to explain.
    rows
        Numbers of the rows in the leaf.
    habits
        How trees grow.
    """
    count = len(rows)
    if count < 2 * habits.least:
        return None
    inside = x[rows]
    order = np.argsort(inside, axis=0, kind="stable")
    ordered = np.take_along_axis(inside, order, axis=0)
    cuts = (ordered[1:] > ordered[:-1]).sum(axis=0)
    columns = np.flatnonzero(cuts)
    if not len(columns):
        return None
    order, ordered = order[:, columns], ordered[:, columns]
    gain = np.zeros((count - 1, len(columns)))
    for slope, weight, seen in zip(rest.slope, rest.weight, rest.seen, strict=True):
        left = slope[rows][order].cumsum(axis=0)
        q = left[-1] - 2.0 * left[:-1]
        known = seen[rows]
        h = np.full(q.shape, weight[rows].sum())
        for one in known.T:  # a rank at a time: as much memory as the columns take
            total = one[order].cumsum(axis=0)
            h -= np.square(total[-1] - 2.0 * total[:-1])
        scaled = 1.0 + habits.effect * np.maximum(h, 0.0)
        gain += 0.5 * (habits.effect * np.square(q) / scaled - np.log(scaled))
    cost = np.log(cuts[columns]) - habits.feature[columns] - habits.split
    gain -= cost
    place = np.arange(1, count)[:, None]
    fits = (ordered[1:] > ordered[:-1]) & (place >= habits.least) & (place <= count - habits.least)
    gain = np.where(fits, gain, -np.inf)
    best = np.unravel_index(int(np.argmax(gain)), gain.shape)
    if not gain[best] > 0.0:
        return None
    below, above = ordered[best], ordered[best[0] + 1, best[1]]
    middle = 0.5 * (below + above)
    which = int(best[1])
    return Split(
        float(gain[best]), float(cost[which]), int(columns[which]), float(middle if below <= middle < above else below)
    )
