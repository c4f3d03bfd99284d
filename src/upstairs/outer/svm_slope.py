"""How fast log odds grow with the decision of a support vector machine: what is usual, learned over tasks."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import numpy as np
from jaxtyping import Float, Int

from upstairs.inner.coupling import pairs_of
from upstairs.inner.left_out import slope_of
from upstairs.inner.rule import Params
from upstairs.inner.support_vectors import SLOPE, pair_scores, said_of_rows

__all__ = ["Split", "learn_slope"]

Split = tuple[
    Params,
    Float[np.ndarray, "row column"],
    Int[np.ndarray, " row"],
    Float[np.ndarray, "query column"],
    Int[np.ndarray, " query"],
]
"""Params of a machine, rows to fit, and rows to judge by."""
_MEANS = np.linspace(-0.6, 1.4, 11)
_SPREADS = (0.1, 0.2, 0.4, 0.7, 1.2)


def learn_slope(splits: Iterable[Split]) -> tuple[float, float]:
    """Mean and standard deviation of the log slope with which held-out rows are most probable, tasks of equal weight.

    One fit a task; pairs of classes are judged as pairs.
    """
    total = np.zeros((len(_MEANS), len(_SPREADS)))
    for params, x, y, query, target in splits:
        state, pairs = said_of_rows(params, x, y)
        scores = pair_scores(params, state, query)
        lost, rows = np.zeros_like(total), 0
        for number, ((i, j), said) in enumerate(zip(pairs_of(len(params["class_cost"])), pairs, strict=True)):
            inside = (target == i) | (target == j)
            if said is None or not inside.any():
                continue
            sign = np.where(target[inside] == i, 1.0, -1.0)
            margin, shift = scores[inside, number] * sign, sign * state["shift"][number]
            rows += len(sign)
            for (a, mean), (b, spread) in product(enumerate(_MEANS), enumerate(_SPREADS)):
                slope = slope_of(said.margin, said.shift, said.weight, float(mean), spread)
                lost[a, b] += np.logaddexp(0.0, -(slope * margin + shift)).sum()
        if rows:
            total += lost / rows
    if not total.any():
        return SLOPE
    best = np.unravel_index(int(np.argmin(total)), total.shape)
    return float(_MEANS[best[0]]), float(_SPREADS[best[1]])
